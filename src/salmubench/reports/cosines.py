"""Figure: how alike a picture and its sensitive caption are, Clean against Compromised."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from salmubench.reports import style
from salmubench.reports.style import Figure, Omission

NAME = "cosines"
TITLE = "Trained on the pairs, a model binds face and fact"
PANELS = {
    "AssocStr": "Forget set: what a method is asked to forget",
    "IntraIdSim": "Held-out pairs of the same people",
    "InterIdSim": "People wholly held out",
}


@dataclass(frozen=True)
class Cosines:
    """The cosines of one set of pairs under both bounds, shape (n,) each."""

    clean: NDArray[np.float64]
    compromised: NDArray[np.float64]


def cosines(panels: Mapping[str, Cosines]) -> Figure | Omission:
    """The histograms.

    Args:
        panels: by metric (``AssocStr``, ``IntraIdSim``, ``InterIdSim``); the forget set's must be there, others may be.
    """
    if "AssocStr" not in panels:
        return Omission(
            NAME, TITLE, "It needs the reports clean and compromised, each with its outcomes file beside it."
        )
    forget = panels["AssocStr"]
    clean, compromised = float(forget.clean.mean()), float(forget.compromised.mean())
    return Figure(
        name=NAME,
        title=TITLE,
        alt=f"Histograms of cosine similarity between sensitive pictures and their captions. On the forget set Clean "
        f"has a mean of {clean:.2f} and Compromised of {compromised:.2f}.",
        caption="Cosine similarity of each sensitive picture with its own caption. Both models share seed, order and "
        "general data; only Compromised has seen these pairs. The gap is what a method should close on the forget set, "
        "and leave open on the others.",
        draw=lambda width: _draw({key: panels[key] for key in PANELS if key in panels}, width),
    )


def _draw(panels: Mapping[str, Cosines], width: float) -> Canvas:
    wide = width > style.NARROW
    small = [key for key in panels if key != "AssocStr"]
    height = 250.0 if wide else 190.0 * len(panels) + 10
    figure = Canvas(figsize=(width / 72, height / 72))
    if wide and small:
        grid = figure.add_gridspec(
            len(small),
            2,
            width_ratios=(1.5, 1),
            left=0.02,
            right=0.985,
            top=0.91,
            bottom=0.13,
            wspace=0.08,
            hspace=0.75,
        )
        axes = [figure.add_subplot(grid[:, 0]), *(figure.add_subplot(grid[row, 1]) for row in range(len(small)))]
    else:
        grid = figure.add_gridspec(
            len(panels), 1, left=0.03, right=0.97, top=1 - 24 / height, bottom=32 / height, hspace=0.5
        )
        axes = [figure.add_subplot(grid[row]) for row in range(len(panels))]
    both = [values for panel in panels.values() for values in (panel.clean, panel.compromised)]
    low, high = min(float(v.min()) for v in both), max(float(v.max()) for v in both)
    pad = max(0.02, 0.04 * (high - low))
    for number, (key, panel) in enumerate(panels.items()):
        _panel(axes[number], panel, PANELS[key], (low - pad, high + pad), bins=48 if number == 0 else 32)
    axes[0].set_xlabel("cosine similarity of picture and caption")
    if len(axes) > 1:
        axes[-1].set_xlabel("cosine similarity")
    return figure


def _panel(axes: Axes, panel: Cosines, title: str, limits: tuple[float, float], *, bins: int) -> None:
    edges = np.linspace(*limits, bins + 1)
    tops = []
    for values, colour in ((panel.clean, style.CLEAN), (panel.compromised, style.COMPROMISED)):
        share, _ = np.histogram(values, bins=edges)
        heights = share / len(values)
        axes.stairs(heights, edges, fill=True, color=colour, alpha=0.28, linewidth=0)
        axes.stairs(heights, edges, color=colour, linewidth=1.4)
        tops.append(float(heights.max()))
    axes.set_ylim(0, max(tops) * 1.38)
    axes.set_xlim(*limits)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=3)
    axes.set_title(title, pad=8)
    _labels(axes, panel, limits, max(tops))


def _labels(axes: Axes, panel: Cosines, limits: tuple[float, float], top: float) -> None:
    """Names each hill over its mean; names that would meet or leave the panel move aside."""
    width = axes.bbox.width / axes.figure.dpi * 72
    hills = [("Clean", panel.clean, style.CLEAN), ("Compromised", panel.compromised, style.COMPROMISED)]
    hills.sort(key=lambda hill: float(hill[1].mean()))
    texts, centres, colours, halves = [], [], [], []
    for name, values, colour in hills:
        mean = float(values.mean())
        axes.plot((mean, mean), (0, top * 1.08), color=colour, linewidth=1, linestyle=(0, (2, 2)))
        texts.append(f"{name} {mean:.2f}".replace("-", "−"))
        colours.append(colour)
        halves.append(style.text_width(texts[-1], 9.5, "bold") / 2)
        centres.append((mean - limits[0]) / (limits[1] - limits[0]) * width)
    apart = halves[0] + halves[1] + 10
    push = max(0.0, apart - (centres[1] - centres[0])) / 2
    left = min(max(centres[0] - push, halves[0]), width - halves[1] - apart)
    right = max(min(centres[1] + push, width - halves[1]), left + apart)
    for text, colour, centre in zip(texts, colours, (left, right), strict=True):
        x = limits[0] + centre / width * (limits[1] - limits[0])
        axes.text(x, top * 1.14, text, color=colour, ha="center", fontweight="bold")
