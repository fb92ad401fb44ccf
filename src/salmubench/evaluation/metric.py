"""What a metric is: a pure function of arrays, a spec that says how to read its value, and what it needs encoded.

A file in ``evaluation/metrics/`` holds one metric:

1. ``inputs(benchmark)`` names the arrays that the function takes. A ``Pictures`` or a ``Texts`` is replaced by the
   L2-normalised float32 embeddings of what it names, shape (n, d); anything else is passed on as it is. It may also
   return a ``Skip`` with the reason why this benchmark cannot give the metric.
2. the function itself, decorated with ``@metric(spec, inputs)``: arrays to a ``MetricResult``. It knows no model, disk,
   device or global random state.
3. where the paper leaves something open, a frozen dataclass of options, passed as ``options=`` to the decorator and
   from there to ``inputs(benchmark, options)``, which hands on to the function what this needs of them.
   ``evaluate --set METRIC.option=value`` sets them, and a report names those that are not the default.

The protocol collects what all metrics name, encodes every distinct picture and caption once, and calls the functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.store import Benchmark
from salmubench.errors import UserError
from salmubench.options import NoOptions, parse_options
from salmubench.registry import Registry

Floats = NDArray[np.float32] | NDArray[np.float64]
Target = Literal["clean", "compromised"]
SEED = 42
"""The default of what a metric draws with (its option ``seed``): part of its definition, not of a run."""


@dataclass(frozen=True)
class Pictures:
    """Embeddings of these pictures: ``index`` counts in ``Benchmark.pictures``, shape (n,), repeats allowed."""

    index: NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """Embeddings of these texts, in this order, repeats allowed."""

    text: tuple[str, ...]


@dataclass(frozen=True)
class Skip:
    """Why a benchmark cannot give a metric, as one sentence for the report."""

    reason: str


@dataclass(frozen=True)
class MetricResult:
    """A metric's value with what it is made of.

    Attributes:
        value: the headline number: the mean of ``outcomes``.
        outcomes: one number a row (a cosine, a reciprocal rank, a hit), shape (n,), float64.
        extra: further headline numbers by name, e.g. ``"R@1"``: one outcome a row each, (n,); the number is their mean.
        file_name: what names each outcome's row in every report on the same data, shape (n,), str.
        identity_id: the person of each outcome, shape (n,), str ("" for nobody): the cluster of the bootstrap.
        columns: further per-row columns, each of shape (n,); the sidecar takes ``rank`` (int) and ``best`` (str).
    """

    value: float
    outcomes: Floats
    extra: Mapping[str, Floats] = field(default_factory=dict)
    file_name: NDArray[np.str_] | None = None
    identity_id: NDArray[np.str_] | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def numbers(self) -> dict[str, Floats]:
        """The outcomes of every headline number: those of the value under ``""``, then the extras."""
        return {"": self.outcomes, **self.extra}


def title(key: str, number: str = "") -> str:
    """What tables and sidecars call a metric's number: ``RetFail``, ``RetFail R@1``."""
    return f"{key} {number}".strip()


@dataclass(frozen=True)
class MetricSpec:
    """How to read a metric.

    Attributes:
        key: its name in reports, e.g. ``"RetFail"``.
        title: a line for people.
        target: the model that the best method equals: efficacy goes to Clean, utility stays at Compromised.
        sets: names of the benchmark's sets that it looks at.
        limits: smallest and largest possible value, of the further numbers too; a report with any other is refused.
        version: grows when the definition changes, so that old and new numbers are never in one table.
        official: (section, key, member) in the official evaluator's JSON, e.g. ``("efficacy", "1.1_RetFail", "MRR")``;
            None for a metric that it does not know.
        official_extra: members of further numbers, by name in ``MetricResult.extra``, e.g. ``{"R@1": "R@1"}``.
        order: its place in tables, 1 to 10 for the paper's own.
    """

    key: str
    title: str
    target: Target
    sets: tuple[str, ...]
    limits: tuple[float, float]
    order: int
    official: tuple[str, str, str] | None = None
    version: int = 1
    official_extra: Mapping[str, str] = field(default_factory=dict)


Inputs = Callable[..., Mapping[str, Any] | Skip]
"""``inputs(benchmark)``, or ``inputs(benchmark, options)`` of a metric that has options."""
Compute = Callable[..., MetricResult]


@dataclass(frozen=True)
class Metric:
    """A registered metric: ``compute(**arrays)`` with the arrays that ``inputs`` named."""

    spec: MetricSpec
    collect: Inputs
    compute: Compute
    options: type = NoOptions

    def inputs(self, benchmark: Benchmark, options: Any = None) -> Mapping[str, Any] | Skip:
        """What the metric asks of a benchmark, with its default options where none are given."""
        if self.options is NoOptions:
            return self.collect(benchmark)
        return self.collect(benchmark, options or self.options())

    def __call__(self, **arrays: Any) -> MetricResult:
        return self.compute(**arrays)


metrics: Registry[Metric] = Registry("metric", "salmubench.evaluation.metrics")


def metric(spec: MetricSpec, inputs: Inputs, *, options: type = NoOptions) -> Callable[[Compute], Compute]:
    """Registers the decorated function as the metric ``spec.key`` and returns it unchanged.

    Args:
        spec: how to read it.
        inputs: what it takes of a benchmark.
        options: a frozen dataclass, every field with a default, ``Annotated[..., pydantic.Field(description=...)]``.
    """

    def register(compute: Compute) -> Compute:
        metrics.add(spec.key, Metric(spec, inputs, compute, options), source=compute)
        return compute

    return register


def configure(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of every metric by its key, from settings such as ``{"ACS.feature": "product"}``.

    Raises:
        UserError: a setting names no metric or no option of it, or its value does not fit.
    """
    by_metric: dict[str, dict[str, Any]] = {key: {} for key in metrics}
    for name, value in (settings or {}).items():
        key, dot, option = name.partition(".")
        if not dot:
            raise UserError(f"--set {name}={value}: write it as METRIC.option=value, e.g. ACS.feature=product")
        by_metric[metrics[key].spec.key][option] = value
    return {
        key: parse_options(metrics[key].options, chosen, owner=f"metric {key!r}", prefix=f"{key}.")
        for key, chosen in by_metric.items()
    }


def describe() -> list[MetricSpec]:
    """The specs of all metrics, in the order of tables."""
    return sorted((metrics[key].spec for key in metrics), key=lambda spec: spec.order)
