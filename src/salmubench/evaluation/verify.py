"""``evaluate --verify``: measure again what a report says, and name what differs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

from salmubench.errors import UserError
from salmubench.evaluation.metric import title
from salmubench.evaluation.outcomes import read_belonging
from salmubench.evaluation.protocol import Settings, evaluate
from salmubench.evaluation.report import MetricEntry, Report, read_report

TOLERANCE = {"fp32": 1e-5}
"""How far a number may be off, by precision: another batch size or device rounds differently."""
HALF_TOLERANCE = 1e-3


def tolerance(precision: str) -> float:
    """How far a number may be off and still be the same: 1e-5 in fp32, 1e-3 in half precisions."""
    return TOLERANCE.get(precision, HALF_TOLERANCE)


def verify(report: str | Path, checkpoint: str | Path, data: str | Path, **settings: Unpack[Settings]) -> list[str]:
    """Measures a checkpoint with the settings that a report records and compares.

    Args:
        report: path of the report; its limit, seed, precision, metric options and whether it left broken pictures out
            are taken over. Its sidecar, where it lies beside, must give the same means.
        checkpoint: the checkpoint that it speaks of.
        data: the data that it speaks of.
        settings: as for ``evaluate``, but for those that are taken over. The folder of general knowledge must be given
            again, as no report records a path; with both bounds the verdict is checked too. No embedding comes from a
            cache.

    Returns:
        One line a difference; none where the report is true. Numbers may be off by ``tolerance``.

    Raises:
        UserError: the report cannot be read, or what it was measured with is not there.
    """
    path = Path(report)
    stored = read_report(path)
    differences = []
    try:
        read_belonging(stored, path)
    except UserError as error:
        differences.append(str(error))
    options = {f"{key}.{name}": value for key, entry in stored.metrics.items() for name, value in entry.options.items()}
    origin = stored.provenance
    as_recorded: Settings = {
        **settings,
        "limit": origin.limit,
        "options": options,
        "skip_broken": bool(origin.skipped_pictures),
        "precision": origin.precision,
        "seed": origin.seed,
        "cache": False,
    }
    again = evaluate(checkpoint, data, name=stored.name, **as_recorded)
    differences += _origin(stored, again)
    for key in dict.fromkeys((*stored.metrics, *again.metrics)):
        if key not in again.metrics or key not in stored.metrics:
            where = "this version of salmubench" if key not in again.metrics else "the report"
            differences.append(f"{key}: not in {where}")
        else:
            differences += _entry(key, stored.metrics[key], again.metrics[key], tolerance(origin.precision))
    if settings.get("clean") is not None and (stored.verdict and stored.verdict.label) != (
        again.verdict and again.verdict.label
    ):
        differences.append(_line("verdict", *(found.verdict and found.verdict.label for found in (stored, again))))
    return differences


def _line(what: str, stored: Any, found: Any) -> str:
    return f"{what}: {stored} in the report, {found} now"


def _origin(stored: Report, again: Report) -> Iterator[str]:
    for what in (
        "weights_sha256",
        "architecture",
        "data_revision",
        "general_knowledge",
        "association_split",
        "sets",
        "skipped_pictures",
        "unlearning",
        "touched_holdout",
    ):
        said, found = (getattr(origin.provenance, what) for origin in (stored, again))
        if isinstance(said, dict) and isinstance(found, dict):
            keys = [key for key in sorted(said.keys() | found.keys()) if said.get(key) != found.get(key)]
            yield from (_line(f"{what}.{key}", said.get(key), found.get(key)) for key in keys)
        elif said != found:
            yield _line(what, said, found)


def _entry(key: str, stored: MetricEntry, again: MetricEntry, allowed: float) -> Iterator[str]:
    if stored.version != again.version:
        yield _line(f"{key} version", stored.version, again.version)
    if stored.target != again.target:
        yield _line(f"{key} target", stored.target, again.target)
    said, found = _numbers(key, stored), _numbers(key, again)
    for what in dict.fromkeys((*said, *found)):
        a, b = said.get(what), found.get(what)
        if a is None or b is None or not abs(a - b) <= allowed:
            yield _line(what, a, b)


def _numbers(key: str, entry: MetricEntry) -> dict[str, float]:
    """Every number of an entry by what it is: values, rows, ends of intervals, of the whole and of each group."""
    found: dict[str, float] = {} if entry.rows is None else {f"{key} rows": entry.rows}
    parts = [(title(key, number), value, entry.interval_of(number)) for number, value in entry.numbers().items()]
    for group in (entry.by_field, entry.by_style):
        parts += [(f"{key} {name}", part.value, part.interval) for name, part in group.items()]
        found |= {f"{key} {name} rows": part.rows for name, part in group.items()}
    for name, value, bounds in parts:
        found[name] = value
        found |= dict(zip((f"{name} interval from", f"{name} interval to"), bounds or (), strict=False))
    return found
