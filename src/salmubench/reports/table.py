"""The results as a table for the terminal; it reads the same way as the page's."""

import re
import textwrap
from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from salmubench.evaluation.report import Report
from salmubench.reports.redact import plain
from salmubench.reports.results import LABELS, Column, Results, Run, arrange, short

COLOURS = dict(zip(LABELS, ("green", "magenta", "yellow", "red"), strict=True))
FAR = 0.1
"""A number that misses its target by more than this share of the way is coloured."""


def table(reports: Sequence[Report]) -> Table:
    """Methods down, each with its verdict; the ten metrics across; the bounds on top. It fits 80 columns.

    Bold and underlined: nearest to its target. Yellow: leak that is left. Magenta: damage, i.e. utility lost or
    association below Clean. rich leaves the colours out where the output is piped or NO_COLOR is set.

    Raises:
        UserError: the reports do not belong in one table.
    """
    results = arrange(reports)
    grid = Table(
        box=box.SIMPLE_HEAD,
        title=Text(", ".join(_pillars(results)), style="italic"),
        title_justify="left",
        pad_edge=False,
        padding=0,
    )
    grid.add_column("method", overflow="fold")
    for column in results.columns:
        name = _broken(plain(column.key, 24))
        grid.add_column(Text(name, style="cyan" if column.efficacy else "red"), justify="right", vertical="top")
    for place, run in enumerate(results.everything):
        is_bound = place < len(results.bounds)
        method = Text("\n".join(textwrap.wrap(run.label, 20)), style="bold" if is_bound else "")
        if run.verdict and not is_bound:
            method.append(f"\n{run.verdict.label}", style=COLOURS[run.verdict.label])
        cells = [_cell(results, run, column, is_bound) for column in results.columns]
        grid.add_row(method, *cells, end_section=place == len(results.bounds) - 1)
    return grid


def _pillars(results: Results) -> Iterator[str]:
    """Which columns should go where, in words: colours may be lost."""
    for name, columns, target in (("Efficacy", results.efficacy, "Clean"), ("utility", results.utility, "Compromised")):
        if columns:
            yield f"{name} ({plain(columns[0].key, 24)}–{plain(columns[-1].key, 24)}) → {target}"


def _broken(key: str) -> str:
    """A metric's name on two lines, broken before a capital: ``Inter/IdSim``."""
    breaks = [match.start() for match in re.finditer(r"(?<=[a-z])(?=[A-Z])", key)]
    middle = min(breaks, key=lambda at: abs(at - len(key) / 2), default=len(key))
    return f"{key[:middle]}\n{key[middle:]}".strip()


def _cell(results: Results, run: Run, column: Column, is_bound: bool) -> Text:
    score = None if is_bound else results.score(run, column)
    style = ""
    if score is not None and column.efficacy and score < 1 - FAR:
        style = "yellow"
    elif score is not None and (score < 1 - FAR or (column.efficacy and score > 1 + FAR)):
        style = "magenta"
    if run.report.name in results.best(column):
        style += " bold underline"
    return Text(short(run.value(column.key)), style=style.strip())
