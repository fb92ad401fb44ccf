"""Progress bars with a rate and the time left. A long function takes ``progress``; it stays silent by default.

A ``Progress`` is called as ``with progress("encoding pictures", total) as advance: ... advance(n)``.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

Advance = Callable[[int], None]


class Progress(Protocol):
    """Opens one bar of ``total`` units; the context's value moves it on by so many units."""

    def __call__(self, description: str, total: int) -> AbstractContextManager[Advance]: ...


@contextmanager
def silent(description: str, total: int) -> Iterator[Advance]:
    """Shows nothing: the default of every public function."""
    yield lambda count: None


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        words = "" if not speed else f"{speed:,.0f}/s" if speed >= 1 else f"{60 * speed:.1f}/min"
        return Text(words, style="progress.data.speed")


def console_bars(console: Console) -> RichProgress:
    """The bars' look, for one bar or for several that run at once."""
    return RichProgress(
        TextColumn("{task.description}", table_column=Column(width=36, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
    )


@contextmanager
def console(description: str, total: int) -> Iterator[Advance]:
    """A bar on standard error; where that is no terminal, one line when the step ends."""
    with console_bars(Console(file=sys.stderr)) as bars:
        task = bars.add_task(description, total=total)

        def advance(count: int) -> None:
            bars.advance(task, count)

        yield advance


def duration(seconds: float) -> str:
    """A time as a person says it: in the largest unit of which there are two."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 1.5 else "a second"
