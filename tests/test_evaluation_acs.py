"""ACS against plain loops."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from metrics_world import (
    Vector,
    cosine,
    filled,
    mean,
    random_benchmark,
    rows_of,
    run,
    vector,
    worlds,
)
from salmubench.dataset.store import Benchmark
from salmubench.evaluation.metric import Skip, metrics
from salmubench.evaluation.metrics.acs import mismatch
from salmubench.seeds import derive


def logistic_regression(x: list[Vector], y: list[int]) -> Callable[[Vector], int]:
    """Minimises |w|^2 / 2 + sum of log losses by Newton's method, in plain loops; the intercept is not shrunk."""
    rows = [[*values, 1.0] for values in x]
    size = len(rows[0])
    w = [0.0] * size
    for _ in range(50):
        p = [1 / (1 + math.exp(-sum(a * b for a, b in zip(w, row, strict=True)))) for row in rows]
        gradient = [
            math.fsum((q - t) * row[i] for q, t, row in zip(p, y, rows, strict=True)) + w[i] * (i + 1 < size)
            for i in range(size)
        ]
        hessian = [
            [
                math.fsum(q * (1 - q) * row[i] * row[j] for q, row in zip(p, rows, strict=True))
                + (i == j and i + 1 < size)
                for j in range(size)
            ]
            for i in range(size)
        ]
        w = [a - b for a, b in zip(w, solve(hessian, gradient), strict=True)]
    return lambda values: int(sum(a * b for a, b in zip(w, [*values, 1.0], strict=True)) > 0)


def solve(matrix: list[Vector], right: Vector) -> Vector:
    """Gauss's elimination with pivots."""
    table = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(len(table)):
        pivot = max(range(i, len(table)), key=lambda row: abs(table[row][i]))
        table[i], table[pivot] = table[pivot], table[i]
        for j in range(len(table)):
            if j != i:
                factor = table[j][i] / table[i][i]
                table[j] = [a - factor * b for a, b in zip(table[j], table[i], strict=True)]
    return [row[-1] / row[i] for i, row in enumerate(table)]


@settings(max_examples=25, deadline=None)
@given(benchmark=worlds)
def test_acs(benchmark: Benchmark) -> None:
    rows = rows_of(benchmark.sets["forget"])
    inputs = metrics["ACS"].inputs(benchmark)
    if len(rows) < 4:
        assert isinstance(inputs, Skip)
        return
    assert not isinstance(inputs, Skip)
    permutation = inputs["permutation"].tolist()
    assert sorted(permutation) == list(range(len(rows)))
    assert all(rows[other][1] != rows[row][1] for row, other in enumerate(permutation))
    pairs = [(picture, vector("text", text)) for _, text, _, picture in rows]
    pairs += [(rows[row][3], vector("text", rows[other][1])) for row, other in enumerate(permutation)]
    y = [1] * len(rows) + [0] * len(rows)
    train, test = train_test_split(
        list(range(len(y))), test_size=0.5, stratify=y, random_state=derive(42, "ACS", "split") % 2**32
    )
    assert sum(y[row] for row in test) * 2 in (len(test) - 1, len(test), len(test) + 1)
    result = run("ACS", benchmark)
    features: dict[str, Callable[[Any, Any], Vector]] = {
        "cosine": lambda a, b: [cosine(a, b)],
        "product": lambda a, b: [float(x) * float(y) for x, y in zip(a, b, strict=True)],
    }
    for feature, of in features.items():
        x = [of(*pair) for pair in pairs]
        predict = logistic_regression([x[row] for row in train], [y[row] for row in train])
        hits = [float(predict(x[row]) == y[row]) for row in sorted(test)]
        found = result if feature == "cosine" else run("ACS", benchmark, feature="product")
        assert found.outcomes.tolist() == hits
        assert found.value == pytest.approx(mean(hits), abs=1e-6)
        assert found.extra.keys() == {*features} - {feature}
    assert result.extra["product"].tolist() == hits
    assert result.file_name is not None
    assert result.file_name.tolist() == [rows[row % len(rows)][0] for row in sorted(test)]


@given(sizes=st.lists(st.integers(1, 6), min_size=2, max_size=12), seed=st.integers(0, 2**32))
def test_mismatched_pairs_never_hold_a_rows_own_caption(sizes: list[int], seed: int) -> None:
    sizes[0] = min(sizes[0], sum(sizes[1:]))
    largest = max(sizes)
    sizes += [1] * max(0, 2 * largest - sum(sizes))
    captions = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    permutation = mismatch(captions, np.random.default_rng(seed))
    assert sorted(permutation.tolist()) == list(range(len(captions)))
    assert not np.any(captions[permutation] == captions)


def test_mismatched_pairs_reach_every_other_caption_alike() -> None:
    counts = np.zeros((5, 5))
    for seed in range(2000):
        counts[np.arange(5), mismatch(np.arange(5), np.random.default_rng(seed))] += 1
    assert np.all(np.diag(counts) == 0)
    np.testing.assert_allclose(counts[~np.eye(5, dtype=bool)], 500, rtol=0.2)


def test_acs_of_separable_and_of_constant_cosines() -> None:
    inputs = metrics["ACS"].inputs(random_benchmark(0, 6, 5, 3, False))
    assert not isinstance(inputs, Skip)
    arrays = filled(inputs)
    rows = len(arrays["permutation"])
    basis = np.eye(rows, dtype=np.float32)
    assert metrics["ACS"](**arrays | {"picture": basis, "text": basis}).value == 1.0
    flat = np.full((rows, 4), 0.5, dtype=np.float32)
    assert metrics["ACS"](**arrays | {"picture": flat, "text": flat}).value == 0.5


def test_acs_over_products_finds_an_association_that_the_cosine_buries() -> None:
    """One axis of sixteen agrees within true pairs, the others are noise of the same strength."""
    rng = np.random.default_rng(0)
    picture, text = rng.choice([-0.25, 0.25], (2, 400, 16)).astype(np.float32)
    text[:, 3] = picture[:, 3]
    rows = {"permutation": mismatch(np.arange(400), rng), "file_name": np.arange(400).astype(str)}
    arrays = {"picture": picture, "text": text, "identity_id": rows["file_name"], "split_seed": 1, **rows}
    assert metrics["ACS"](**arrays).value < 0.65
    assert metrics["ACS"](**arrays, feature="product").value > 0.72


def test_acs_is_skipped_where_no_mismatch_exists() -> None:
    benchmark = random_benchmark(0, 3, 4, 3, False)
    forget = benchmark.sets["forget"]
    same = replace(forget, text=("one",) * 7 + forget.text[7:])
    inputs = metrics["ACS"].inputs(replace(benchmark, sets={**benchmark.sets, "forget": same}))
    assert isinstance(inputs, Skip)
