"""Draws pictures on many processes, in order, and never more than a bounded number ahead."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice

from salmubench.errors import RunError
from salmubench.jobs import end_with_parent

Task = Callable[[], bytes]
"""Draws one picture; it must pickle, so it is a ``functools.partial`` over a function of a module."""
Render = Callable[[Iterable[Task]], Iterator[bytes]]

_CHUNK = 16


def _draw(tasks: Sequence[Task]) -> list[bytes]:
    return [task() for task in tasks]


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

    def render(tasks: Iterable[Task]) -> Iterator[bytes]:
        remaining, pending = iter(tasks), deque[Future[list[bytes]]]()
        while chunk := list(islice(remaining, _CHUNK)):
            pending.append(pool.submit(_draw, chunk))
            if len(pending) > 4 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()

    try:
        yield render
    except BrokenProcessPool:
        raise RunError("a process that draws pictures was killed; free some memory and run again") from None
    finally:
        pool.shutdown(cancel_futures=True)
