"""Figure: efficacy against utility, every run between the two bounds."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from salmubench.reports import style
from salmubench.reports.results import Results, Run, share, utility_kept
from salmubench.reports.style import Figure, Omission

NAME = "plane"
TITLE = "Forgetting without breaking anything lies in the top right corner"
SIZE = 9.0
FLOOR = -0.3
"""Runs that kept less than this (holdouts far below Clean) are drawn on the lower edge, with the share beside them."""


Frame = tuple[float, float, float, float]
"""Left, bottom, right, top."""


@dataclass(frozen=True)
class Point:
    """A run on the plane: x the share of the leak removed, y the least share of utility kept, both as measured.

    ``seeds`` are the same two shares of each seed, where the run is a mean of several.
    """

    label: str
    x: float
    y: float
    colour: str
    marker: str
    seeds: tuple[tuple[float, float], ...] = ()


def plane(results: Results) -> Figure | Omission:
    """The plane, where both bounds are there to judge by."""
    if results.clean is None or results.compromised is None or not any(run.verdict for run in results.runs):
        return Omission(
            NAME, TITLE, "It needs the reports clean and compromised, and at least one method judged by them."
        )
    judged = [run for run in results.runs if run.verdict is not None]
    points = [point for run in judged if (point := _point(run)) is not None]
    paths = [[judged.index(run) for run in runs] for runs in families(results)]
    told = "; ".join(f"{point.label}: leak removed {share(point.x)}, utility kept {share(point.y)}" for point in points)
    return Figure(
        name=NAME,
        title=TITLE,
        alt=f"Scatter of leak removed against utility kept. {told}.",
        caption="Across: share of the retrieval leak removed, from Compromised (0) to Clean (100 %). Up: share of "
        "utility kept, the least of held-out people, held-out pairs and general knowledge, so that no loss hides in a "
        "mean. Clean itself lies bottom right: it never knew the holdouts. On the dashed line all facts fade alike. "
        "The green staircase is the Pareto front: no run beats one on it in both."
        + (" Arrows lead from a method's smaller budget to its larger." if paths else "")
        + (" Bars span the seeds of a run." if any(point.seeds for point in points) else ""),
        draw=lambda width: _draw(points, paths, width),
    )


def _point(run: Run) -> Point | None:
    kept = run.utility_kept
    if run.verdict is None or kept is None:
        return None
    colour, marker = style.VERDICTS[run.verdict.label]
    seeds = tuple((each.leakage_reduction, utility_kept(each)) for each in run.verdicts)
    return Point(run.label, run.verdict.leakage_reduction, kept, colour, marker, seeds)


def families(results: Results) -> list[list[Run]]:
    """Judged runs that differ in budget alone, each family by rising budget, best family first."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in results.runs:
        if run.verdict is not None and run.recipe.budget is not None:
            found.setdefault(run.recipe.family, []).append(run)
    several = [sorted(runs, key=lambda run: run.recipe.budget or 0.0) for runs in found.values()]
    return [runs for runs in several if len({run.recipe.budget for run in runs}) == len(runs) > 1]


