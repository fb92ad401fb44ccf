"""Independent jobs on this machine's cores, or on a Ray cluster; progress bars of all appear together in one place.

``Pool`` keeps its processes and stops at the first failure. ``apart`` and ``on_ray`` give each job a process of its
own, so that its memory returns and its failure, be it a killed process, is its own.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.managers import SyncManager
from multiprocessing.process import BaseProcess
from queue import Queue
from typing import Any

from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.progress import TaskID
from threadpoolctl import threadpool_limits

from salmubench.errors import RunError, UserError, explain
from salmubench.progress import Advance, Progress, console_bars

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
_share: int | None = None


def _fresh_processes() -> Any:
    """How processes are made: forked, where it is safe, from one that has imported what jobs need and nothing else.

    Most of a short job's time would else be Python's imports. A fork of this process would inherit locked thread pools.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "salmubench.unlearning.run", "salmubench.evaluation.protocol"])
    return context


def _begin(environment: dict[str, str], threads: int) -> None:
    """In a new process: gives it the environment that its maker has now, and its share of the cores."""
    global _share
    _share = threads
    end_with_parent()
    os.environ.clear()
    os.environ.update(environment, OMP_NUM_THREADS=str(threads))  # for libraries that are loaded later
    threadpool_limits(threads)  # for those that are loaded


def _start_worker(messages: Queue[Message], environment: dict[str, str], threads: int) -> None:
    global _messages
    _messages = messages
    _begin(environment, threads)


