"""A metric's entry in the report, and its parts: which field leaks, in which wording, whose?"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.schema import FIELDS, STYLES, CaptionInfo
from salmubench.errors import UserError
from salmubench.evaluation.bootstrap import interval, intervals
from salmubench.evaluation.metric import Floats, MetricResult, MetricSpec, Skip, title
from salmubench.evaluation.outcomes import read_belonging
from salmubench.evaluation.report import Group, MetricEntry, outcomes_path, read_report
from salmubench.options import changed
from salmubench.seeds import generator

By = Literal["field", "style", "identity"]


@dataclass(frozen=True)
class BreakdownRow:
    """One number over the rows of one group, with its 95 % interval (None where it cannot be told)."""

    metric: str
    group: str
    rows: int
    value: float
    interval: tuple[float, float] | None


def entry(
    spec: MetricSpec, result: MetricResult | Skip, options: Any, captions: Mapping[str, CaptionInfo], seed: int
) -> MetricEntry:
    """What a report says of a metric: its numbers, their intervals, and its value by field and by caption style.

    Args:
        spec: the metric's.
        result: what it gave.
        options: what it was set to.
        captions: file name -> field and style, where they are known.
        seed: of the intervals.
    """
    facts: dict[str, Any] = {"version": spec.version, "target": spec.target, "options": changed(options)}
    if isinstance(result, Skip):
        return MetricEntry(value=None, reason=result.reason, **facts)
    numbers = result.numbers()
    rng = generator(seed, "bootstrap", spec.key)
    columns = np.stack([*numbers.values()], axis=1, dtype=np.float64)
    bounds = dict(zip(numbers, intervals(columns, result.identity_id, rng), strict=True))
    names = [] if result.file_name is None else result.file_name.tolist()
    known = [captions.get(name) for name in names]
    for name, labels in (
        ("by_field", [info.data_field if info else "" for info in known]),
        ("by_style", [(info.style if info else None) or "" for info in known]),
    ):
        facts[name] = _groups(result.outcomes, np.array(labels, dtype=object), result.identity_id, spec.key, seed)
    return MetricEntry(
        value=result.value,
        interval=bounds.pop(""),
        intervals=bounds,
        rows=len(result.outcomes),
        **facts,
        **{name: float(outcomes.mean()) for name, outcomes in result.extra.items()},
    )


def breakdown(report: str | Path, by: By = "field", *, metric: str | None = None) -> list[BreakdownRow]:
    """A stored report's numbers over the rows of each field, caption style or person.

    Args:
        report: path of ``report.json``; its per-row outcomes lie beside it.
        by: ``"field"``, ``"style"`` or ``"identity"``. A person's interval says how sure the mean over their pictures
            is; those of fields and styles resample people, as those of the whole do.
        metric: one number alone, e.g. ``"RetFail R@1"``; by default all, of people RetFail's.

    Returns:
        Number by number in the order of the report, for those that have such rows. Fields and styles stand in their
        published order; people with the worst first: the largest leak, or the lowest utility.

    Raises:
        UserError: report or sidecar are missing, damaged or do not belong together; ``by`` is none of the three, or no
            row of ``metric`` belongs to such a group.
    """
    path = Path(report)
    if by not in get_args(By):
        raise UserError(f"--by {by}: choose from {', '.join(get_args(By))}")
    content = read_report(path)
    outcomes = read_belonging(content, path)
    if outcomes is None:
        raise UserError(
            f"{outcomes_path(path)}: no such file; a break-down needs the per-row outcomes beside the report"
        )
    wanted = metric or ("RetFail" if by == "identity" else None)
    found = []
    for key, stored in content.metrics.items():
        for number in stored.numbers():
            if wanted not in (None, title(key, number)):
                continue
            rows = outcomes[title(key, number)]
            if by == "identity":
                groups = _people(rows.value, rows.identity_id, key, content.provenance.seed)
                worst = -1 if stored.target == "clean" else 1
                groups = dict(sorted(groups.items(), key=lambda item: (worst * item[1].value, item[0])))
            else:
                labels = rows.data_field if by == "field" else rows.style
                groups = _groups(rows.value, labels, rows.identity_id, key, content.provenance.seed)
            found += [
                BreakdownRow(title(key, number), name, group.rows, group.value, group.interval)
                for name, group in groups.items()
            ]
    if not found:
        names = [title(key, number) for key, stored in content.metrics.items() for number in stored.numbers()]
        known = ", ".join(names)
        if wanted is not None and wanted not in names:
            raise UserError(f"--metric {wanted}: {path} has no such number; choose one of {known}")
        raise UserError(f"{path}: no row of {wanted or known} tells its {by}; choose another --metric or --by")
    return found


def _groups(
    values: Floats, labels: NDArray[np.object_], identity_id: NDArray[Any] | None, key: str, seed: int
) -> dict[str, Group]:
    """The mean of the rows of each field or style, which ``labels``, (n,), names; all see the same people drawn."""
    names = [name for name in (*FIELDS, *STYLES) if np.any(labels == name)]
    if not names:
        return {}
    columns = np.stack([np.where(labels == name, values, np.nan) for name in names], axis=1, dtype=np.float64)
    bounds = intervals(columns, identity_id, generator(seed, "bootstrap", key))
    return {
        name: Group(
            rows=int(np.count_nonzero(labels == name)), value=float(values[labels == name].mean()), interval=bound
        )
        for name, bound in zip(names, bounds, strict=True)
    }


def _people(values: Floats, identity_id: NDArray[np.object_], key: str, seed: int) -> dict[str, Group]:
    known = identity_id != ""
    names, counts = np.unique(identity_id[known], return_counts=True)
    rows = values[known][np.argsort(identity_id[known], kind="stable")]
    groups = {}
    for name, own in zip(names.tolist(), np.split(rows, np.cumsum(counts)[:-1]), strict=False):
        bound = interval(own, None, generator(seed, "bootstrap", key, name))
        groups[name] = Group(rows=len(own), value=float(own.mean()), interval=bound)
    return groups