def front(spots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front, from left to right: the spots that no other beats in both shares.

    More than all of the leak or of the utility is no merit, so that both count up to 1.
    """
    capped = sorted({(min(x, 1.0), min(y, 1.0)) for x, y in spots}, reverse=True)
    best, kept = -math.inf, []
    for x, y in capped:
        if y > best:
            kept.append((x, y))
            best = y
    return kept[::-1]


def _draw(points: Sequence[Point], paths: Sequence[Sequence[int]], width: float) -> Canvas:
    wide = width > style.NARROW
    numbered = len(points) > (18 if wide else 12)
    columns = 4 if wide else 2
    key = 13.0 * math.ceil(len(points) / columns) + 14 if numbered else 0.0
    height = (430.0 if wide else 400.0) + key
    figure = Canvas(figsize=(width / 72, height / 72))
    left, right, top, bottom = (52, 16, 30, 44 + key) if wide else (40, 8, 30, 44 + key)
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    axes.set_xlim(min([-0.08, *(max(FLOOR, point.x) - 0.05 for point in points)]), 1.12)
    axes.set_ylim(min([-0.08, *(max(FLOOR, point.y) - 0.05 for point in points)]), 1.12)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set_xticks(ticks, [f"{round(100 * tick)} %" for tick in ticks])
    axes.set_yticks(ticks, [f"{round(100 * tick)} %" for tick in ticks])
    axes.grid(color=style.LINE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.set_xlabel("leak removed  →", loc="right")
    axes.text(0, 1 + 10 / (height - top - bottom), "↑  utility kept (the least of three)", transform=axes.transAxes,
              color=style.MUTED, fontsize=SIZE + 0.5)  # fmt: skip
    axes.fill_between((0.9, 1.12), 0.9, 1.12, facecolor=style.VERDICTS["forgets"][0], alpha=0.13, linewidth=0)
    axes.plot((0, 1), (1, 0), color=style.LINE, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    bounds = [
        Point("Compromised", 0, 1, style.COMPROMISED, "s"),
        Point("Clean", 1, 0, style.CLEAN, "s"),
        Point("ideal", 1, 1, style.VERDICTS["forgets"][0], "*"),
    ]
    _connect(axes, points, paths)
    for point in (*bounds, *points):
        x, y = _place(axes, point)
        axes.plot(x, y, point.marker, color=point.colour, markersize=12 if point.marker == "*" else 7.5, clip_on=False,
                  markeredgecolor=style.PAPER, markeredgewidth=0.9, zorder=3)  # fmt: skip
    if numbered:
        _key(figure, points, columns)
    names = [str(number) for number in range(1, len(points) + 1)] if numbered else [_name(point) for point in points]
    _label(
        axes,
        [*bounds, *points],
        [*(bound.label for bound in bounds), *names],
        (width - left - right, height - top - bottom),
    )
    return figure


def _connect(axes: Axes, points: Sequence[Point], paths: Sequence[Sequence[int]]) -> None:
    """The front, the paths of the budgets and the spread of the seeds, all under the points."""
    stairs = front([(point.x, point.y) for point in points])
    line = [(axes.get_xlim()[0], stairs[0][1]), stairs[0]]
    for (x, _), corner in pairwise(stairs):
        line += [(x, corner[1]), corner]
    line.append((stairs[-1][0], axes.get_ylim()[0]))
    axes.plot(*zip(*((x, max(FLOOR, y)) for x, y in line), strict=True), color=style.VERDICTS["forgets"][0],
              linewidth=1.2, alpha=0.8, zorder=1.5, solid_joinstyle="miter")  # fmt: skip
    for path in paths:
        for before, after in pairwise(path):
            axes.annotate("", _place(axes, points[after]), _place(axes, points[before]), arrowprops=_STEP, zorder=2)
    for point in points:
        if point.seeds:
            x, y = _place(axes, point)
            across, up = zip(*point.seeds, strict=True)
            for line_ in (((min(across), max(across)), (y, y)), ((x, x), (max(FLOOR, min(up)), max(FLOOR, max(up))))):
                axes.plot(*line_, color=point.colour, linewidth=1, alpha=0.8, zorder=2)


_STEP = {"arrowstyle": "-|>", "color": style.MUTED, "linewidth": 0.9, "shrinkA": 4, "shrinkB": 4, "mutation_scale": 7}


def _name(point: Point) -> str:
    """A run's name; what is drawn on the lower edge says how far below it lies."""
    return style.fit(point.label, 190, SIZE, smallest=SIZE)[0] + (f" ({share(point.y)})" if point.y < FLOOR else "")


def _key(figure: Canvas, points: Sequence[Point], columns: int) -> None:
    """The runs' names below the plane, by number: so many names do not fit beside their points."""
    axes = style.overlay(figure)
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    rows = math.ceil(len(points) / columns)
    for number, point in enumerate(points):
        x, y = width / columns * (number // rows), height - 13.0 * (rows - number % rows)
        axes.text(x + 16, y + 6, str(number + 1), ha="right", va="center", fontsize=SIZE - 1, fontweight="bold")
        axes.plot(x + 24, y + 6, point.marker, color=point.colour, markersize=5, markeredgewidth=0)
        name, size = style.fit(point.label, width / columns - 34, SIZE - 1)
        axes.text(x + 31, y + 6, name, va="center", fontsize=size)


def _place(axes: Axes, point: Point) -> tuple[float, float]:
    (low, high), (_, top) = axes.get_xlim(), axes.get_ylim()
    return min(max(point.x, low + 0.02), high - 0.02), min(max(point.y, FLOOR), top - 0.02)


def _offsets() -> Iterator[tuple[float, float, str]]:
    """Where a label may stand from its point, in points, nearest first, and which end of it faces the point."""
    for away in (0, 10, 20, 32, 46, 62, 80, 100, 124, 150, 180):
        for rise in (0, away, -away, 0.5 * away, -0.5 * away):
            yield 9 + 0.5 * away, rise, "left"
            yield -9 - 0.5 * away, rise, "right"
        yield 0, 13 + away, "center"
        yield 0, -13 - away, "center"


def _label(axes: Axes, points: Sequence[Point], names: Sequence[str], size: tuple[float, float]) -> None:
    """Writes each point's name where it covers no point and no other name; a line leads to a name that had to move."""
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    spots = []
    for point in points:
        x, y = _place(axes, point)
        spots.append(((x - x0) / (x1 - x0) * size[0], (y - y0) / (y1 - y0) * size[1]))
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    for point, text, (x, y) in zip(points, names, spots, strict=True):
        bold = "bold" if point.marker in "s*" else "normal"
        wide = style.text_width(text, SIZE, bold)
        best: tuple[float, float, float, str, Frame] | None = None
        for dx, dy, side in _offsets():
            left = x + dx - {"left": 0, "right": wide, "center": wide / 2}[side]
            frame = (left - 1, y + dy - 6, left + wide + 1, y + dy + 6)
            inside = frame[0] >= -6 and frame[2] <= size[0] + 8 and frame[1] >= 0 and frame[3] <= size[1]
            covered = sum(_overlap(frame, other) for other in taken)
            cost = math.hypot(dx, dy) + 400 * covered + 800 * (not inside)
            if best is not None and cost >= best[0]:
                continue
            cost += 60 * sum(_crosses((x, y), (x + dx, y + dy), other) for other in taken[len(points) :])
            if best is None or cost < best[0]:
                best = (cost, dx, dy, side, frame)
        assert best is not None
        _, dx, dy, side, frame = best
        taken.append(frame)
        far = abs(dy) > 14 or abs(dx) > 16
        axes.annotate(
            text, ((x / size[0]), (y / size[1])), (dx, dy), xycoords="axes fraction", textcoords="offset points",
            ha=side, va="center", fontsize=SIZE, fontweight=bold, zorder=4, annotation_clip=False,
            color=point.colour if bold == "bold" and point.marker == "s" else style.INK,
            arrowprops=_LEADER if far else None, bbox=_GROUND,
        )  # fmt: skip


_GROUND = {"boxstyle": "square,pad=0.1", "facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.75}
"""What a name stands on, so that no line strikes it through."""
_LEADER = {"arrowstyle": "-", "color": style.MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 4}


def _crosses(start: tuple[float, float], end: tuple[float, float], frame: Frame) -> bool:
    """Whether a leading line runs through a frame (sampled: a name is far longer than the step)."""
    steps = [0.05 * step for step in range(1, 20)]
    spots = [(start[0] + (end[0] - start[0]) * step, start[1] + (end[1] - start[1]) * step) for step in steps]
    return any(frame[0] < x < frame[2] and frame[1] < y < frame[3] for x, y in spots)


def _overlap(one: Frame, other: Frame) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
