"""Confidence intervals: a bootstrap over people, since the rows of one person are not independent."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salmubench.evaluation.metric import Floats

DRAWS = 1000
LEVEL = 0.95
BLOCK = 1 << 18
"""Draws x people held at once; small enough for the cache, which the counting walks over at random."""

Interval = tuple[float, float]


def intervals(outcomes: Floats, identity_id: NDArray[Any] | None, rng: np.random.Generator) -> list[Interval | None]:
    """95 % percentile intervals of the means of some columns, resampling whole people with replacement.

    All columns see the same draws. A draw is how often each person is taken; times each person's sums that gives all
    means in one matrix product.

    Args:
        outcomes: one number a row and column, (n, k); NaN where a row is not of the column's group.
        identity_id: each row's person, (n,); a row of nobody ("") is a cluster of its own, as are all rows if None.
        rng: drives the 1,000 draws; what it draws depends on the number of clusters alone.

    Returns:
        The bounds of each column, or None where its rows are of fewer than two clusters: there is nothing to resample.
    """
    return [percentiles(column) for column in resampled_means(outcomes, identity_id, rng).T]


def resampled_means(
    outcomes: Floats, identity_id: NDArray[Any] | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The means that ``intervals`` takes percentiles of, one row a draw, (1,000, k), for statistics made of means.

    A column is NaN throughout where its rows are of fewer than two clusters, and in a draw that holds nobody of it.
    """
    cluster = _clusters(len(outcomes), identity_id)
    size = int(cluster.max(initial=0)) + 1
    counted = ~np.isnan(outcomes)
    total, count = (
        np.column_stack([np.bincount(cluster, weights=column, minlength=size) for column in table.T])
        for table in (np.where(counted, outcomes, 0.0), counted.astype(np.float64))
    )
    means = np.empty((DRAWS, outcomes.shape[1]))
    row = 0
    for taken in _draws(size, rng):
        with np.errstate(invalid="ignore"):  # a draw may hold nobody of a small group: it says nothing of its mean
            means[row : row + len(taken)] = (taken @ total) / (taken @ count)
        row += len(taken)
    means[:, np.count_nonzero(count, axis=0) < 2] = np.nan
    return means


def resampled_weights(
    rows: int, identity_id: NDArray[Any] | None, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """How often each row is taken, (rows,), in each of the draws that ``resampled_means`` makes of the same people.

    For statistics that are no means, e.g. the area under a ROC curve.
    """
    cluster = _clusters(rows, identity_id)
    for taken in _draws(int(cluster.max(initial=0)) + 1, rng):
        for draw in taken:
            yield draw[cluster]


def _draws(size: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """How often each of ``size`` clusters is taken, some draws at a time, (b, size); 1,000 draws in all."""
    step = max(1, BLOCK // size)
    for start in range(0, DRAWS, step):
        drawn = rng.integers(size, size=(min(step, DRAWS - start), size))
        drawn += size * np.arange(len(drawn))[:, None]
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)


def percentiles(draws: NDArray[np.float64]) -> Interval | None:
    """The 95 % percentile interval of a statistic's draws, (1,000,); NaNs say nothing, and all NaN is None."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def interval(outcomes: Floats, identity_id: NDArray[Any] | None, rng: np.random.Generator) -> Interval | None:
    """The interval of one mean; ``outcomes`` has shape (n,), the rest is as for ``intervals``."""
    return intervals(outcomes[:, None], identity_id, rng)[0]


def _clusters(rows: int, identity_id: NDArray[Any] | None) -> NDArray[np.int64]:
    """Each row's cluster, (n,): people first, then the rows of nobody."""
    cluster = np.arange(rows)
    if identity_id is not None:
        known = identity_id != ""
        people, index = np.unique(identity_id[known], return_inverse=True)
        cluster[known] = index
        cluster[~known] = len(people) + np.arange(np.count_nonzero(~known))
    return cluster
