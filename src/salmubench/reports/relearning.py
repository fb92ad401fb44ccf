"""Figure: what an attacker gets back. Leakage over the steps of relearning, from ``salmubench attack``'s files.

The files are read as strangers' are: what is not a curve of numbers is passed over.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salmubench.atomic import read_json
from salmubench.errors import UserError
from salmubench.reports import panels, style
from salmubench.reports.panels import Line, Panel
from salmubench.reports.redact import plain
from salmubench.reports.style import Figure, Omission

NAME = "recovery"
TITLE = "What a few steps of relearning bring back"
MOST_POINTS = 1000


@dataclass(frozen=True)
class Curve:
    """Leakage (MRR) of one attacked model over the steps of relearning, with what the file says beside each number.

    ``interval`` is the 95 % one and ``control`` what Clean gives after the same steps; None where the file has none.
    """

    name: str
    steps: tuple[int, ...]
    mrr: tuple[float, ...]
    interval: tuple[tuple[float, float] | None, ...]
    control: tuple[float | None, ...]


def is_attack(content: Any) -> bool:
    """Whether decoded JSON is a file of ``salmubench attack``."""
    return isinstance(content, dict) and "probes" in content and "metrics" not in content


def read_curves(path: Path) -> list[Curve]:
    """The relearning curve of an attack's file, over the people of whom nothing was taught; none where it has none.

    Raises:
        UserError: the file is missing, is no JSON or is none of an attack.
    """
    content = read_json(path)
    if not is_attack(content):
        raise UserError(f"{path}: not a file of `salmubench attack`; run the attack again")
    probe = _at(content["probes"], "relearning")
    points = _at(probe, "curve")
    found: dict[int, tuple[float, tuple[float, float] | None, float | None]] = {}
    for point in points[:MOST_POINTS] if isinstance(points, list) else ():
        steps, mrr = _at(point, "steps"), _share(_at(point, "mrr"))
        if type(steps) is int and 0 <= steps < 10**12 and mrr is not None:
            ends = _at(_at(point, "intervals"), "mrr")
            low, high = map(_share, ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
            interval = (low, high) if low is not None and high is not None else None
            found[steps] = (mrr, interval, _share(_at(_at(point, "control"), "mrr")))
    if len(found) < 2:
        return []
    order = tuple(sorted(found))
    return [
        Curve(
            name=plain(str(content.get("name") or path.stem), 60),
            steps=order,
            mrr=tuple(found[step][0] for step in order),
            interval=tuple(found[step][1] for step in order),
            control=tuple(found[step][2] for step in order),
        )
    ]


def _at(mapping: Any, key: str) -> Any:
    return mapping.get(key) if isinstance(mapping, Mapping) else None


def _share(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 <= value <= 1 else None


def relearning(curves: Sequence[Curve], compromised: float | None) -> Figure | Omission:
    """The small multiples.

    Args:
        curves: of every attacked model.
        compromised: RetFail of Compromised, where it is known.
    """
    attacked = sorted({(curve.name, curve.steps): curve for curve in curves}.values(), key=lambda curve: curve.name)
    if not attacked:
        return Omission(NAME, TITLE, "It needs the files that salmubench attack writes; name them beside the reports.")
    steps = sorted({step for curve in attacked for step in curve.steps})
    told = "; ".join(f"{curve.name} from {curve.mrr[0]:.3f} to {curve.mrr[-1]:.3f}" for curve in attacked)
    return Figure(
        name=NAME,
        title=TITLE,
        alt=f"Lines of retrieval leakage over steps of relearning. {told}.",
        caption="RetFail (MRR) of people of whom the attacker teaches nothing, while it fine-tunes the model on a few "
        "pairs of others. A method that only hid the pairs climbs faster than Clean under the same attack.",
        draw=lambda width: panels.draw(
            [_panel(curve, compromised, steps) for curve in attacked],
            width,
            ticks=_ticks(steps),
            across="steps of relearning",
        ),
    )


def _ticks(steps: Sequence[int]) -> list[tuple[float, str]]:
    """The steps evenly apart; of many only some are named."""
    every = math.ceil(len(steps) / 7)
    return [(float(place), f"{step:,}" if place % every == 0 else "") for place, step in enumerate(steps)]


def _panel(curve: Curve, compromised: float | None, steps: Sequence[int]) -> Panel:
    x = [float(steps.index(step)) for step in curve.steps]
    spread = [interval or (mrr, mrr) for interval, mrr in zip(curve.interval, curve.mrr, strict=True)]
    lines = [Line("attacked", x, curve.mrr, style.INK, spread)]
    control = [(place, value) for place, value in zip(x, curve.control, strict=True) if value is not None]
    if control:
        lines.append(Line("Clean", [place for place, _ in control], [value for _, value in control], style.CLEAN))
    if compromised is not None:
        level = (compromised, compromised)
        lines.append(Line("Compromised", (0.0, float(len(steps) - 1)), level, style.COMPROMISED, dashed=True))
    return Panel(curve.name, lines)
