"""Draws pictures on many processes or machines, in order, and never more than a bounded number ahead."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any

from salmubench.errors import RunError
from salmubench.jobs import end_with_parent, ray_cluster

Task = Callable[[], bytes]
"""Draws one picture; it must pickle, so it is a ``functools.partial`` over a function of a module."""
Render = Callable[[Iterable[Task]], Iterator[bytes]]

_CHUNK = 16


def _draw(tasks: Sequence[Task]) -> list[bytes]:
    return [task() for task in tasks]


def _in_order(
    tasks: Iterable[Task],
    start: Callable[[Sequence[Task]], Any],
    finish: Callable[[Any], list[bytes]],
    ahead: int,
) -> Iterator[bytes]:
    """Draws in chunks, ``ahead`` of them at once, and gives the pictures in the order of their tasks."""
    remaining, pending = iter(tasks), deque[Any]()
    while chunk := list(islice(remaining, _CHUNK)):
        pending.append(start(chunk))
        if len(pending) > ahead:
            yield from finish(pending.popleft())
    while pending:
        yield from finish(pending.popleft())


@contextmanager
def studio(workers: int) -> Iterator[Render]:
    """A function that turns tasks into pictures in the order given.

    Args:
        workers: processes; 1 draws in this one.

    Raises:
        RunError: a process was killed from outside, mostly for want of memory.
    """
    if workers == 1:
        yield lambda tasks: (task() for task in tasks)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), end_with_parent)
    try:
        yield lambda tasks: _in_order(
            tasks, lambda chunk: pool.submit(_draw, chunk), lambda future: future.result(), 4 * workers
        )
    except BrokenProcessPool:
        raise RunError("a process that draws pictures was killed; free some memory and run again") from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def cluster(address: str) -> Iterator[Render]:
    """What ``studio`` does, on a Ray cluster; what a killed worker had in hand is drawn again by another.

    Every machine needs this package. Where this call starts a cluster, it ends it too.

    Args:
        address: the cluster's; ``auto`` takes the running one or else starts one of this machine's cores.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
        RunError: the cluster failed.
    """
    with ray_cluster(address) as ray:
        draw = ray.remote(max_retries=-1, num_cpus=1)(_draw)
        cpus = int(ray.cluster_resources().get("CPU", 1))
        yield lambda tasks: _in_order(tasks, draw.remote, ray.get, 4 * cpus)
