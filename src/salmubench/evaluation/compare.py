"""Two results side by side: our reports or the official evaluator's files, in any mix."""

from dataclasses import dataclass
from pathlib import Path

from salmubench.atomic import read_json
from salmubench.evaluation.metric import describe
from salmubench.evaluation.official import is_official, read_official
from salmubench.evaluation.report import Report, read_report
from salmubench.evaluation.verdict import require_comparable


@dataclass(frozen=True)
class ComparisonRow:
    """One headline number of both results, e.g. of ``RetFail`` or ``RetFail R@1``. ``difference`` is b - a.

    A number is None where its metric was skipped, the difference where either is.
    """

    metric: str
    a: float | None
    b: float | None
    difference: float | None


def compare(a: str | Path | Report, b: str | Path | Report) -> list[ComparisonRow]:
    """All headline numbers of two results in the order of tables.

    Args:
        a: a report, the path of one, or the path of an official ``evaluation_<slug>.json``.
        b: the same.

    Raises:
        UserError: a file is neither; two reports measured different data or different versions of a metric.
    """
    first, second = _read(a), _read(b)
    if isinstance(first, Report) and isinstance(second, Report):
        require_comparable(first, second)
    left, right = _numbers(first), _numbers(second)
    rows = []
    for spec in describe():
        for name in ("value", *spec.official_extra):
            x, y = left.get(spec.key, {}).get(name), right.get(spec.key, {}).get(name)
            title = spec.key if name == "value" else f"{spec.key} {name}"
            rows.append(ComparisonRow(title, x, y, None if x is None or y is None else y - x))
    return rows


Numbers = dict[str, dict[str, float | None]]


def _read(source: str | Path | Report) -> Report | Numbers:
    if isinstance(source, Report):
        return source
    content = read_json(Path(source))
    return read_official(source) if is_official(content) else read_report(Path(source))


def _numbers(result: Report | Numbers) -> Numbers:
    if not isinstance(result, Report):
        return result
    return {key: {"value": entry.value, **(entry.model_extra or {})} for key, entry in result.metrics.items()}
