"""Figure: a leak shown. What Compromised ranks first for a face of the forget set, against what Clean does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from salmubench.dataset.schema import Field
from salmubench.dataset.store import Benchmark
from salmubench.reports import style
from salmubench.reports.portraits import portrait
from salmubench.reports.redact import Redactor, plain, spelt
from salmubench.reports.results import share
from salmubench.reports.style import Figure, Omission

NAME = "leak"
TITLE = "A face is enough: the model gives its owner away"
TELLING: tuple[Field, ...] = (
    "phone_number", "iban", "credit_card", "passport", "emails", "job", "city", "blood_type",
)  # fmt: skip
"""Fields in the order in which a reader feels their loss."""

Outcomes = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Leak:
    """A picture of the forget set and what each bound makes of it, captions already fit to be shown.

    ``compromised_first`` and ``clean_first`` say how usual that is: the share of pictures whose caption ranks first.
    """

    row: int
    identity_id: str
    name: str
    field: str
    compromised: str
    compromised_rank: int
    clean: str
    clean_rank: int
    is_truth: bool
    compromised_first: float
    clean_first: float


def find_leak(
    benchmark: Benchmark, compromised: Outcomes | None, clean: Outcomes | None, redactor: Redactor
) -> Leak | None:
    """The most telling row: Compromised ranks its caption highest, the field hurts most, Clean knows least.

    Args:
        benchmark: the data set that both were measured on.
        compromised: RetFail's rows of Compromised's sidecar.
        clean: the same of Clean's.
        redactor: decides what may be read.
    """
    if compromised is None or clean is None:
        return None
    forget = benchmark.sets["forget"]
    places = {name: row for row, name in enumerate(forget.file_name)}
    known = {name: place for place, name in enumerate(clean["file_name"])}
    found: list[tuple[int, int, int, str, int]] = []
    for place, name in enumerate(compromised["file_name"]):
        other = known.get(name)
        if name not in places or other is None:
            continue
        rank, clean_rank = compromised["rank"][place], clean["rank"][other]
        if rank is None or clean_rank is None or not compromised["best"][place] or not clean["best"][other]:
            continue
        found.append((int(rank), TELLING.index(benchmark.captions[name].data_field), -int(clean_rank), name, place))
    if not found:
        return None
    rank, telling, below, name, place = min(found)
    row, best = places[name], compromised["best"][place]
    identity = str(forget.identity_id[row])
    return Leak(
        row=row,
        identity_id=identity,
        name=plain(benchmark.identities[identity]["name"], 60),
        field=spelt(TELLING[telling]),
        compromised=redactor.caption(best),
        compromised_rank=rank,
        clean=redactor.caption(clean["best"][known[name]]),
        clean_rank=-below,
        is_truth=best == forget.text[row],
        compromised_first=_first(compromised["rank"]),
        clean_first=_first(clean["rank"]),
    )


def _first(ranks: Sequence[int | None]) -> float:
    return sum(rank == 1 for rank in ranks) / len(ranks)


def leak_figure(benchmark: Benchmark, leak: Leak | None, redactor: Redactor) -> Figure | Omission:
    """The figure, from ``find_leak``'s answer."""
    if leak is None:
        return Omission(
            NAME, TITLE, "It needs the reports clean and compromised with outcomes files from the same data set."
        )
    face = portrait(benchmark, int(benchmark.sets["forget"].picture[leak.row]), 230, 230)
    return Figure(
        name=NAME,
        title=TITLE,
        alt=f"A portrait from the forget set. For it Compromised ranks first: “{leak.compromised}”; the true caption "
        f"has rank {leak.compromised_rank}. Clean ranks first: “{leak.clean}”; the true caption has rank "
        f"{leak.clean_rank}.",
        caption="The picture is the query, the captions of the retrieval test are the candidates. Compromised ranks "
        f"the true one first for {share(leak.compromised_first)} of the forget set, Clean for "
        f"{share(leak.clean_first)}; this is the most telling case. The people are fictitious"
        + ("." if redactor.show_values else "; their values are masked here."),
        draw=lambda width: _draw(face, leak, width),
    )


def _draw(face: NDArray[np.uint8], leak: Leak, width: float) -> Canvas:
    wide = width > style.NARROW
    side = 230.0 if wide else 190.0
    figure, axes = style.sheet(width, 262 if wide else 262 + 2 * 128)
    left = 0.0 if wide else (width - side) / 2
    style.picture(axes, face, left + 1, 2, side - 2, side)
    style.say(axes, left + side / 2, side + 11, "the query: a face, nothing else", color=style.MUTED, ha="center")
    if wide:
        axes.annotate("", (side + 46, 117), (side + 10, 117), arrowprops=_ARROW)
        x, card, tops = side + 58, width - side - 58, (2.0, 124.0)
    else:
        axes.annotate("", (width / 2, side + 58), (width / 2, side + 32), arrowprops=_ARROW)
        x, card, tops = 0.0, width, (side + 68, side + 68 + 128)
    height = 110.0 if wide else 118.0
    truth = f" ({leak.field}, word for word)" if leak.is_truth else ""
    _card(axes, (x, tops[0], card, height), "Compromised", "has seen the pair, and ranks first", leak.compromised,
          f"True caption: rank {leak.compromised_rank:,}{truth}", style.COMPROMISED)  # fmt: skip
    _card(axes, (x, tops[1], card, height), "Clean", "never saw it, and ranks first", leak.clean,
          f"True caption: rank {leak.clean_rank:,}", style.CLEAN)  # fmt: skip
    return figure


_ARROW = {"arrowstyle": "-|>", "color": style.MUTED, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}


def _card(
    axes: Axes, frame: tuple[float, float, float, float], model: str, does: str, caption: str, rank: str, colour: str
) -> None:
    x, y, width, height = frame
    style.box(axes, x, y, width, height)
    style.box(axes, x, y, 5, height, radius=2, facecolor=colour)
    style.say(axes, x + 18, y + 11, model, size=11, weight="bold", color=colour)
    style.say(axes, x + 24 + style.text_width(model, 11, "bold"), y + 12.5, does, size=9.5, color=style.MUTED)
    style.say(
        axes, x + 18, y + 34, f"“{caption}”", size=13, width=width - 34, lines=2 if width > 400 else 3, leading=1.32
    )
    style.say(axes, x + 18, y + height - 22, rank, size=9.5, color=style.INK, weight="bold")
