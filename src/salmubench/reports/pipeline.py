"""Figure: the five stages that made this data set, with its counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from salmubench.dataset.schema import FIELDS, SENSITIVE_SPLITS
from salmubench.dataset.store import Benchmark
from salmubench.reports import style
from salmubench.reports.leak import TELLING
from salmubench.reports.portraits import portrait, rows_of, squarest
from salmubench.reports.redact import Redactor, plain
from salmubench.reports.style import Figure

NAME = "pipeline"
TITLE = "Five stages from a face to a sensitive pair"


@dataclass(frozen=True)
class Stage:
    """One stage: its name, its count, what it does, and what it shows (pictures or lines of text)."""

    title: str
    count: str
    words: str
    pictures: tuple[NDArray[np.uint8], ...] = ()
    lines: tuple[str, ...] = ()


def pipeline_figure(benchmark: Benchmark, redactor: Redactor) -> Figure:
    """The stages with examples: the faces and facts of the forget set's first people."""
    forget = benchmark.sets["forget"]
    people = sorted({str(who) for who in forget.identity_id})
    rows = rows_of(forget, people[0])
    person = benchmark.identities[people[0]]
    pictures = sum(len(benchmark.sets[name]) for name in SENSITIVE_SPLITS)
    countries = {entry.get("country_code", "") for entry in benchmark.identities.values()} - {""}
    styles = {info.style for info in benchmark.captions.values()} - {None}

    def faces(chosen: Sequence[int]) -> tuple[NDArray[np.uint8], ...]:
        return tuple(portrait(benchmark, int(forget.picture[row]), 60, 60) for row in chosen)

    anchors = [squarest(forget, rows_of(forget, who)) for who in people[:4]]
    shown = _different(benchmark, rows)
    stages = (
        Stage("Anchors", f"{len(benchmark.identities):,} people", "One face for each person; no two people are alike.",
              faces(anchors)),
        Stage("Portraits", f"{pictures:,} pictures", "The same face in other clothes, pose, light and place.",
              faces(rows[:4])),
        Stage("Curation", f"{_range(benchmark)} each", "Pictures untrue to their person go; drawn ones are true.",
              faces(rows[4:8] or rows[:4])),
        Stage("Personal data", f"{len(FIELDS)} facts a person",
              "Fictitious and unique" + (f", true to the country ({len(countries)} here)." if countries else "."),
              lines=(plain(person["name"], 40), *(redactor.value(person[field]) for field in TELLING[:3]))),
        Stage("Captions", f"{pictures:,} pairs", "One fact each, always with the full name, each worded anew"
              + (f", in {len(styles)} styles." if len(styles) > 1 else "."),
              lines=tuple(f"“{redactor.caption(forget.text[row])}”" for row in shown)),
    )  # fmt: skip
    return Figure(
        name=NAME,
        title=TITLE,
        alt="The five stages: " + "; ".join(f"{stage.title}: {stage.count}. {stage.words}" for stage in stages),
        caption="Counts of this data set.",
        draw=lambda width: _draw(stages, width),
    )


def _different(benchmark: Benchmark, rows: Sequence[int]) -> list[int]:
    """Two rows that tell different facts, where there are."""
    names = benchmark.sets["forget"].file_name
    fields = {benchmark.captions[names[row]].data_field: row for row in reversed(rows)}
    return [fields[field] for field in TELLING if field in fields][:2]


def _range(benchmark: Benchmark) -> str:
    """Pictures a person, e.g. ``24`` or ``50–99``, over all sensitive splits."""
    counts: dict[str | None, int] = {}
    for name in SENSITIVE_SPLITS:
        for who in benchmark.sets[name].identity_id:
            counts[who] = counts.get(who, 0) + 1
    low, high = min(counts.values()), max(counts.values())
    return f"{low} pictures" if low == high else f"{low}–{high} pictures"


def _draw(stages: Sequence[Stage], width: float) -> Canvas:
    wide = width > style.NARROW
    gap = 18.0
    card = ((width - gap * (len(stages) - 1)) / len(stages), 250.0) if wide else (width, 138.0)
    figure, axes = style.sheet(width, 254.0 if wide else (card[1] + gap) * len(stages) - gap + 4)
    for number, stage in enumerate(stages):
        x, y = (number * (card[0] + gap), 2.0) if wide else (0.0, 2 + number * (card[1] + gap))
        style.box(axes, x, y, *card)
        disc = {"boxstyle": "circle,pad=0.25", "facecolor": style.CLEAN, "edgecolor": "none"}
        axes.text(x + 19, y + 20, str(number + 1), ha="center", va="center", fontsize=10, fontweight="bold",
                  color=style.PAPER, bbox=disc)  # fmt: skip
        style.say(axes, x + 34, y + 14, stage.title, size=11, weight="bold")
        (_tall if wide else _flat)(axes, stage, x, y, card[0])
        if number:
            end = (x - 2, y + card[1] / 2) if wide else (width / 2, y - 2)
            start = (x - gap + 2, y + card[1] / 2) if wide else (width / 2, y - gap + 2)
            axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": style.MUTED, "linewidth": 1.2,
                                                      "shrinkA": 0, "shrinkB": 0})  # fmt: skip
    return figure


def _tall(axes: Axes, stage: Stage, x: float, y: float, width: float) -> None:
    style.say(axes, x + 12, y + 38, stage.count, size=10.5, weight="bold", color=style.CLEAN)
    cell = (width - 24 - 6) / 2
    for place, pixels in enumerate(stage.pictures):
        style.picture(axes, pixels, x + 12 + (place % 2) * (cell + 6), y + 62 + (place // 2) * (cell + 6), cell, cell)
    line = y + 62
    for text in stage.lines:
        line = style.say(axes, x + 12, line, text, size=9, width=width - 24, lines=4) + 5
    style.say(axes, x + 12, y + 190, stage.words, size=8.5, color=style.MUTED, width=width - 22, lines=5)


def _flat(axes: Axes, stage: Stage, x: float, y: float, width: float) -> None:
    style.say(axes, x + width - 12, y + 14, stage.count, size=10.5, weight="bold", color=style.CLEAN, ha="right")
    for place, pixels in enumerate(stage.pictures):
        style.picture(axes, pixels, x + 12 + place * 62, y + 38, 56, 56)
    line = y + 38
    for text in stage.lines:
        allowed = 2 if len(stage.lines) < 3 else 1
        line = style.say(axes, x + 12, line, text, size=9.5, width=width - 24, lines=allowed, leading=1.3) + 2
    style.say(axes, x + 12, y + 103, stage.words, size=9.5, color=style.MUTED, width=width - 24, lines=2)
