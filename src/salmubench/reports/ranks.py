"""Figures: where the true caption stands among the candidates, of every run and, on its page, of one."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from salmubench.reports import style
from salmubench.reports.style import Figure, Omission

NAME = "ranks"
TITLE = "How far down the true caption is pushed"
CURVE = "Who still finds the true caption"
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
ROW, SIZE, NAMES, FOOT = 20.0, 9.0, 150.0, 40.0

Ranks = NDArray[np.int64]
"""Rank of the true caption for each picture of the forget set, shape (n,), 1 = found first."""


def ranks_figure(runs: Sequence[tuple[str, str, Ranks]]) -> Figure | Omission:
    """A strip a run on a logarithmic scale.

    Args:
        runs: label, colour and ranks of each run with an outcomes file, in the order of rows.
    """
    if not runs:
        return Omission(NAME, TITLE, "It needs reports with their outcomes files beside them.")
    told = "; ".join(f"{label} {np.median(ranks):,.0f}" for label, _, ranks in runs)
    return Figure(
        name=NAME,
        title=TITLE,
        alt=f"Strips of the true caption's rank on a logarithmic scale. Medians: {told}.",
        caption="Rank of the true caption among the candidates of RetFail, 1 is a leak. The tick is the median, the "
        "thick bar the middle half of the forget set, the thin line the middle four fifths.",
        draw=lambda width: _strips(runs, width),
    )


def _strips(runs: Sequence[tuple[str, str, Ranks]], width: float) -> Canvas:
    names = NAMES if width > style.NARROW else 112.0
    figure, axes = style.sheet(width, ROW * len(runs) + FOOT)
    top = max(int(ranks.max()) for _, _, ranks in runs)
    left, right = names + 8, width - 42

    def at(rank: float) -> float:
        return left + (right - left) * math.log(rank) / math.log(max(top, 2))

    bottom = ROW * len(runs) + 2
    for mark in (10**power for power in range(int(math.log10(top)) + 1)):
        axes.plot((at(mark),) * 2, (0, bottom), color=style.LINE, linewidth=0.7, zorder=0.6)
        axes.text(at(mark), bottom + 9, f"{mark:,}", ha="center", va="center", fontsize=SIZE - 0.5, color=style.MUTED)
    axes.text(right, bottom + 25, "rank of the true caption  →", ha="right", va="center", fontsize=SIZE,
              color=style.MUTED)  # fmt: skip
    for row, (label, colour, ranks) in enumerate(runs):
        y = ROW * (row + 0.5)
        if row % 2 == 0:
            style.box(axes, 0, y - ROW / 2, width, ROW, radius=3, zorder=0.5)
        name, size = style.fit(label, names - 4, SIZE)
        bold = "bold" if colour in (style.CLEAN, style.COMPROMISED) else "normal"
        axes.text(4, y, name, va="center", fontsize=size, fontweight=bold,
                  color=colour if bold == "bold" else style.INK)  # fmt: skip
        low, first, middle, third, high = (at(float(rank)) for rank in np.quantile(ranks, SHARES))
        axes.plot((low, high), (y, y), color=colour, linewidth=1.2, zorder=2)
        axes.plot((first, third), (y, y), color=colour, linewidth=6, alpha=0.45, solid_capstyle="butt", zorder=2)
        axes.plot((middle, middle), (y - 5.5, y + 5.5), color=colour, linewidth=2.2, zorder=3)
        axes.text(width - 4, y, f"{np.median(ranks):,.0f}", ha="right", va="center", fontsize=SIZE - 0.5)
    return figure


def curve_figure(models: Mapping[str, tuple[str, Ranks]]) -> Figure | Omission:
    """Share of the forget set whose true caption is among the first k, over k.

    Args:
        models: name -> colour and ranks; the method last.
    """
    if not models:
        return Omission(NAME, CURVE, "It needs the outcomes file beside the report.")
    first = ", ".join(f"{name} {np.mean(ranks == 1):.0%}" for name, (_, ranks) in models.items())
    return Figure(
        name=NAME,
        title=CURVE,
        alt=f"Curves of the share of pictures whose true caption is among the first k candidates. At k = 1: {first}.",
        caption="Share of the forget set whose true caption is among the first k candidates. The method should lie on "
        "Clean: above it the leak is left.",
        draw=lambda width: _curve(models, width),
    )


def _curve(models: Mapping[str, tuple[str, Ranks]], width: float) -> Canvas:
    height, left, key = 230.0, 44.0, 16.0
    figure = Canvas(figsize=(width / 72, height / 72))
    axes = figure.add_axes((left / width, 40 / height, (width - left - 12) / width, (height - 40 - 26 - key) / height))
    top = max(2, *(int(ranks.max()) for _, ranks in models.values()))
    axes.set_xscale("log")
    axes.set_xlim(0.93, top * 1.05)
    axes.set_ylim(-0.02, 1.04)
    marks = [10**power for power in range(int(math.log10(top)) + 1)]
    axes.set_xticks(marks, [f"{mark:,}" for mark in marks])
    axes.minorticks_off()
    axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.grid(color=style.LINE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.set_xlabel("first k candidates  →", loc="right")
    for colour, ranks in models.values():
        k, count = np.unique(ranks, return_counts=True)
        share = np.cumsum(count) / len(ranks)
        axes.step([0.93, *k, top * 1.05], [0.0, *share, 1.0], where="post", color=colour, linewidth=1.7)
    _names(style.overlay(figure), models, left, width)
    return figure


def _names(axes: Axes, models: Mapping[str, tuple[str, Ranks]], left: float, width: float) -> None:
    """The models' names in their colours above the curves, which meet too often to be named on the spot."""
    room = (width - left) / len(models) - 26
    for place, (name, (colour, _)) in enumerate(models.items()):
        x = left + place * (room + 26)
        axes.plot((x, x + 14), (12, 12), color=colour, linewidth=2.4)
        text, size = style.fit(name, room, SIZE + 0.5)
        axes.text(x + 19, 12, text, va="center", fontsize=size, fontweight="bold", color=colour)
