"""Kernels over L2-normalised embeddings: cosines of pairs, nearest candidates, exact ranks. Memory stays bounded."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from salmubench.evaluation.metric import Floats, MetricResult
from salmubench.jobs import cores

BLOCK = 1 << 20
"""Numbers that a thread holds at once: a few MB, so that a block is still in the cache when it is looked at again."""
ROUNDING = np.float32(1e-5)
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
    """Index of the candidate, (m, d), with the largest cosine to each query, (n, d); the first of equals.

    Cosines that one float32 matrix product cannot tell apart are compared in float64, as in ``exact_ranks``.
    """
    found = np.empty(len(queries), np.int64)

    def work(block: slice) -> None:
        found[block] = _best(queries[block] @ candidates.T, queries[block], candidates)

    _on_all_cores(work, len(queries), len(candidates))
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
    float64. So the rank is that of exact arithmetic: it depends on neither block size, threads nor BLAS, and a model
    that maps two captions to one embedding has them tie.

    Args:
        queries: (n, d).
        targets: (n, d), the true candidate of each query.
        candidates: (m, d), shared by all queries.
        target_id: (n,).
        candidate_id: (m,); a candidate with the id of a query's target is that target again and does not count.

    Returns:
        The ranks, (n,), and for each query the index of its most similar candidate (the first of equals), or -1 where
        none is above the target.
    """
    target_cosine = row_cosines(queries, targets)
    repeated = np.isin(target_id, candidate_id)
    rank = np.ones(len(queries), np.int64)
    best = np.full(len(queries), -1, np.int64)

    def work(block: slice) -> None:
        query, limit = queries[block], target_cosine[block]
        scores = query @ candidates.T
        again = np.flatnonzero(repeated[block])
        scores[again] = np.where(target_id[block][again, None] == candidate_id, -np.inf, scores[again])
        middle = limit.astype(np.float32)[:, None]
        surely, perhaps = scores > middle + ROUNDING, scores > middle - ROUNDING
        certain, possible = np.count_nonzero(surely, axis=1), np.count_nonzero(perhaps, axis=1)
        close = np.flatnonzero(possible > certain)
        row, column = np.nonzero(perhaps[close] & ~surely[close])
        row = close[row]
        greater = _cosines_at(query, candidates, row, column) > limit[row]
        above = certain + np.bincount(row[greater], minlength=len(query))
        rank[block] += above
        best[block] = np.where(above > 0, _best(scores, query, candidates), -1)

    if len(candidates):
        _on_all_cores(work, len(queries), len(candidates))
    return rank, best


def _on_all_cores(work: Callable[[slice], None], count: int, width: int) -> None:
    """Runs ``work`` on every block of rows, one thread a block, as many at once as BLAS had threads of its own.

    A matrix product that takes all cores leaves them idle while numpy looks through it on one.
    """
    blas = ThreadpoolController().select(user_api="blas")
    threads = max((library.num_threads for library in blas.lib_controllers), default=cores())
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        deque(pool.map(work, _blocks(count, width)), maxlen=0)


def _best(scores: Floats, queries: Floats, candidates: Floats) -> NDArray[np.int64]:
    """The first column with a row's largest cosine, (b,); ``scores``, (b, m), decide what is beyond rounding."""
    best: NDArray[np.int64] = scores.argmax(axis=1)
    near = scores > scores.max(axis=1, keepdims=True) - ROUNDING
    tied = np.flatnonzero(np.count_nonzero(near, axis=1) > 1)
    row, column = np.nonzero(near[tied])
    order = np.lexsort((column, -_cosines_at(queries[tied], candidates, row, column), row))
    best[tied] = column[order][np.searchsorted(row, np.arange(len(tied)))]
    return best


def _cosines_at(
    queries: Floats, candidates: Floats, row: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Cosine of ``queries[row]`` with ``candidates[column]`` for each entry of the two, as ``row_cosines`` gives it."""
    cosines = np.empty(len(row), np.float64)
    for part in _blocks(len(row), queries.shape[1]):
        cosines[part] = row_cosines(queries[row[part]], candidates[column[part]])
    return cosines
