"""Kernels over L2-normalised embeddings: cosines of pairs, nearest candidates, exact ranks. Memory stays bounded."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from salmubench.evaluation.metric import Floats, MetricResult

BLOCK = 1 << 20
"""Numbers that a kernel holds at once: a few MB, so that a block is still in the cache when it is looked at again."""
ROUNDING = 1e-5
"""Well above the error of a float32 inner product of unit vectors, some 1e-7."""


def _blocks(count: int, width: int) -> Iterator[slice]:
    step = max(1, BLOCK // max(1, width))
    return (slice(start, start + step) for start in range(0, count, step))


def row_cosines(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Cosine of each row of ``a`` with the same row of ``b``, both (n, d) of unit length, computed in float64.

    Each row is summed in one fixed order: equal rows give equal cosines, whatever stands around them.
    """
    cosines = np.empty(len(a), np.float64)
    for block in _blocks(len(a), a.shape[1]):
        np.einsum("ij,ij->i", a[block], b[block], dtype=np.float64, out=cosines[block])
    return cosines


def mean_cosine(
    picture: Floats, text: Floats, file_name: NDArray[np.str_], identity_id: NDArray[np.str_]
) -> MetricResult:
    """Mean over the rows of cos(picture, text)."""
    cosines = row_cosines(picture, text)
    return MetricResult(float(cosines.mean()), cosines, file_name=file_name, identity_id=identity_id)


def nearest(queries: Floats, candidates: Floats) -> NDArray[np.int64]:
    """Index of the candidate, (m, d), with the largest cosine to each query, (n, d); the first of equals."""
    found = np.empty(len(queries), np.int64)
    for block in _blocks(len(queries), len(candidates)):
        found[block] = (queries[block] @ candidates.T).argmax(axis=1)
    return found


def exact_ranks(
    queries: Floats,
    targets: Floats,
    candidates: Floats,
    target_id: NDArray[np.int64],
    candidate_id: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank of each query's target among itself and all candidates: 1 + how many are strictly more similar.

    One float32 matrix product decides all candidates but those within rounding of the target; these are compared in
    float64. So the rank is that of exact arithmetic: it depends on neither block size nor BLAS, and a model that maps
    two captions to one embedding has them tie.

    Args:
        queries: (n, d).
        targets: (n, d), the true candidate of each query.
        candidates: (m, d), shared by all queries.
        target_id: (n,).
        candidate_id: (m,); a candidate with the id of a query's target is that target again and does not count.

    Returns:
        The ranks, (n,), and for each query the index of its most similar candidate, or -1 where the target is it.
    """
    target_cosine = row_cosines(queries, targets)
    repeated = np.isin(target_id, candidate_id)
    rank = np.ones(len(queries), np.int64)
    best = np.full(len(queries), -1, np.int64)
    if len(candidates) == 0:
        return rank, best
    for block in _blocks(len(queries), len(candidates)):
        scores = queries[block] @ candidates.T
        again = np.flatnonzero(repeated[block])
        scores[again] = np.where(target_id[block][again, None] == candidate_id, -np.inf, scores[again])
        target = target_cosine[block, None].astype(np.float32)
        surely, perhaps = scores > target + np.float32(ROUNDING), scores > target - np.float32(ROUNDING)
        certain, possible = np.count_nonzero(surely, axis=1), np.count_nonzero(perhaps, axis=1)
        rank[block] += certain
        close = np.flatnonzero(possible > certain)
        row, column = np.nonzero(perhaps[close] & ~surely[close])
        query = close[row] + block.start
        for part in _blocks(len(query), queries.shape[1]):
            greater = row_cosines(queries[query[part]], candidates[column[part]]) > target_cosine[query[part]]
            np.add.at(rank, query[part], greater)
        best[block] = np.where(rank[block] > 1, scores.argmax(axis=1), -1)
    return rank, best
