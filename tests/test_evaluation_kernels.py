import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from salmubench.evaluation import similarity
from salmubench.evaluation.similarity import exact_ranks, nearest, row_cosines


def unit(rng: np.random.Generator, rows: int, width: int) -> NDArray[np.float32]:
    values = rng.standard_normal((rows, width))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def naive_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def naive_ranks(queries, targets, candidates, target_id, candidate_id) -> list[int]:  # type: ignore[no-untyped-def]
    ranks = []
    for query, target, own in zip(queries, targets, target_id, strict=True):
        true = naive_cosine(query, target)
        ranks.append(
            1
            + sum(
                naive_cosine(query, candidate) > true
                for candidate, other in zip(candidates, candidate_id, strict=True)
                if other != own
            )
        )
    return ranks


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), rows=st.integers(1, 20), count=st.integers(0, 20), width=st.integers(2, 9),
    block=st.sampled_from([1, 17, 1 << 20]), threads=st.integers(1, 4), data=st.data(),
)  # fmt: skip
def test_exact_ranks_are_those_of_plain_loops(  # type: ignore[no-untyped-def]
    seed: int, rows: int, count: int, width: int, block: int, threads: int, data
) -> None:
    """Some candidates are one of the targets again (to be dropped), some only have a target's embedding (a tie)."""
    rng = np.random.default_rng(seed)
    queries, targets, candidates = unit(rng, rows, width), unit(rng, rows, width), unit(rng, count, width)
    target_id = rng.integers(0, 5, rows)
    candidate_id = rng.integers(0, 9, count)
    for place in range(count):
        if data.draw(st.booleans()):
            candidates[place] = targets[rng.integers(rows)]
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(threads, "blas"):
        patch.setattr(similarity, "BLOCK", block)
        rank, best = exact_ranks(queries, targets, candidates, target_id, candidate_id)
    assert rank.tolist() == naive_ranks(queries, targets, candidates, target_id, candidate_id)
    for row in range(rows):
        scores = [
            naive_cosine(queries[row], candidates[place]) if candidate_id[place] != target_id[row] else -math.inf
            for place in range(count)
        ]
        assert best[row] == (-1 if rank[row] == 1 else scores.index(max(scores)))


def test_captions_with_one_embedding_tie_whatever_the_matrix_product_rounds_to() -> None:
    rng = np.random.default_rng(0)
    queries, one = unit(rng, 700, 128), unit(rng, 1, 128)
    targets, candidates = np.repeat(one, 700, axis=0), np.repeat(one, 300, axis=0)
    rank, best = exact_ranks(queries, targets, candidates, np.arange(700), np.arange(1000, 1300))
    assert rank.tolist() == [1] * 700
    assert best.tolist() == [-1] * 700


def test_candidates_within_rounding_are_told_apart() -> None:
    query = np.array([[1.0, 0.0]], dtype=np.float32)
    target = np.array([[0.5, math.sqrt(0.75)]], dtype=np.float32)
    above, below = target.copy(), target.copy()
    above[0, 0], below[0, 0] = (
        np.nextafter(np.float32(0.5), np.float32(1)),
        np.nextafter(np.float32(0.5), np.float32(0)),
    )
    candidates = np.concatenate([above, below, target])
    rank, best = exact_ranks(query, target, candidates, np.array([0]), np.array([1, 2, 3]))
    assert (rank[0], best[0]) == (2, 0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32), rows=st.integers(1, 30), width=st.integers(1, 9), block=st.sampled_from([1, 16, 4096])
)
def test_row_cosines_and_nearest(seed: int, rows: int, width: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = unit(rng, rows, width), unit(rng, rows, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "BLOCK", block)
        cosines, found = row_cosines(a, b), nearest(a, b)
    assert cosines.dtype == np.float64
    np.testing.assert_allclose(cosines, [naive_cosine(x, y) for x, y in zip(a, b, strict=True)], atol=1e-12)
    for row, place in enumerate(found):
        scores = [naive_cosine(a[row], y) for y in b]
        assert place == scores.index(max(scores))


@pytest.mark.parametrize("width", [7, 300])
def test_neither_threads_nor_blocks_move_a_bit_of_a_collapsed_model(width: int) -> None:
    """All embeddings lie within rounding of one another: float32 products alone would give noise as ranks."""
    rng = np.random.default_rng(0)
    middle = unit(rng, 1, width)
    drawn = [unit(rng, count, width) for count in (60, 60, 30)]
    queries, targets, candidates = (
        (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
        for near in (middle + 1e-4 * noise for noise in drawn)
    )
    candidates[15:] = candidates[:15]
    results = []
    for block, threads in ((1, 1), (999, 2), (1 << 20, 1), (4096, 4)):
        with pytest.MonkeyPatch.context() as patch, threadpool_limits(threads, "blas"):
            patch.setattr(similarity, "BLOCK", block)
            results.append(
                (
                    *exact_ranks(queries, targets, candidates, np.arange(60), np.arange(100, 130)),
                    nearest(queries, candidates),
                )
            )
    for result in results[1:]:
        for first, other in zip(results[0], result, strict=True):
            np.testing.assert_array_equal(first, other)
    rank, best, found = results[0]
    assert rank.tolist() == naive_ranks(queries, targets, candidates, np.arange(60), np.arange(100, 130))
    assert found.max() < 15  # the first of equals
    assert len(set(rank.tolist())) > 5
    np.testing.assert_array_equal(best, np.where(rank > 1, found, -1))
