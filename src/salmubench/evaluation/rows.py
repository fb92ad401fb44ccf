"""What metrics ask of a benchmark: the rows of a set, in a fixed order."""

from typing import Any

import numpy as np

from salmubench.dataset.store import Benchmark, PairSet
from salmubench.evaluation.metric import Inputs, Pictures, Skip, Texts


def rows(benchmark: Benchmark, name: str) -> PairSet | Skip:
    """The set ``name`` in the order of its file names, so that no score depends on the order of the stored rows."""
    pairs = benchmark.sets.get(name)
    if pairs is None or len(pairs) == 0:
        return Skip(f"the data have no rows of the set {name}")
    return pairs.take(pairs.name, sorted(range(len(pairs)), key=pairs.file_name.__getitem__))


def labels(pairs: PairSet) -> dict[str, Any]:
    """The arguments ``file_name`` and ``identity_id`` of a metric, each of shape (n,)."""
    return {
        "file_name": np.array(pairs.file_name, dtype=np.str_),
        "identity_id": np.array([identity or "" for identity in pairs.identity_id], dtype=np.str_),
    }


def pair_inputs(name: str, mend: str = "") -> Inputs:
    """Inputs of a metric that looks at the true pairs of one set: ``picture``, ``text`` and the labels.

    Args:
        name: the set.
        mend: what makes the set, for the reason why the metric is skipped.
    """

    def inputs(benchmark: Benchmark) -> dict[str, Any] | Skip:
        pairs = rows(benchmark, name)
        if isinstance(pairs, Skip):
            return Skip(f"{pairs.reason}; {mend}") if mend else pairs
        return {"picture": Pictures(pairs.picture), "text": Texts(pairs.text), **labels(pairs)}

    return inputs
