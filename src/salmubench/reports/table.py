"""The results as tables for the terminal: many reports, which read the same way as on the page, one, two, and parts."""

import re
import textwrap
from collections.abc import Collection, Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from salmubench.evaluation.breakdown import BreakdownRow
from salmubench.evaluation.compare import ComparisonRow
from salmubench.evaluation.metric import title
from salmubench.evaluation.report import Report
from salmubench.reports.redact import plain
from salmubench.reports.results import LABELS, Column, Results, Run, arrange, short

COLOURS = dict(zip(LABELS, ("green", "magenta", "yellow", "red"), strict=True))
FAR = 10
"""A number that misses its target by more per cent of the way is coloured."""


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
        if run.seeds > 1:
            method.append(f"\nmean of {run.seeds} seeds")
        if run.verdict and not is_bound:
            method.append(f"\n{run.verdict.label}", style=COLOURS[run.verdict.label])
        cells = [_cell(results, run, column) for column in results.columns]
        grid.add_row(method, *cells, end_section=place == len(results.bounds) - 1)
    return grid


def verdicts(reports: Sequence[Report]) -> Iterator[Text]:
    """What each judged report's verdict says, a paragraph each."""
    for report in reports:
        if report.verdict:
            label = Text(report.verdict.label, style=COLOURS[report.verdict.label])
            yield Text.assemble(plain(report.name, 60), " ", label, f": {plain(report.verdict.words, 300)}")


def details(report: Report) -> Table:
    """One report's numbers down, each with its 95 % interval, its target, and its rows or why it was skipped."""
    grid = _grid(("metric", "value", "95 % interval", "target", "rows"), right={1, 2, 4})
    for key, entry in report.metrics.items():
        if entry.value is None:
            grid.add_row(_name(key), "–", "", entry.target, plain(entry.reason or "skipped"))
        options = ", ".join(f"{name}={value}" for name, value in entry.options.items())
        for number, value in entry.numbers().items():
            rows = "" if entry.rows is None or number else f"{entry.rows:,}"
            name = _name(title(key, number) + (f" ({options})" if options and not number else ""))
            grid.add_row(name, _exact(value), _bounds(entry.interval_of(number)), entry.target, rows)
    return grid


def parts(rows: Sequence[BreakdownRow], by: str) -> Table:
    """A break-down: numbers and their groups down."""
    grid = _grid(("metric", by, "rows", "value", "95 % interval"), right={2, 3, 4})
    for place, row in enumerate(rows):
        ends = place + 1 < len(rows) and rows[place + 1].metric != row.metric
        cells = _name(row.group), f"{row.rows:,}", _exact(row.value), _bounds(row.interval)
        grid.add_row(_name(row.metric), *cells, end_section=ends)
    return grid


def comparison(rows: Sequence[ComparisonRow], a: str, b: str) -> Table:
    """Two results side by side; a star marks a difference whose 95 % interval excludes 0."""
    grid = _grid(("metric", a, b, "difference", "95 % interval"), right={1, 2, 3, 4})
    for row in rows:
        numbers = _exact(row.a), _exact(row.b), f"{_exact(row.difference)}{'*' if row.differs else ' '}"
        grid.add_row(_name(row.metric), *numbers, _bounds(row.interval), style="bold" if row.differs else "")
    return grid


def _grid(heads: Sequence[str], right: Collection[int]) -> Table:
    """An empty table; the columns at ``right`` hold numbers."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, head in enumerate(heads):
        grid.add_column(_name(head), justify="right" if place in right else "left", overflow="fold")
    return grid


def _name(text: str) -> Text:
    return Text(plain(text, 60))


def _exact(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _bounds(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


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


def _cell(results: Results, run: Run, column: Column) -> Text:
    kind, away = results.missed(run, column)
    style = {"leak": "yellow", "damage": "magenta", "": ""}[kind] if away > FAR else ""
    if run.report.name in results.best(column):
        style += " bold underline"
    return Text(short(run.value(column.key)), style=style.strip())
