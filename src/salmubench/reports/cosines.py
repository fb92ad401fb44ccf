"""Figure: how alike a picture and its sensitive caption are, Clean against Compromised and, on its page, a method."""

from collections.abc import Mapping, Sequence
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


LINE = 14.0
"""Height in points of a line of names."""

Hill = tuple[str, NDArray[np.float64], str]
"""A model's name, its cosines, shape (n,), and its colour."""


@dataclass(frozen=True)
class Cosines:
    """The cosines of one set of pairs under both bounds, shape (n,) each, and under a method (several seeds joined)."""

    clean: NDArray[np.float64]
    compromised: NDArray[np.float64]
    method: NDArray[np.float64] | None = None

    def hills(self, method: str) -> list[Hill]:
        """Name, cosines and colour of each model, from the lowest mean to the highest."""
        hills = [("Clean", self.clean, style.CLEAN), ("Compromised", self.compromised, style.COMPROMISED)]
        if self.method is not None:
            hills.append((method, self.method, style.INK))
        return sorted(hills, key=lambda hill: float(hill[1].mean()))


def cosines(panels: Mapping[str, Cosines], method: str = "") -> Figure | Omission:
    """The histograms.

    Args:
        panels: by metric (``AssocStr``, ``IntraIdSim``, ``InterIdSim``); the forget set's must be there, others may be.
        method: the label of the method whose cosines they hold beside the bounds'.
    """
    if "AssocStr" not in panels:
        return Omission(
            NAME, TITLE, "It needs the reports clean and compromised, each with its outcomes file beside it."
        )
    means = [f"{name} has a mean of {values.mean():.2f}" for name, values, _ in panels["AssocStr"].hills(method)]
    return Figure(
        name=NAME,
        title="Where its cosines went" if method else TITLE,
        alt="Histograms of cosine similarity between sensitive pictures and their captions. On the forget set "
        f"{', '.join(means)}.",
        caption="Cosine similarity of each sensitive picture with its own caption. "
        + (
            "On the forget set the method should lie on Clean, on the two others on Compromised."
            if method
            else "Both models share seed, order and general data; only Compromised has seen these pairs. The gap is "
            "what a method should close on the forget set, and leave open on the others."
        ),
        draw=lambda width: _draw({key: panels[key] for key in PANELS if key in panels}, method, width),
    )


def _draw(panels: Mapping[str, Cosines], method: str, width: float) -> Canvas:
    wide = width > style.NARROW
    small = [key for key in panels if key != "AssocStr"]
    height = (275.0 if method else 250.0) if wide else 190.0 * len(panels) + 10
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
    told = [values for panel in panels.values() for _, values, _ in panel.hills(method)]
    low, high = min(float(v.min()) for v in told), max(float(v.max()) for v in told)
    pad = max(0.02, 0.04 * (high - low))
    for number, (key, panel) in enumerate(panels.items()):
        _panel(axes[number], panel.hills(method), PANELS[key], (low - pad, high + pad), bins=48 if number == 0 else 32)
    axes[0].set_xlabel("cosine similarity of picture and caption")
    if len(axes) > 1:
        axes[-1].set_xlabel("cosine similarity")
    return figure


def _panel(axes: Axes, hills: Sequence[Hill], title: str, limits: tuple[float, float], *, bins: int) -> None:
    edges = np.linspace(*limits, bins + 1)
    tops = []
    for _, values, colour in hills:
        share, _ = np.histogram(values, bins=edges)
        heights = share / len(values)
        axes.stairs(heights, edges, fill=True, color=colour, alpha=0.28 if colour != style.INK else 0.12, linewidth=0)
        axes.stairs(heights, edges, color=colour, linewidth=1.4)
        tops.append(float(heights.max()))
    axes.set_xlim(*limits)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=3)
    axes.set_title(title, pad=8)
    # Names stand on lines of their own above the hills: one for the bounds, one for a method.
    height = axes.bbox.height / axes.figure.dpi * 72
    unit = max(tops) / max(height - LINE * (len(hills) - 1) - 6, 20.0)
    axes.set_ylim(0, unit * height)
    _labels(axes, hills, limits, [max(tops) + unit * (5 + LINE * line) for line in range(2)])


def _labels(axes: Axes, hills: Sequence[Hill], limits: tuple[float, float], tops: Sequence[float]) -> None:
    """Names each hill over its mean; names that would meet or leave the panel move aside.

    The bounds' names share the first of the lines ``tops``; a method's stands on the second.
    """
    width = axes.bbox.width / axes.figure.dpi * 72
    bounds, texts, centres, halves = [], [], [], []
    for name, values, colour in hills:
        mean = float(values.mean())
        own = colour == style.INK
        axes.plot((mean, mean), (0, 0.98 * tops[own]), color=colour, linewidth=1, linestyle=(0, (2, 2)))
        figure = f" {mean:.2f}".replace("-", "−")
        text = style.fit(name, width - 44, 9.5, smallest=9.5)[0] + figure
        half = style.text_width(text, 9.5, "bold") / 2
        centre = (mean - limits[0]) / (limits[1] - limits[0]) * width
        if own:
            at = min(max(centre, half), width - half)
            axes.text(limits[0] + at / width * (limits[1] - limits[0]), tops[1], text, color=colour, ha="center",
                      fontweight="bold")  # fmt: skip
            continue
        bounds.append(colour)
        texts.append(text)
        halves.append(half)
        centres.append(centre)
    apart = halves[0] + halves[1] + 10
    push = max(0.0, apart - (centres[1] - centres[0])) / 2
    left = min(max(centres[0] - push, halves[0]), width - halves[1] - apart)
    right = max(min(centres[1] + push, width - halves[1]), left + apart)
    for text, colour, centre in zip(texts, bounds, (left, right), strict=True):
        x = limits[0] + centre / width * (limits[1] - limits[0])
        axes.text(x, tops[0], text, color=colour, ha="center", fontweight="bold")
