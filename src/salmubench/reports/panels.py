"""Small multiples: a panel a method, with a few lines over one shared horizontal scale, named where they end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from salmubench.reports import style

SIZE = 8.5
TITLE_HEIGHT, PANEL, GAP, FOOT = 20.0, 92.0, 20.0, 26.0


@dataclass(frozen=True)
class Line:
    """A line of a panel: points from left to right, with a spread (low, high) at each where it is known."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    spread: Sequence[tuple[float, float]] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One method's lines."""

    title: str
    lines: Sequence[Line]


def draw(
    panels: Sequence[Panel], width: float, *, ticks: Sequence[tuple[float, str]], across: str, percent: bool = False
) -> Canvas:
    """The panels at a width, three abreast or one.

    Args:
        panels: what to show; all share both scales.
        width: in points.
        ticks: places on the horizontal scale, which is even in them, and their names.
        across: the horizontal scale's name.
        percent: whether the vertical scale is a share.
    """
    columns = min(len(panels), 3) if width > style.NARROW else 1
    columns = max(columns, 2) if width > style.NARROW else 1
    rows = math.ceil(len(panels) / columns)
    each = TITLE_HEIGHT + PANEL + GAP
    height = rows * each + FOOT
    figure = Canvas(figsize=(width / 72, height / 72))
    step = width / columns
    ends = [end for panel in panels for line in panel.lines for end in (*line.y, *(e for s in line.spread for e in s))]
    low, high = min(0.0, *ends), max(1.0 if percent else 0.0, *ends)
    pad = 0.06 * ((high - low) or 1)
    names = max(style.text_width(line.name, SIZE, "bold") for panel in panels for line in panel.lines) + 8
    places = [place for place, _ in ticks]
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        left, right = column * step + 34, (column + 1) * step - names - 6
        top = height - row * each - TITLE_HEIGHT
        axes = figure.add_axes((left / width, (top - PANEL) / height, (right - left) / width, PANEL / height))
        margin = 0.05 * ((max(places) - min(places)) or 1)
        axes.set_xlim(min(places) - margin, max(places) + margin)
        axes.set_ylim(low - pad, high + pad)
        axes.set_xticks(places, [name for _, name in ticks], fontsize=SIZE - 0.5)
        _upright(axes, percent)
        axes.tick_params(length=0)
        axes.grid(axis="y", color=style.LINE, linewidth=0.6, alpha=0.7)
        axes.set_axisbelow(True)
        title, size = style.fit(panel.title, step - 16, 9.5, smallest=7.5)
        axes.set_title(title, fontsize=size, pad=5)
        _lines(axes, panel.lines)
    style.say(style.overlay(figure), 34, height - FOOT + 8, across, size=SIZE, color=style.MUTED)
    return figure


def _upright(axes: Axes, percent: bool) -> None:
    if percent:
        axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"], fontsize=SIZE - 0.5)
        return
    top = axes.get_ylim()[1]
    step = 10 ** math.floor(math.log10(top or 1.0))
    step = next(step * part for part in (5.0, 2.0, 1.0, 0.5, 0.2) if top >= 2 * step * part)
    marks = [step * place for place in range(int(top / step) + 1)]
    axes.set_yticks(marks, [f"{mark:g}".replace("0.", ".", 1) if mark else "0" for mark in marks], fontsize=SIZE - 0.5)


def _lines(axes: Axes, lines: Sequence[Line]) -> None:
    """The lines, each named at its right end; names that would meet are moved apart."""
    for line in lines:
        for x, (below, above) in zip(line.x, line.spread, strict=False):
            axes.plot((x, x), (below, above), color=line.colour, linewidth=1, alpha=0.7)
        axes.plot(line.x, line.y, color=line.colour, linewidth=1.6, linestyle=(0, (3, 2)) if line.dashed else "-",
                  marker=None if line.dashed else "o", markersize=4, markeredgewidth=0)  # fmt: skip
    low, high = axes.get_ylim()
    unit = PANEL / (high - low)
    spots = sorted((line.y[-1] * unit, place) for place, line in enumerate(lines))
    apart = SIZE + 2.5
    heights = [height for height, _ in spots]
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + apart)
    over = heights[-1] - (high * unit - SIZE / 2)
    if over > 0:
        for place in range(len(heights) - 1, -1, -1):
            ceiling = heights[place + 1] - apart if place + 1 < len(heights) else heights[place] - over
            heights[place] = min(heights[place], ceiling)
    for height, (_, place) in zip(heights, spots, strict=True):
        line = lines[place]
        axes.text(axes.get_xlim()[1], height / unit, line.name, color=line.colour, fontsize=SIZE, fontweight="bold",
                  va="center", ha="left")  # fmt: skip
