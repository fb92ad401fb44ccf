"""A lattice of dots: a row a run, a lane a quantity on its own scale, with both bounds as lines.

``profile`` draws the ten metrics so, ``fields`` one metric over the eight facts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from salmubench.reports import style
from salmubench.reports.redact import plain
from salmubench.reports.results import Run, number

ROW, SIZE, HEAD = 19.0, 9.0, 54.0

Value = tuple[float, tuple[float, float] | None]
"""A number and its interval."""


@dataclass(frozen=True)
class Lane:
    """One quantity.

    Attributes:
        title: stands over it.
        values: of each run, in the order of rows; None where it was not measured.
        bounds: of Clean and of Compromised.
        efficacy: whether Clean is the target, and so the thick line.
        group: lanes of one group share a heading.
    """

    title: str
    values: Sequence[Value | None]
    bounds: tuple[float | None, float | None]
    efficacy: bool
    group: str
    limits: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        told = [end for value in self.values if value for end in (value[0], *(value[1] or ()))]
        told += [bound for bound in self.bounds if bound is not None]
        object.__setattr__(self, "limits", (min(told, default=0.0), max(told, default=0.0)))


def draw(runs: Sequence[Run], lanes: Sequence[Lane], width: float) -> Canvas:
    """The lattice at a width; on a telephone three lanes of one group stand side by side, the rest below."""
    wide = width > style.NARROW
    names = 150.0 if wide else 100.0
    size = min(style.fit(run.label, names - 20, SIZE)[1] for run in runs)
    bands = [lanes] if wide else _bands(lanes, 3)
    band_height = HEAD + ROW * len(runs) + 14
    figure, axes = style.sheet(width, band_height * len(bands) + 4)
    for place, band in enumerate(bands):
        top = place * band_height
        step = (width - names - 4) / max(len(band), 1 if wide else 3)
        for row, run in enumerate(runs):
            y = top + HEAD + ROW * (row + 0.5)
            if row % 2 == 0:
                style.box(axes, 0, y - ROW / 2, width, ROW, radius=3, zorder=0.5)
            colour, marker = style.VERDICTS[run.verdict.label] if run.verdict else style.UNJUDGED
            axes.plot(9, y, marker, color=colour, markersize=5.5, markeredgewidth=0)
            axes.text(18, y, style.fit(run.label, names - 20, size)[0], va="center", fontsize=size)
        _heads(axes, band, names, step, top)
        for column, lane in enumerate(band):
            _lane(axes, lane, names + column * step + 6, step - 12, top)
    return figure


def _bands(lanes: Sequence[Lane], most: int) -> list[Sequence[Lane]]:
    groups = [[lane for lane in lanes if lane.group == group] for group in dict.fromkeys(lane.group for lane in lanes)]
    return [group[start : start + most] for group in groups for start in range(0, len(group), most)]


def _heads(axes: Axes, lanes: Sequence[Lane], names: float, step: float, top: float) -> None:
    """The groups' names over the lanes that belong to them."""
    for group in dict.fromkeys(lane.group for lane in lanes):
        places = [place for place, lane in enumerate(lanes) if lane.group == group]
        left, right = names + places[0] * step + 6, names + (places[-1] + 1) * step - 6
        colour = style.CLEAN if lanes[places[0]].efficacy else style.COMPROMISED
        style.say(axes, left, top + 2, group, size=SIZE + 0.5, weight="bold", color=colour)
        axes.plot((left, right), (top + 19, top + 19), color=colour, linewidth=1.2)


def _lane(axes: Axes, lane: Lane, left: float, width: float, top: float) -> None:
    """One lane: its scale, both bounds and a dot a run."""
    end = top + HEAD + ROW * len(lane.values)
    title, size = style.fit(plain(lane.title, 24), width + 8, SIZE, smallest=7)
    axes.text(left + width / 2, top + 29, title, ha="center", va="center", fontsize=size, fontweight="bold")
    low, high = lane.limits
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return left + 5 + (value - low) / span * (width - 10)

    targets = lane.efficacy, not lane.efficacy
    for value, colour, is_target in zip(lane.bounds, (style.CLEAN, style.COMPROMISED), targets, strict=True):
        if value is not None:
            axes.plot((at(value),) * 2, (top + HEAD - 3, end), color=colour, linewidth=3 if is_target else 1,
                      alpha=0.85, solid_capstyle="butt", zorder=1)  # fmt: skip
    for x, value, side in ((left, low, "left"), (left + width, high, "right")):
        axes.text(x, top + 45, number(value), ha=side, va="center", fontsize=SIZE - 2, color=style.MUTED)
    for row, found in enumerate(lane.values):
        y = top + HEAD + ROW * (row + 0.5)
        if found is None:
            axes.text(left + width / 2, y, "–", ha="center", va="center", color=style.MUTED, fontsize=SIZE)
            continue
        value, interval = found
        if interval:
            axes.plot([at(bound) for bound in interval], (y, y), color=style.INK, linewidth=1.2, zorder=2)
        axes.plot(at(value), y, "o", color=style.INK, markersize=5, markeredgecolor=style.PAPER, zorder=3)
