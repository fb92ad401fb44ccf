"""Confidence intervals: a bootstrap over people, since the rows of one person are not independent."""

import numpy as np
from numpy.typing import NDArray

from salmubench.evaluation.metric import Floats

DRAWS = 1000
LEVEL = 0.95
BLOCK = 1 << 22


def interval(
    outcomes: Floats, identity_id: NDArray[np.str_] | None, rng: np.random.Generator
) -> tuple[float, float] | None:
    """95 % percentile interval of the mean of ``outcomes``, resampling whole people with replacement.

    Args:
        outcomes: one number a row, (n,).
        identity_id: the row's person, (n,); a row of nobody ("") is a cluster of its own, as are all rows if None.
        rng: drives the 1,000 draws.

    Returns:
        The bounds, or None where there are fewer than two clusters and so nothing to resample.
    """
    cluster = np.arange(len(outcomes))
    if identity_id is not None:
        known = identity_id != ""
        people, index = np.unique(identity_id[known], return_inverse=True)
        cluster[known] = index
        cluster[~known] = len(people) + np.arange(np.count_nonzero(~known))
    count = np.bincount(cluster).astype(np.float64)
    total = np.bincount(cluster, weights=outcomes)
    clusters = len(count)
    if clusters < 2:
        return None
    means = np.empty(DRAWS)
    step = max(1, BLOCK // clusters)
    for start in range(0, DRAWS, step):
        drawn = rng.integers(clusters, size=(min(step, DRAWS - start), clusters))
        means[start : start + step] = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
