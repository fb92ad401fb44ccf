"""Two results side by side: our reports or the official evaluator's files, in any mix."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salmubench.errors import UserError
from salmubench.evaluation.bootstrap import interval
from salmubench.evaluation.metric import describe, title
from salmubench.evaluation.official import parse_official
from salmubench.evaluation.outcomes import Outcomes, read_belonging
from salmubench.evaluation.report import Report, is_official, outcomes_path, parse_report, read_result
from salmubench.evaluation.verdict import require_comparable
from salmubench.seeds import generator

Numbers = dict[str, dict[str, float | None]]


OFFICIAL = "{} is the official evaluator's: it has no per-row outcomes, and does not say what rows it measured"


@dataclass(frozen=True)
class ComparisonRow:
    """One headline number of both results, e.g. of ``RetFail`` or ``RetFail R@1``. ``difference`` is b - a.

    A number is None where its metric was skipped, the difference where either is. ``interval`` is the 95 % interval of
    the difference: the same people are drawn for both results, so that what is hard for both does not widen it. It is
    None where it cannot be told, and ``reason`` says why.
    """

    metric: str
    a: float | None
    b: float | None
    difference: float | None
    interval: tuple[float, float] | None = None
    reason: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class _Side:
    """One result: its numbers by metric, the value under ``""``; its report and outcomes where it has them."""

    name: str
    numbers: Numbers
    report: Report | None = None
    outcomes: dict[str, Outcomes] | None = None
    reason: str | None = None


def compare(a: str | Path | Report, b: str | Path | Report) -> list[ComparisonRow]:
    """All headline numbers of two results in the order of tables.

    Args:
        a: a report, the path of one, or the path of an official ``evaluation_<slug>.json``. Intervals need the paths of
            two reports with their sidecars beside them.
        b: the same.

    Raises:
        UserError: a file is neither; two reports measured different data, different versions of a metric or with
            different options; a sidecar is damaged, of another report, or has other rows than the other one.
    """
    first, second = _read(a), _read(b)
    if first.report and second.report:
        require_comparable(first.report, second.report)
    rows = []
    for spec in describe():
        left, right = first.numbers.get(spec.key, {}), second.numbers.get(spec.key, {})
        for number in dict.fromkeys(("", *spec.official_extra, *left, *right)):
            x, y = left.get(number), right.get(number)
            difference, bounds, reason = None, None, None
            if x is not None and y is not None:
                difference = y - x
                bounds, reason = _interval(first, second, spec.key, number)
            rows.append(ComparisonRow(title(spec.key, number), x, y, difference, bounds, reason))
    return rows


def _read(source: str | Path | Report) -> _Side:
    if isinstance(source, Report):
        reason = f"the report {source.name!r} was given without the path of its per-row outcomes"
        return _Side(source.name, _numbers(source), source, reason=reason)
    path = Path(source)
    content = read_result(path)
    if is_official(content):
        official = {
            key: {"" if name == "value" else name: number for name, number in members.items()}
            for key, members in parse_official(content, path).items()
        }
        return _Side(path.name, official, reason=OFFICIAL.format(path.name))
    report = parse_report(content, path)
    outcomes = read_belonging(report, path)
    missing = None if outcomes else f"{outcomes_path(path).name}, the per-row outcomes, is not there"
    return _Side(path.name, _numbers(report), report, outcomes, missing)


def _numbers(report: Report) -> Numbers:
    return {key: {"": entry.value, **entry.numbers()} for key, entry in report.metrics.items()}


def _interval(a: _Side, b: _Side, key: str, number: str) -> tuple[tuple[float, float] | None, str | None]:
    """The interval of b - a, or why there is none.

    Raises:
        UserError: the rows of the two sides do not match.
    """
    if a.outcomes is None or b.outcomes is None or a.report is None:
        return None, a.reason or b.reason
    name = title(key, number)
    left, right = a.outcomes[name], b.outcomes[name]
    if not np.array_equal(left.file_name, right.file_name) or not np.array_equal(left.identity_id, right.identity_id):
        odd = sorted({*left.file_name} ^ {*right.file_name})
        where = f", {odd[0]} in one alone" if odd else ""
        raise UserError(
            f"{a.name} and {b.name}: the rows of {name} do not match{where}; evaluate both on the same data with the "
            "same --limit and --seed"
        )
    rng = generator(a.report.provenance.seed, "bootstrap", key)
    bounds = interval(right.value - left.value, left.identity_id, rng)
    return bounds, None if bounds else f"{name} has rows of fewer than two people"
