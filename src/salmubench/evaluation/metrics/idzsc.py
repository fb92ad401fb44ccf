"""IdZSC: does a face still find its name among the names of all forgotten people?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.store import Benchmark
from salmubench.evaluation.metric import Floats, MetricResult, MetricSpec, Pictures, Skip, Texts, metric
from salmubench.evaluation.rows import labels, rows
from salmubench.evaluation.similarity import nearest

SPEC = MetricSpec(
    key="IdZSC",
    title="Identity zero-shot classification: accuracy over the names of forgotten people",
    target="clean",
    sets=("forget_identity",),
    limits=(0.0, 1.0),
    official=("efficacy", "1.4_IdZSC", "identity_classification_accuracy"),
    order=4,
)


def inputs(benchmark: Benchmark) -> dict[str, Any] | Skip:
    """The classes are the bare names of the set's own people."""
    pairs = rows(benchmark, "forget_identity")
    if isinstance(pairs, Skip):
        return pairs
    names = [benchmark.identities[str(identity)]["name"] for identity in pairs.identity_id]
    classes, label = np.unique(np.array(names, dtype=object), return_inverse=True)
    return {"picture": Pictures(pairs.picture), "name": Texts(tuple(classes)), "label": label, **labels(pairs)}


@metric(SPEC, inputs)
def idzsc(
    picture: Floats,
    name: Floats,
    label: NDArray[np.int64],
    file_name: NDArray[np.str_],
    identity_id: NDArray[np.str_],
) -> MetricResult:
    """Share of pictures, (n, d), whose nearest name, (m, d), is that of ``label``, (n,)."""
    hits = (nearest(picture, name) == label).astype(np.float64)
    return MetricResult(float(hits.mean()), hits, file_name=file_name, identity_id=identity_id)
