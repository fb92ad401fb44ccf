"""Intervals against explicit resampling of rows, and against the truth of simulated people."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from salmubench.evaluation import bootstrap
from salmubench.evaluation.bootstrap import DRAWS, interval, intervals

Draw = Callable[[int], list[int]]


def naive_interval(outcomes: list[float], people: list[str], draw: Draw) -> tuple[float, float]:
    """Rows resampled one by one: whole people, each row of nobody for itself. A draw of no row at all says nothing."""
    names = [*sorted(set(people) - {""}), *(f"row {row}" for row, who in enumerate(people) if who == "")]
    owner = [who or f"row {row}" for row, who in enumerate(people)]
    clusters = [[x for x, who in zip(outcomes, owner, strict=True) if who == name] for name in names]
    means = []
    for _ in range(DRAWS):
        values = [x for place in draw(len(clusters)) for x in clusters[place] if not math.isnan(x)]
        if values:
            means.append(math.fsum(values) / len(values))
    means.sort()
    bounds = []
    for share in (0.025, 0.975):
        place = share * (len(means) - 1)
        low = math.floor(place)
        bounds.append(means[low] + (place - low) * (means[min(low + 1, len(means) - 1)] - means[low]))
    return bounds[0], bounds[1]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    people=st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=2, max_size=15),
    block=st.sampled_from([1, 100, 1 << 18]),
)
def test_the_same_draws_give_the_intervals_of_plain_loops(seed: int, people: list[str], block: int) -> None:
    """Both columns see the same draws; the second speaks of some rows alone."""
    people[0] = ""
    outcomes = np.random.default_rng(seed).random((len(people), 2))
    outcomes[2:, 1][np.random.default_rng(seed).random(len(people) - 2) < 0.5] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "BLOCK", block)
        found = intervals(outcomes, np.array(people), np.random.default_rng(seed))
    for column, bounds in zip(outcomes.T.tolist(), found, strict=True):
        rng = np.random.default_rng(seed)
        if bounds is not None:
            naive = naive_interval(column, people, lambda size, rng=rng: rng.integers(size, size=size).tolist())  # type: ignore[misc]
            assert bounds == pytest.approx(naive, abs=1e-9)
    owners = {who or row for row, who in enumerate(people) if not math.isnan(outcomes[row, 1])}
    assert (found[1] is None) == (len(owners) < 2)


def test_other_draws_give_the_same_interval_within_chance() -> None:
    rng = np.random.default_rng(0)
    people = [f"p{row % 12}" for row in range(60)] + [""] * 10
    outcomes = rng.random(70)
    low, high = interval(outcomes, np.array(people), np.random.default_rng(1)) or (0, 0)
    other = np.random.default_rng(2)
    naive = naive_interval(outcomes.tolist(), people, lambda size: other.integers(size, size=size).tolist())
    assert (low, high) == pytest.approx(naive, abs=0.15 * (high - low))


def test_one_person_has_no_interval() -> None:
    assert interval(np.arange(9.0), np.array(["a"] * 9), np.random.default_rng(0)) is None
    assert interval(np.array([1.0]), None, np.random.default_rng(0)) is None


def test_equal_outcomes_have_an_interval_of_no_width() -> None:
    assert interval(np.ones(9), np.array(list("aabbccddd")), np.random.default_rng(0)) == (1.0, 1.0)


def test_rows_of_one_person_count_as_one_observation() -> None:
    """Each person's 50 rows agree: the interval must be as wide as that of 20 observations, not of 1,000."""
    outcomes = np.repeat(np.random.default_rng(1).random(20), 50)
    people = np.repeat([f"p{number}" for number in range(20)], 50)
    low, high = interval(outcomes, people, np.random.default_rng(0)) or (0, 0)
    alone = interval(outcomes, None, np.random.default_rng(0)) or (0, 0)
    assert low < outcomes.mean() < high
    assert (high - low) / (alone[1] - alone[0]) == pytest.approx(math.sqrt(50), rel=0.15)


def simulated(seed: int, people: int = 40) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """1 to 5 rows a person around a person's own level; the truth is 0.3."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(1, 6, people)
    owner = np.repeat(np.arange(people), rows)
    return rng.normal(0.3, 1.0, people)[owner] + rng.normal(0, 0.5, len(owner)), owner.astype(np.str_)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """And one that takes the rows for independent does not."""
    covered = alone = 0
    for seed in range(300):
        outcomes, people = simulated(seed)
        low, high = interval(outcomes, people, np.random.default_rng(seed)) or (0, 0)
        covered += low <= 0.3 <= high
        low, high = interval(outcomes, None, np.random.default_rng(seed)) or (0, 0)
        alone += low <= 0.3 <= high
    assert 0.90 <= covered / 300 <= 0.98
    assert alone / 300 < 0.85
