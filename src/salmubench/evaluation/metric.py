"""What a metric is: a pure function of arrays, a spec that says how to read its value, and what it needs encoded.

A file in ``evaluation/metrics/`` holds one metric:

1. ``inputs(benchmark)`` names the arrays that the function takes. A ``Pictures`` or a ``Texts`` is replaced by the
   L2-normalised float32 embeddings of what it names, shape (n, d); anything else is passed on as it is. It may also
   return a ``Skip`` with the reason why this benchmark cannot give the metric.
2. the function itself, decorated with ``@metric(spec, inputs)``: arrays to a ``MetricResult``. It knows no model, disk,
   device or global random state.

The protocol collects what all metrics name, encodes every distinct picture and caption once, and calls the functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.store import Benchmark
from salmubench.registry import Registry

Floats = NDArray[np.float32] | NDArray[np.float64]
Target = Literal["clean", "compromised"]
SEED = 42
"""Drives what a metric draws (RetFail's distractors, ACS's permutation): part of its definition, not of a run."""


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
        extra: further headline numbers, e.g. ``{"R@1": 0.10}``.
        file_name: the picture of each outcome, shape (n,), str; empty if an outcome is not a data set row.
        identity_id: the person of each outcome, shape (n,), str ("" for nobody): the cluster of the bootstrap.
        columns: further per-row columns, each of shape (n,); the sidecar takes ``rank`` (int) and ``best`` (str).
    """

    value: float
    outcomes: Floats
    extra: Mapping[str, float] = field(default_factory=dict)
    file_name: NDArray[np.str_] | None = None
    identity_id: NDArray[np.str_] | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricSpec:
    """How to read a metric.

    Attributes:
        key: its name in reports, e.g. ``"RetFail"``.
        title: a line for people.
        target: the model that the best method equals: efficacy goes to Clean, utility stays at Compromised.
        sets: names of the benchmark's sets that it looks at.
        limits: smallest and largest possible value.
        version: grows when the definition changes, so that old and new numbers are never in one table.
        official: (section, key, member) in the official evaluator's JSON, e.g. ``("efficacy", "1.1_RetFail", "MRR")``;
            None for a metric that it does not know.
        official_extra: further members, by name in ``MetricResult.extra``, e.g. ``{"R@1": "R@1"}``.
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


Inputs = Callable[[Benchmark], Mapping[str, Any] | Skip]
Compute = Callable[..., MetricResult]


@dataclass(frozen=True)
class Metric:
    """A registered metric: ``compute(**arrays)`` with the arrays that ``inputs`` named."""

    spec: MetricSpec
    inputs: Inputs
    compute: Compute

    def __call__(self, **arrays: Any) -> MetricResult:
        return self.compute(**arrays)


metrics: Registry[Metric] = Registry("metric", "salmubench.evaluation.metrics")


def metric(spec: MetricSpec, inputs: Inputs) -> Callable[[Compute], Compute]:
    """Registers the decorated function as the metric ``spec.key`` and returns it unchanged."""

    def register(compute: Compute) -> Compute:
        metrics.add(spec.key, Metric(spec, inputs, compute))
        return compute

    return register


def describe() -> list[MetricSpec]:
    """The specs of all metrics, in the order of tables."""
    return sorted((metrics[key].spec for key in metrics), key=lambda spec: spec.order)
