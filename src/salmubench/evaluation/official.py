"""The official evaluator's result file, ``evaluation_<slug>.json``: sections, keys and members as it writes them."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from salmubench.atomic import write_json
from salmubench.errors import UserError
from salmubench.evaluation.metric import MetricSpec, describe
from salmubench.evaluation.report import ROUNDING, Report, is_official, read_result

SKIPPED = -1.0
OUTCOMES = "outcomes"
"""Member of RetFail. What the official evaluator lists there is not published; we list each query's reciprocal rank."""


def write_official(report: Report, path: str | Path, *, reciprocal_ranks: Sequence[float] = ()) -> None:
    """Writes a report in the official evaluator's form; a skipped metric is -1.0."""
    sections: dict[str, dict[str, dict[str, Any]]] = {"efficacy": {}, "utility": {}}
    for spec in describe():
        if spec.official is None:
            continue
        section, key, member = spec.official
        entry = report.metrics[spec.key]
        members: dict[str, Any] = {member: SKIPPED if entry.value is None else entry.value}
        for extra, name in spec.official_extra.items():
            members[name] = (entry.model_extra or {}).get(extra, SKIPPED)
        sections[section][key] = members
        if spec.key == "RetFail":
            members[OUTCOMES] = list(reciprocal_ranks)
    write_json(Path(path), sections)


def read_official(path: str | Path) -> dict[str, dict[str, float | None]]:
    """Reads the official evaluator's file.

    Returns:
        Metric key -> {"value": ..., further headline numbers}; None where a number is missing or was skipped (-1.0).

    Raises:
        UserError: the file is missing, has neither section, or a number of it is none.
    """
    return parse_official(read_result(Path(path)), path)


def parse_official(content: Any, path: str | Path) -> dict[str, dict[str, float | None]]:
    """The same from decoded JSON; ``path`` is for errors."""
    if not is_official(content):
        raise UserError(f"{path}: has no sections efficacy and utility; give a file of the official evaluator")
    numbers: dict[str, dict[str, float | None]] = {}
    for spec in describe():
        if spec.official is None:
            continue
        section, key, member = spec.official
        members = content[section].get(key) or {}
        numbers[spec.key] = {"value": _number(path, spec, members, member)}
        for extra, name in spec.official_extra.items():
            numbers[spec.key][extra] = _number(path, spec, members, name)
    return numbers


def _number(path: str | Path, spec: MetricSpec, members: Mapping[str, Any] | float, member: str) -> float | None:
    value = members.get(member) if isinstance(members, Mapping) else members
    if value is None or value == SKIPPED:
        return None
    what = f"{path}: {spec.official and spec.official[1]}.{member} is"
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise UserError(f"{what} {str(value)[:40]!r}, not a number; write the file again")
    low, high = spec.limits
    if not low - ROUNDING <= value <= high + ROUNDING:
        raise UserError(f"{what} {value:g}, outside its range, {low:g} to {high:g}; write the file again")
    return float(value)