def end_with_parent() -> None:
    """Ends this worker when its parent is gone, however it went: nobody would take its result, and it would go on."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run(job: Job) -> Any:
    assert _messages is not None
    return job.function(**job.arguments, progress=_forwarded(job, _messages.put))


def _forwarded(job: Job, send: Callable[[Message], None]) -> Progress:
    """Bars that are shown where their messages arrive."""

    @contextmanager
    def forwarded(description: str, total: int) -> Iterator[Advance]:
        bar = f"{job.label}: {description}" if job.label else description
        send(("open", bar, total))
        try:
            yield lambda count: send(("move", bar, count))
        finally:
            send(("close", bar, 0))

    return forwarded


def cores() -> int:
    """CPU cores that this process may use: a job its share, in a container fewer than the machine has."""
    if _share is not None:
        return _share
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """Two or more worker processes, each with its share of the cores.

    Args:
        workers: how many jobs run at once; by default two, or one where there is one core.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or min(2, cores())
        self.threads = max(1, cores() // self.workers)
        context = _fresh_processes()
        self._manager = SyncManager(ctx=context)
        self._manager.start(end_with_parent)
        self._messages: Queue[Message] = self._manager.Queue()
        arguments = (self._messages, dict(os.environ), self.threads)
        self._pool = ProcessPoolExecutor(self.workers, context, _start_worker, arguments)

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
        while (message := self._messages.get())[0] != "stop":
            _show(bars, tasks, message)


def _show(bars: RichProgress, tasks: dict[str, TaskID], message: Message) -> None:
    event, bar, number = message
    if event == "open":
        tasks[bar] = bars.add_task(bar, total=number)
    elif event == "move":
        bars.advance(tasks[bar], number)
    else:
        bars.remove_task(tasks.pop(bar))


@dataclass(frozen=True)
class Failed:
    """A job that failed.

    Attributes:
        words: why, in one sentence.
        lost: whether its process was lost, so that it may well succeed when tried again.
    """

    words: str
    lost: bool = False


Outcomes = Iterator[tuple[int, Any]]
"""(place of the job, its value or a ``Failed``), as jobs end."""
KILLED = "its process was killed, by hand or for want of memory"


def _attempt(job: Job, progress: Progress) -> Any:
    try:
        return job.function(**job.arguments, progress=progress)
    except Exception as error:
        words, _ = explain(error)
        return Failed(words)


def _in_child(pipe: Connection, environment: dict[str, str], threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches the parent too, which ends this process
    _begin(environment, threads)
    job = pipe.recv()
    pipe.send(("value", _attempt(job, _forwarded(job, lambda message: pipe.send(("bar", message))))))


def _in_own_process(
    job: Job, threads: int, begun: Callable[[BaseProcess], object], show: Callable[[Message], object]
) -> Any:
    """The job's value, or a ``Failed``; ``begun`` gets its process, ``show`` what its bars say."""
    context = _fresh_processes()
    here, there = context.Pipe()
    process = context.Process(target=_in_child, args=(there, dict(os.environ), threads), daemon=True)
    process.start()
    begun(process)
    there.close()  # so that the end of the process is the end of the pipe
    try:
        here.send(job)
        while (message := here.recv())[0] == "bar":
            show(message[1])
        return message[1]
    except (EOFError, OSError):
        return Failed(KILLED, lost=True)
    finally:
        process.join()


def apart(title: str, jobs: Sequence[Job], *, workers: int, threads: int) -> Outcomes:
    """Runs each job in a new process; ``workers`` of them at once.

    Closing the iterator, as a Ctrl-C does, ends the processes.

    Args:
        title: of the bar that counts the jobs.
        jobs: what to run.
        workers: processes at once.
        threads: CPU threads of each.
    """
    running, stopped = set[BaseProcess](), threading.Event()

    def run(job: Job) -> Any:
        tasks, mine = dict[str, TaskID](), set[BaseProcess]()

        def begun(process: BaseProcess) -> None:
            mine.add(process)
            running.add(process)
            if stopped.is_set():
                process.terminate()

        try:
            return _in_own_process(job, threads, begun, lambda message: _show(bars, tasks, message))
        finally:
            running.difference_update(mine)
            for task in tasks.values():
                bars.remove_task(task)

    with console_bars(Console(file=sys.stderr)) as bars, ThreadPoolExecutor(workers) as pool:
        whole = bars.add_task(title, total=len(jobs))
        places = {pool.submit(run, job): place for place, job in enumerate(jobs)}
        try:
            for future in as_completed(places):
                bars.advance(whole)
                yield places[future], future.result()
        finally:
            stopped.set()
            for future in places:
                future.cancel()
            for process in list(running):
                process.terminate()


@contextmanager
def ray_cluster(address: str) -> Iterator[Any]:
    """The module ``ray``, connected. A connection that this call made, and a cluster that it started, ends with it.

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
    connected = ray.is_initialized()
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
        raise RunError(f"--ray {address}: the cluster failed ({_last_line(error)}); run the same command again") from (
            error
        )
    finally:
        if not connected:
            ray.shutdown()


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _on_worker(job: Job, threads: int) -> Any:
    return _in_own_process(job, threads, lambda process: None, lambda message: None)


def on_ray(title: str, jobs: Sequence[Job], *, address: str, threads: int, gpus: float) -> Outcomes:
    """Runs each job in a new process of a Ray cluster; a lost worker costs the job that it had.

    Every machine needs this package and sees the paths that the jobs name.

    Args:
        title: of the bar that counts the jobs.
        jobs: what to run.
        address: as for ``ray_cluster``.
        threads: CPUs that each job asks for.
        gpus: GPUs that each asks for; a fraction shares one.

    Raises:
        UserError: no cluster, or none that could ever run a job of this size.
        RunError: the cluster failed.
    """
    with ray_cluster(address) as ray, console_bars(Console(file=sys.stderr)) as bars:
        there = ray.cluster_resources()
        for kind, wanted, flag in (("CPU", threads, "--threads"), ("GPU", gpus, "--gpus")):
            if wanted > there.get(kind, 0):
                raise UserError(f"{flag} {wanted:g}: the Ray cluster has {there.get(kind, 0):g} {kind}s; ask for fewer")
        at_once = int(min(there["CPU"] / threads, there["GPU"] / gpus if gpus else len(jobs) + 1))
        # A worker stays, and with it the process from which those of its jobs are forked.
        work = ray.remote(max_retries=0, max_calls=0, num_cpus=threads, num_gpus=gpus)(_on_worker)
        whole = bars.add_task(title, total=len(jobs))
        waiting, flying = list(enumerate(jobs))[::-1], dict[Any, int]()
        while waiting or flying:
            while waiting and len(flying) < 2 * at_once:  # some in line, so that no worker idles; never all
                place, job = waiting.pop()
                flying[work.remote(job, threads)] = place
            for reference in ray.wait(list(flying))[0]:
                place = flying.pop(reference)
                bars.advance(whole)
                try:
                    yield place, ray.get(reference)
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError):
                    yield place, Failed(KILLED, lost=True)
                except ray.exceptions.RayError as error:
                    yield place, Failed(_last_line(error))
