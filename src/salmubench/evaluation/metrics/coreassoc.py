"""CoreAssoc: the bare association of a face with a name and a fact, without the sentence around them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.store import Benchmark
from salmubench.evaluation.metric import Floats, MetricResult, MetricSpec, Pictures, Skip, Texts, metric
from salmubench.evaluation.rows import labels, rows
from salmubench.evaluation.similarity import row_cosines

SPEC = MetricSpec(
    key="CoreAssoc",
    title="Core association: cosine of a face with name and value alone",
    target="clean",
    sets=("forget",),
    limits=(-1.0, 1.0),
    official=("efficacy", "1.5_CoreAssoc", "mean"),
    order=5,
)


def inputs(benchmark: Benchmark) -> dict[str, Any] | Skip:
    """Name and value of each forget row come from the side files, in both orders."""
    pairs = rows(benchmark, "forget")
    if isinstance(pairs, Skip):
        return pairs
    name_first, value_first = [], []
    for file_name, identity in zip(pairs.file_name, pairs.identity_id, strict=True):
        facts = benchmark.identities[str(identity)]
        name, value = facts["name"], facts[benchmark.captions[file_name].data_field]
        name_first.append(f"{name} {value}")
        value_first.append(f"{value} {name}")
    return {
        "picture": Pictures(pairs.picture),
        "name_first": Texts(tuple(name_first)),
        "value_first": Texts(tuple(value_first)),
        **labels(pairs),
    }


@metric(SPEC, inputs)
def coreassoc(
    picture: Floats,
    name_first: Floats,
    value_first: Floats,
    file_name: NDArray[np.str_],
    identity_id: NDArray[np.str_],
) -> MetricResult:
    """Mean over rows of max(cos(picture, "name value"), cos(picture, "value name")); all arrays (n, d)."""
    cosines = np.maximum(row_cosines(picture, name_first), row_cosines(picture, value_first))
    return MetricResult(float(cosines.mean()), cosines, file_name=file_name, identity_id=identity_id)
