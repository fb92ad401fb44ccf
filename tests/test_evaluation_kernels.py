import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from salmubench.evaluation import bootstrap, similarity
from salmubench.evaluation.bootstrap import interval
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
    block=st.sampled_from([1, 17, 1 << 20]), data=st.data(),
)  # fmt: skip
def test_exact_ranks_are_those_of_plain_loops(  # type: ignore[no-untyped-def]
    seed: int, rows: int, count: int, width: int, block: int, data
) -> None:
    """Some candidates are one of the targets again (to be dropped), some only have a target's embedding (a tie)."""
    rng = np.random.default_rng(seed)
    queries, targets, candidates = unit(rng, rows, width), unit(rng, rows, width), unit(rng, count, width)
    target_id = rng.integers(0, 5, rows)
    candidate_id = rng.integers(0, 9, count)
    for place in range(count):
        if data.draw(st.booleans()):
            candidates[place] = targets[rng.integers(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "BLOCK", block)
        rank, best = exact_ranks(queries, targets, candidates, target_id, candidate_id)
    assert rank.tolist() == naive_ranks(queries, targets, candidates, target_id, candidate_id)
    for row in range(rows):
        scores = [
            naive_cosine(queries[row], candidates[place]) if candidate_id[place] != target_id[row] else -math.inf
            for place in range(count)
        ]
        if rank[row] == 1:
            assert best[row] == -1
        else:
            assert scores[best[row]] == pytest.approx(max(scores), abs=1e-6)


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
        assert naive_cosine(a[row], b[place]) == pytest.approx(max(naive_cosine(a[row], y) for y in b), abs=1e-6)


def naive_interval(outcomes: list[float], people: list[str], rng: np.random.Generator) -> tuple[float, float]:
    clusters = [[x for x, who in zip(outcomes, people, strict=True) if who == p] for p in sorted(set(people) - {""})]
    clusters += [[x] for x, who in zip(outcomes, people, strict=True) if who == ""]
    means = []
    for _ in range(1000):
        values = [x for place in rng.integers(len(clusters), size=len(clusters)) for x in clusters[place]]
        means.append(math.fsum(values) / len(values))
    means.sort()
    bounds = []
    for share in (0.025, 0.975):
        place = share * 999
        low = math.floor(place)
        bounds.append(means[low] + (place - low) * (means[low + 1] - means[low]))
    return bounds[0], bounds[1]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    people=st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=2, max_size=15),
    block=st.sampled_from([1, 100, 1 << 22]),
)
def test_intervals_are_those_of_plain_loops(seed: int, people: list[str], block: int) -> None:
    people[0] = ""
    outcomes = np.random.default_rng(seed).random(len(people))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "BLOCK", block)
        found = interval(outcomes, np.array(people), np.random.default_rng(seed))
    expected = naive_interval(outcomes.tolist(), people, np.random.default_rng(seed))
    assert found == pytest.approx(expected, abs=1e-9)


def test_one_person_has_no_interval() -> None:
    assert interval(np.arange(9.0), np.array(["a"] * 9), np.random.default_rng(0)) is None
    assert interval(np.array([1.0]), None, np.random.default_rng(0)) is None


def test_rows_of_one_person_count_as_one_observation() -> None:
    """Each person's 50 rows agree: the interval must be as wide as that of 20 observations, not of 1,000."""
    outcomes = np.repeat(np.random.default_rng(1).random(20), 50)
    people = np.repeat([f"p{number}" for number in range(20)], 50)
    low, high = interval(outcomes, people, np.random.default_rng(0)) or (0, 0)
    alone = interval(outcomes, None, np.random.default_rng(0)) or (0, 0)
    assert low < outcomes.mean() < high
    assert (high - low) / (alone[1] - alone[0]) == pytest.approx(math.sqrt(50), rel=0.15)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        people = rng.normal(0.3, 1.0, 40)
        outcomes = np.repeat(people, 3) + rng.normal(0, 0.5, 120)
        low, high = interval(outcomes, np.repeat([f"{p}" for p in range(40)], 3), rng) or (0, 0)
        covered += low <= 0.3 <= high
    assert 0.88 <= covered / 200 <= 0.98
