"""The figures of a data set's card: the pipeline, one persona, the splits, and contact sheets of people and sets."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure as Canvas

from salmubench.atomic import replacing
from salmubench.dataset.store import Benchmark, PairSet, load_benchmark
from salmubench.reports import style
from salmubench.reports.persona import persona_figure
from salmubench.reports.pipeline import pipeline_figure
from salmubench.reports.portraits import portrait, rows_of
from salmubench.reports.redact import Redactor
from salmubench.reports.splits import splits_figure
from salmubench.reports.style import Figure, Omission

ACROSS, DOWN = 8, 6
CELL, GAP = 90.0, 5.0


def draw_cards(data: str | Path, out: Path, *, show_values: bool = False) -> list[Path]:
    """Draws ``pipeline``, ``persona``, ``splits``, ``people`` and ``retained`` as SVG and PNG.

    Args:
        data: a data set folder, an evaluation folder, or ``hf://owner/name``.
        out: the folder to write.
        show_values: show the sensitive values instead of masking them.

    Returns:
        The PNG files.

    Raises:
        UserError: the data are damaged, or a picture does not decode.
    """
    benchmark = load_benchmark(data)
    redactor = Redactor(benchmark, show_values=show_values)
    sets = {name: len(pairs) for name, pairs in benchmark.sets.items()}
    halved = set(benchmark.sets["holdout_association"].identity_id)
    people = {
        "halved": len(halved),
        "whole": len(set(benchmark.sets["forget"].identity_id) - halved),
        "held_out": len(set(benchmark.sets["holdout_identity"].identity_id)),
    }
    figures = [
        pipeline_figure(benchmark, redactor),
        persona_figure(benchmark, None, redactor),
        splits_figure(sets, people),
        _people_sheet(benchmark),
        _retained_sheet(benchmark),
    ]
    return [path for figure in figures if isinstance(figure, Figure) for path in _write(figure, out)]


def _write(figure: Figure, out: Path) -> Iterator[Path]:
    with style.style(figure.name):
        canvas = figure.draw(style.WIDE)
        contents = {
            "svg": style.to_svg(canvas, alt=figure.alt, title=figure.title).encode(),
            "png": style.to_png(canvas),
        }
    for ending, content in contents.items():
        with replacing(out / f"{figure.name}.{ending}") as temporary:
            temporary.write_bytes(content)
    yield out / f"{figure.name}.png"


def _people_sheet(benchmark: Benchmark) -> Figure:
    """A row a person: the same face in other pictures."""
    forget = benchmark.sets["forget"]
    people = sorted({str(who) for who in forget.identity_id})[:DOWN]
    rows = [list(rows_of(forget, who))[:ACROSS] for who in people]
    return _sheet(benchmark, forget, rows, "people", "A row a person: one face, many pictures")


def _retained_sheet(benchmark: Benchmark) -> Figure | Omission:
    """Pictures of nobody in the set, evenly over the set."""
    retained = benchmark.sets["retain_disjoint"]
    if not len(retained):
        return Omission("retained", "Retained pictures of people outside the set", "retain_disjoint is empty.")
    step = max(1, len(retained) // (ACROSS * DOWN))
    chosen = list(range(0, len(retained), step))[: ACROSS * DOWN]
    rows = [chosen[first : first + ACROSS] for first in range(0, len(chosen), ACROSS)]
    return _sheet(benchmark, retained, rows, "retained", "Retained pictures of people outside the set")


def _sheet(benchmark: Benchmark, pairs: PairSet, rows: Sequence[Sequence[int]], name: str, title: str) -> Figure:
    def draw(width: float) -> Canvas:
        cell = (width - GAP * (ACROSS - 1)) / ACROSS
        figure, axes = style.sheet(width, len(rows) * (cell + GAP) - GAP)
        for down, row in enumerate(rows):
            for across, place in enumerate(row):
                pixels = portrait(benchmark, int(pairs.picture[place]), CELL, CELL)
                style.picture(axes, pixels, across * (cell + GAP), down * (cell + GAP), cell, cell)
        return figure

    shown = sum(map(len, rows))
    return Figure(name, title, f"A contact sheet of {shown} pictures of {pairs.name}.", "Cut to squares.", draw)
