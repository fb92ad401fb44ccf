"""Which rows a step sees: budgets, equal steps, no row twice in a step, a function of the seed alone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salmubench.errors import UserError
from salmubench.unlearning.plan import make_plan

sizes = st.integers(2, 90)


@settings(max_examples=80, deadline=None)
@given(
    forget=sizes,
    extra=st.integers(0, 60),
    budget=st.floats(0.01, 3.5),
    batch=st.integers(2, 33),
    seed=st.integers(0, 9),
)
def test_budget_and_steps(forget: int, extra: int, budget: float, batch: int, seed: int) -> None:
    retain = batch + 1 + extra
    plan = make_plan(forget, retain, budget=budget, batch_size=batch, seed=seed)
    seen = np.concatenate(plan.forget)
    whole = math.floor(budget)
    fraction = max(2, round((budget - whole) * forget)) if budget > whole else 0
    assert len(seen) == whole * forget + fraction
    assert np.bincount(seen, minlength=forget).min() >= whole
    assert np.bincount(seen).max() <= math.ceil(budget)
    for number in range(len(plan)):
        rows, kept = plan.rows("forget", number), plan.rows("retain", number)
        assert 2 <= len(rows) == len(kept) <= batch + (batch == 2)
        assert len(set(rows)) == len(rows)
        assert len(set(kept)) == len(kept)
        assert kept.min() >= 0
        assert kept.max() < retain
        permutation = plan.permutation(number)
        assert sorted(permutation) == list(range(len(rows)))
        assert (permutation != np.arange(len(rows))).all()
    rows, counts = plan.consumed("retain", range(len(plan)))
    assert counts.sum() == len(seen)
    assert sum(map(len, plan.forget[: plan.first_pass])) == (forget if whole else fraction)
    assert (np.diff(rows) > 0).all()


@settings(max_examples=30, deadline=None)
@given(forget=sizes, batch=st.integers(2, 20), seed=st.integers(0, 99))
def test_same_seed_same_plan(forget: int, batch: int, seed: int) -> None:
    first, second = (make_plan(forget, 400, budget=2, batch_size=batch, seed=seed) for _ in range(2))
    assert all(map(np.array_equal, first.forget, second.forget))
    assert all(map(np.array_equal, first.retain, second.retain))
    assert all(np.array_equal(first.permutation(n), second.permutation(n)) for n in range(len(first)))


def test_retain_is_drawn_without_replacement() -> None:
    plan = make_plan(100, 120, budget=1, batch_size=10, seed=1)
    assert len(np.unique(np.concatenate(plan.retain))) == 100
    twice = make_plan(100, 120, budget=3, batch_size=10, seed=1).consumed("retain", range(30))[1]
    assert twice.max() <= 3


def test_seeds_and_passes_differ() -> None:
    one, other = (make_plan(50, 50, budget=2, batch_size=50, seed=seed) for seed in (1, 2))
    assert not np.array_equal(one.forget[0], other.forget[0])
    assert not np.array_equal(one.forget[0], one.forget[1])


def test_a_huge_retain_set_costs_nothing() -> None:
    assert len(make_plan(64, 400_000_000, budget=1, batch_size=32, seed=1)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 0}, "--budget 0"),
        ({"budget": float("nan")}, "--budget nan"),
        ({"budget": float("inf")}, "--budget inf"),
        ({"budget": 1e300}, "at most 1000"),
        ({"batch_size": 1}, "--batch-size 1"),
        ({"forget": 1}, "forget set holds 1"),
        ({"retain": 7}, "lower --batch-size"),
    ],
)
def test_impossible_plans(arguments: dict[str, float], message: str) -> None:
    wanted = {"forget": 20, "retain": 20, "budget": 1, "batch_size": 10, "seed": 42} | arguments
    with pytest.raises(UserError, match=message):
        make_plan(int(wanted["forget"]), int(wanted["retain"]), budget=wanted["budget"],
                  batch_size=int(wanted["batch_size"]), seed=42)  # fmt: skip
