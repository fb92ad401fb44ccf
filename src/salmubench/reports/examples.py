"""Examples of what still leaks: the pictures of the forget set whose true caption a run still ranks first."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from salmubench.dataset.store import Benchmark
from salmubench.reports.leak import TELLING
from salmubench.reports.portraits import portrait
from salmubench.reports.redact import Redactor, plain, spelt

MOST = 6
SIDE = 64
"""Points of a portrait on the page."""


@dataclass(frozen=True)
class Example:
    """One picture with what the run makes of it; every text fit to be shown."""

    portrait: str
    name: str
    field: str
    caption: str
    rank: int
    best: str


def examples(benchmark: Benchmark, outcomes: Mapping[str, Sequence[Any]] | None, redactor: Redactor) -> list[Example]:
    """The pictures whose true caption ranks highest, each of another person where there are so many.

    Args:
        benchmark: the data set of the report.
        outcomes: RetFail's rows of the run's sidecar.
        redactor: decides what may be read.
    """
    forget = benchmark.sets["forget"]
    places = {name: row for row, name in enumerate(forget.file_name)}
    found = []
    for place, name in enumerate(outcomes["file_name"] if outcomes else ()):
        rank = outcomes["rank"][place] if outcomes else None
        if name in places and rank is not None and name in benchmark.captions:
            telling = TELLING.index(benchmark.captions[name].data_field)
            found.append((int(rank), telling, name, place))
    found.sort()
    seen: set[str] = set()
    chosen = []
    for row in found:
        who = str(forget.identity_id[places[row[2]]])
        if who not in seen:
            seen.add(who)
            chosen.append(row)
    chosen = sorted([*chosen, *(row for row in found[:MOST] if row not in chosen)][:MOST])
    return [_example(benchmark, places[name], rank, _best(outcomes, at), redactor) for rank, _, name, at in chosen]


def _best(outcomes: Mapping[str, Sequence[Any]] | None, place: int) -> str:
    return str(outcomes["best"][place] or "") if outcomes else ""


def _example(benchmark: Benchmark, row: int, rank: int, best: str, redactor: Redactor) -> Example:
    forget = benchmark.sets["forget"]
    stream = io.BytesIO()
    pixels = portrait(benchmark, int(forget.picture[row]), SIDE, SIDE)
    Image.fromarray(pixels).save(stream, "JPEG", quality=85, optimize=True)
    person = benchmark.identities[str(forget.identity_id[row])]
    return Example(
        portrait=base64.b64encode(stream.getvalue()).decode(),
        name=plain(person["name"], 60),
        field=spelt(benchmark.captions[forget.file_name[row]].data_field),
        caption=redactor.caption(forget.text[row]),
        rank=rank,
        best=redactor.caption(best) if best else "",
    )
