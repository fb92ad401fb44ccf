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
    """Leakage (MRR) of one attacked model over the steps of relearning."""

    name: str
    steps: tuple[int, ...]
    mrr: tuple[float, ...]


def is_attack(content: Any) -> bool:
    """Whether decoded JSON is a file of ``salmubench attack``."""
    return isinstance(content, dict) and "probes" in content and "metrics" not in content


def read_curves(path: Path) -> list[Curve]:
    """The relearning curves of an attack's file: the model's and, where the file holds them, its controls'.

    Raises:
        UserError: the file is missing, is no JSON or is none of an attack.
    """
    content = read_json(path)
    if not is_attack(content):
        raise UserError(f"{path}: not a file of `salmubench attack`; run the attack again")
    probes = content["probes"]
    probe = probes.get("relearning") if isinstance(probes, Mapping) else None
    if not isinstance(probe, Mapping):
        return []
    name = plain(str(content.get("name") or path.stem), 60)
    controls = probe.get("controls")
    told = [(name, probe.get("curve"))]
    if isinstance(controls, Mapping):
        told += [(plain(str(key), 60), _curve_of(each)) for key, each in controls.items()]
    return [curve for name, points in told if (curve := _curve(name, points))]


def _curve_of(each: Any) -> Any:
    return each.get("curve") if isinstance(each, Mapping) else each


def _curve(name: str, points: Any) -> Curve | None:
    found: dict[int, float] = {}
    for point in points[:MOST_POINTS] if isinstance(points, list) else ():
        if isinstance(point, Mapping):
            steps, mrr = point.get("steps"), point.get("mrr")
            value: Any = mrr.get("value") if isinstance(mrr, Mapping) else mrr
            if type(steps) is int and 0 <= steps < 10**12 and type(value) in (int, float) and 0 <= value <= 1:
                found[steps] = float(value)
    order = tuple(sorted(found))
    return Curve(name, order, tuple(found[step] for step in order)) if len(order) > 1 else None


def recovery(curves: Sequence[Curve], bounds: Mapping[str, float]) -> Figure | Omission:
    """The small multiples.

    Args:
        curves: of every attacked model; one called ``clean`` is the control in every panel.
        bounds: RetFail of ``compromised``, where it is known.
    """
    unique = {(curve.name, curve.steps): curve for curve in curves}.values()
    control = next((curve for curve in unique if curve.name == "clean"), None)
    attacked = sorted((curve for curve in unique if curve.name != "clean"), key=lambda curve: curve.name)
    if not attacked:
        return Omission(NAME, TITLE, "It needs files of `salmubench attack`; name them beside the reports.")
    steps = sorted({step for curve in (*attacked, *((control,) if control else ())) for step in curve.steps})
    told = "; ".join(f"{curve.name} from {curve.mrr[0]:.3f} to {curve.mrr[-1]:.3f}" for curve in attacked)
    return Figure(
        name=NAME,
        title=TITLE,
        alt=f"Lines of retrieval leakage over steps of relearning. {told}.",
        caption="RetFail (MRR) of forget pairs that the attacker does not train on, while it fine-tunes the unlearned "
        "model on a few others. A method that only hid the pairs climbs faster than Clean, the control.",
        draw=lambda width: panels.draw(
            [_panel(curve, control, bounds.get("compromised"), steps) for curve in attacked],
            width,
            ticks=_ticks(steps),
            across="steps of relearning",
        ),
    )


def _ticks(steps: Sequence[int]) -> list[tuple[float, str]]:
    """The steps evenly apart; of many only some are named."""
    every = math.ceil(len(steps) / 7)
    return [(float(place), f"{step:,}" if place % every == 0 else "") for place, step in enumerate(steps)]


def _panel(curve: Curve, control: Curve | None, compromised: float | None, steps: Sequence[int]) -> Panel:
    def along(name: str, of: Curve, colour: str) -> Line:
        return Line(name, [float(steps.index(step)) for step in of.steps], of.mrr, colour)

    lines = [along("attacked", curve, style.INK)]
    if control:
        lines.append(along("Clean", control, style.CLEAN))
    if compromised is not None:
        lines.append(
            Line("before", (0.0, float(len(steps) - 1)), (compromised,) * 2, style.COMPROMISED, dashed=True),
        )
    return Panel(curve.name, lines)
