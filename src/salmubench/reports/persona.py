"""Figure: one persona, with the attributes that belong to it and some of its pictures with their captions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from salmubench.dataset.schema import FIELDS
from salmubench.dataset.store import Benchmark
from salmubench.reports import style
from salmubench.reports.portraits import portrait, rows_of, squarest
from salmubench.reports.redact import Redactor, plain, spelt
from salmubench.reports.style import Figure

NAME = "persona"
TITLE = "One persona: a name, eight facts, many pictures"
SHOWN = 6


@dataclass(frozen=True)
class Card:
    """A persona as it may be shown: pictures of shape (h, w, 3), texts already redacted."""

    name: str
    country: str
    facts: tuple[tuple[str, str], ...]
    face: NDArray[np.uint8]
    pictures: tuple[tuple[NDArray[np.uint8], str], ...]
    count: int


def persona_figure(benchmark: Benchmark, identity: str | None, redactor: Redactor) -> Figure:
    """The persona card of ``identity``, or of the forget set's first person."""
    forget = benchmark.sets["forget"]
    identity = identity or min(str(who) for who in forget.identity_id)
    rows = rows_of(forget, identity)
    front = squarest(forget, rows)
    person = benchmark.identities[identity]
    card = Card(
        name=plain(person["name"], 40),
        country=plain(person.get("country") or person.get("country_code", ""), 30),
        facts=tuple((spelt(field), redactor.value(person[field])) for field in FIELDS),
        face=portrait(benchmark, int(forget.picture[front]), 176, 176),
        pictures=tuple(
            (portrait(benchmark, int(forget.picture[row]), 112, 92), redactor.caption(forget.text[row]))
            for row in _varied(benchmark, [row for row in rows if row != front])
        ),
        count=len(rows),
    )
    told = "; ".join(f"{name}: {value}" for name, value in card.facts)
    return Figure(
        name=NAME,
        title=TITLE,
        alt=f"A portrait of the fictitious {card.name} with the attributes {told}, and {len(card.pictures)} further "
        "pictures of the same person, each with a caption.",
        caption="All of it is made up. One picture carries one caption, one caption tells one fact, always with the "
        "full name; no two captions of a fact are worded alike.",
        draw=lambda width: _draw(card, width),
    )


def _varied(benchmark: Benchmark, rows: Sequence[int]) -> list[int]:
    """Some rows that tell as many different facts as there are."""
    names = benchmark.sets["forget"].file_name
    seen: dict[str, int] = {}
    ranked = []
    for place, row in enumerate(rows):
        field = benchmark.captions[names[row]].data_field
        seen[field] = seen.get(field, 0) + 1
        ranked.append((seen[field], place, row))
    return [row for _, _, row in sorted(ranked)[:SHOWN]]


def _draw(card: Card, width: float) -> Canvas:
    wide = width > style.NARROW
    if wide:
        figure, axes = style.sheet(width, 316)
        style.picture(axes, card.face, 1, 2, 176, 176)
        below = style.say(axes, 0, 190, card.name, size=13, weight="bold", width=180, lines=2)
        about = f"{card.country} · {card.count} pictures to forget"
        style.say(axes, 0, below + 2, about, color=style.MUTED, width=180, lines=2)
        _facts(axes, card, 198, 2, 172, 33.5)
        _grid(axes, card, 392, 2, width - 392, 3)
        return figure
    rows = -(-len(card.pictures) // 2)
    figure, axes = style.sheet(width, 130 + 8 * 26 + 14 + rows * 160)
    style.picture(axes, card.face, 1, 2, 108, 108)
    below = style.say(axes, 122, 12, card.name, size=14, weight="bold", width=width - 124, lines=2)
    style.say(axes, 122, below + 4, card.country, color=style.MUTED, size=10)
    style.say(axes, 122, below + 20, f"{card.count} pictures to forget", color=style.MUTED, size=10)
    _facts(axes, card, 0, 128, width, 26)
    _grid(axes, card, 0, 128 + 8 * 26 + 12, width, 2)
    return figure


def _facts(axes: Axes, card: Card, x: float, y: float, width: float, step: float) -> None:
    """Label over value where the column is slim, label beside value where rows are low."""
    beside = step < 30
    for number, (name, value) in enumerate(card.facts):
        top = y + number * step
        style.say(axes, x, top + (4 if beside else 0), name, size=8.5 if not beside else 9.5, color=style.MUTED)
        left = x + 92 if beside else x
        row, size = style.fit(value, width - (left - x), 10.5)
        style.say(axes, left, top + (3 if beside else 11.5), row, size=size)
        axes.plot((x, x + width), (top + step - 5,) * 2, color=style.LINE, linewidth=0.6)


def _grid(axes: Axes, card: Card, x: float, y: float, width: float, columns: int) -> None:
    gap = 12.0
    cell = (width - gap * (columns - 1)) / columns
    for number, (pixels, caption) in enumerate(card.pictures):
        left, top = x + (number % columns) * (cell + gap), y + (number // columns) * 160
        style.picture(axes, pixels, left, top, cell - 1, 98 if columns == 3 else 104)
        style.say(
            axes,
            left,
            top + (105 if columns == 3 else 111),
            caption,
            size=8.5,
            width=cell,
            lines=4 if columns == 3 else 3,
        )
