"""Independent jobs on this machine's cores: a pool of processes whose progress bars appear together; a Ray cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.managers import SyncManager
from queue import Queue
from typing import Any

from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.progress import TaskID

from salmubench.errors import RunError, UserError
from salmubench.progress import Advance, console_bars

Message = tuple[str, str, int]
"""(event, bar, number): ("open", description, total), ("move", description, count) or ("close", description, 0)."""


@dataclass(frozen=True)
class Job:
    """A call of a module-level function that takes ``progress``; all of it must be picklable.

    ``label`` stands before the description of each of its bars.
    """

    label: str
    function: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)


_messages: Queue[Message] | None = None


def _start_worker(messages: Queue[Message], threads: int) -> None:
    global _messages
    _messages = messages
    end_with_parent()
    # Before torch is imported: the pools of OpenMP and MKL are sized when they are first used.
    os.environ["OMP_NUM_THREADS"] = str(threads)


def end_with_parent() -> None:
    """Ends this worker when its parent is gone, however it went: nobody would take its result, and it would go on."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run(job: Job) -> Any:
    messages = _messages
    assert messages is not None

    @contextmanager
    def forwarded(description: str, total: int) -> Iterator[Advance]:
        bar = f"{job.label}: {description}" if job.label else description
        messages.put(("open", bar, total))
        try:
            yield lambda count: messages.put(("move", bar, count))
        finally:
            messages.put(("close", bar, 0))

    return job.function(**job.arguments, progress=forwarded)


def cores() -> int:
    """CPU cores that this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """Two or more worker processes, each with its share of the cores.

    Args:
        workers: how many jobs run at once; by default two, or one where there is one core.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or min(2, cores())
        self.threads = max(1, cores() // self.workers)
        context = multiprocessing.get_context("spawn")  # a forked process would inherit torch's locked thread pools
        self._manager = SyncManager(ctx=context)
        self._manager.start(end_with_parent)
        self._messages: Queue[Message] = self._manager.Queue()
        self._pool = ProcessPoolExecutor(self.workers, context, _start_worker, (self._messages, self.threads))

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._manager.shutdown()

    def run(self, title: str, jobs: Sequence[Job]) -> list[Any]:
        """Runs the jobs and returns their values in the order given; the first failure is raised when it happens.

        One bar called ``title`` counts the jobs; those of the jobs at work stand below it while they last.

        Raises:
            RunError: a worker was killed from outside, mostly for want of memory.
        """
        with console_bars(Console(file=sys.stderr)) as bars:
            whole = bars.add_task(title, total=len(jobs))
            reader = threading.Thread(target=self._show, args=(bars,), daemon=True)
            reader.start()
            futures = [self._pool.submit(_run, job) for job in jobs]
            try:
                for future in as_completed(futures):
                    future.result()
                    bars.advance(whole)
                return [future.result() for future in futures]
            except BrokenProcessPool as error:
                raise RunError(
                    f"{title}: a worker process was killed, by hand or for want of memory; run the same command again "
                    "and it goes on where it was"
                ) from error
            finally:
                for future in futures:
                    future.cancel()
                self._messages.put(("stop", "", 0))
                reader.join()

    def _show(self, bars: RichProgress) -> None:
        tasks: dict[str, TaskID] = {}
        while True:
            event, bar, number = self._messages.get()
            if event == "stop":
                return
            if event == "open":
                tasks[bar] = bars.add_task(bar, total=number)
            elif event == "move":
                bars.advance(tasks[bar], number)
            else:
                bars.remove_task(tasks.pop(bar))


@contextmanager
def ray_cluster(address: str) -> Iterator[Any]:
    """The module ``ray``, connected. Where this call starts a cluster, it ends it too.

    Args:
        address: the cluster's; ``auto`` takes the running one or else starts one of this machine's cores.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
        RunError: the cluster failed.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--ray: Ray is not installed; pip install 'salmubench[scale]'") from None
    try:
        ray.init(
            address=None if address == "auto" else address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            ignore_reinit_error=True,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"--ray {address}: no Ray cluster answers there; start it with `ray start`") from error
    try:
        yield ray
    except ray.exceptions.RayError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise RunError(f"--ray {address}: the cluster failed ({reason}); run the same command again") from error
    finally:
        ray.shutdown()
