"""Figure: the ten metrics of every run, each on its own scale between both bounds."""

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from salmubench.reports import style
from salmubench.reports.redact import plain
from salmubench.reports.results import Column, Results, Run, number
from salmubench.reports.style import Figure

NAME = "profile"
TITLE = "Every metric between its two bounds"
ROW, SIZE, HEAD = 19.0, 9.0, 54.0


def profile(results: Results) -> Figure:
    """The lattice: a row a run, a column a metric; the metric's target is the thick line."""
    return Figure(
        name=NAME,
        title=TITLE,
        alt=f"Dot plot of {len(results.columns)} metrics for {len(results.runs)} methods against the Clean and the "
        "Compromised bound; the numbers stand in the table.",
        caption="Blue line: Clean. Orange line: Compromised. The thick one is the metric's target. A dot is a method's "
        "value, its bar the 95 % interval. Efficacy should reach blue and not pass it; utility should stay on orange.",
        draw=lambda width: _draw(results, width),
    )


def _draw(results: Results, width: float) -> Canvas:
    wide = width > style.NARROW
    runs = results.runs or results.bounds
    names = 150.0 if wide else 100.0
    size = min(style.fit(run.label, names - 20, SIZE)[1] for run in runs)
    bands = list(_bands(results, 3)) if not wide else [results.columns]
    band_height = HEAD + ROW * len(runs) + 14
    figure, axes = style.sheet(width, band_height * len(bands) + 4)
    for number_, columns in enumerate(bands):
        top = number_ * band_height
        step = (width - names - 4) / max(len(columns), 1 if wide else 3)
        for row, run in enumerate(runs):
            y = top + HEAD + ROW * (row + 0.5)
            if row % 2 == 0:
                style.box(axes, 0, y - ROW / 2, width, ROW, radius=3, zorder=0.5)
            colour, marker = style.VERDICTS[run.verdict.label] if run.verdict else style.UNJUDGED
            axes.plot(9, y, marker, color=colour, markersize=5.5, markeredgewidth=0)
            axes.text(18, y, style.fit(run.label, names - 20, size)[0], va="center", fontsize=size)
        _heads(axes, columns, names, step, top)
        for place, column in enumerate(columns):
            _lane(axes, results, runs, column, names + place * step + 6, step - 12, top)
    return figure


def _bands(results: Results, size: int) -> Iterator[Sequence[Column]]:
    for group in (results.efficacy, results.utility):
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _heads(axes: Axes, columns: Sequence[Column], names: float, step: float, top: float) -> None:
    """Names of the two pillars over the columns that belong to them."""
    for efficacy, words in ((True, "Efficacy: to Clean"), (False, "Utility: stay at Compromised")):
        places = [place for place, column in enumerate(columns) if column.efficacy == efficacy]
        if places:
            left, right = names + places[0] * step + 6, names + (places[-1] + 1) * step - 6
            colour = style.CLEAN if efficacy else style.COMPROMISED
            style.say(axes, left, top + 2, words, size=SIZE + 0.5, weight="bold", color=colour)
            axes.plot((left, right), (top + 19, top + 19), color=colour, linewidth=1.2)


def _lane(
    axes: Axes, results: Results, runs: Sequence[Run], column: Column, left: float, width: float, top: float
) -> None:
    """One metric's column: its scale, both bounds and a dot a run."""
    end = top + HEAD + ROW * len(runs)
    axes.text(
        left + width / 2, top + 29, plain(column.key, 12), ha="center", va="center", fontsize=SIZE, fontweight="bold"
    )
    values = [value for run in results.everything for value in _range(run, column.key)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return left + 5 + (value - low) / span * (width - 10)

    for bound, colour, is_target in (
        (results.clean, style.CLEAN, column.efficacy),
        (results.compromised, style.COMPROMISED, not column.efficacy),
    ):
        value = bound.value(column.key) if bound else None
        if value is not None:
            axes.plot((at(value),) * 2, (top + HEAD - 3, end), color=colour, linewidth=3 if is_target else 1,
                      alpha=0.85, solid_capstyle="butt", zorder=1)  # fmt: skip
    if values:
        axes.text(left, top + 45, number(low), ha="left", va="center", fontsize=SIZE - 2, color=style.MUTED)
        axes.text(left + width, top + 45, number(high), ha="right", va="center", fontsize=SIZE - 2, color=style.MUTED)
    for row, run in enumerate(runs):
        entry = run.entry(column.key)
        y = top + HEAD + ROW * (row + 0.5)
        if entry is None or entry.value is None:
            axes.text(left + width / 2, y, "–", ha="center", va="center", color=style.MUTED, fontsize=SIZE)
            continue
        if entry.interval:
            axes.plot([at(end_) for end_ in entry.interval], (y, y), color=style.INK, linewidth=1.2, zorder=2)
        axes.plot(at(entry.value), y, "o", color=style.INK, markersize=5, markeredgecolor=style.PAPER, zorder=3)


def _range(run: Run, key: str) -> list[float]:
    entry = run.entry(key)
    if entry is None or entry.value is None:
        return []
    return [entry.value, *(entry.interval or ())]
