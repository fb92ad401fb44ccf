"""The results as a table for the terminal; it reads the same way as the page's."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from salmubench.evaluation.report import Report
from salmubench.reports.redact import plain
from salmubench.reports.results import LABELS, Results, Run, arrange, number

COLOURS = dict(zip(LABELS, ("green", "magenta", "yellow", "red"), strict=True))
FAR = 0.1
"""A number that misses its target by more than this share of the way is coloured."""


def table(reports: Sequence[Report]) -> Table:
    """Methods down, the ten metrics across, the bounds on top; the number nearest to its target is bold.

    Yellow: leak that is left. Magenta: damage, i.e. utility lost or association below Clean. rich leaves the colours out
    where the output is piped or NO_COLOR is set.

    Raises:
        UserError: the reports do not belong in one table.
    """
    results = arrange(reports)
    grid = Table(box=box.SIMPLE_HEAD, title="Efficacy → Clean  |  Utility → Compromised", title_justify="left", pad_edge=False)
    grid.add_column("method", no_wrap=True)
    for column in results.columns:
        grid.add_column(Text(plain(column.key, 24), style="cyan" if column.efficacy else "bright_red"), justify="right")
    if any(run.verdict for run in results.runs):
        grid.add_column("verdict", no_wrap=True)
    for place, run in enumerate(results.everything):
        is_bound = place < len(results.bounds)
        cells = [Text(run.label, style="bold cyan" if is_bound else ""), *_cells(results, run, is_bound)]
        if len(grid.columns) > len(cells):
            cells.append(Text("" if is_bound or not run.verdict else run.verdict.label,
                              style=COLOURS[run.verdict.label] if run.verdict and not is_bound else ""))  # fmt: skip
        grid.add_row(*cells, end_section=place == len(results.bounds) - 1)
    return grid


def _cells(results: Results, run: Run, is_bound: bool) -> list[Text]:
    cells = []
    for column in results.columns:
        style = ""
        score = None if is_bound else results.score(run, column)
        if score is not None and column.efficacy and score < 1 - FAR:
            style = "yellow"
        elif score is not None and (score < 1 - FAR or (column.efficacy and score > 1 + FAR)):
            style = "magenta"
        if run.report.name in results.best(column):
            style += " bold"
        cells.append(Text(number(run.value(column.key)), style=style.strip()))
    return cells
