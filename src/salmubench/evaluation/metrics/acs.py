"""ACS: can a classifier tell true forget pairs from permuted ones?

The paper does not say what the classifier sees of a pair, so every report has both: the cosine, and the products that
the cosine sums up. Which is the paper's? Measure its two models on its data: the right one gives .602 for Clean and
.951 for Compromised. ``--set ACS.feature=product`` makes the other one the headline.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import solve
from scipy.special import expit
from sklearn.model_selection import train_test_split

from salmubench.dataset.store import Benchmark
from salmubench.errors import RunError
from salmubench.evaluation.metric import SEED, Floats, MetricResult, MetricSpec, Pictures, Skip, Texts, metric
from salmubench.evaluation.rows import labels, rows
from salmubench.evaluation.similarity import row_cosines
from salmubench.seeds import derive, generator

Feature = Literal["cosine", "product"]
TEST_SHARE = 0.5
TOLERANCE = 1e-9
"""Largest gradient of the mean loss at the regression's optimum."""
STEPS = 100
"""Newton's method takes some ten."""
BLOCK = 4096
"""Pairs whose features are made at once, so that the copies of their embeddings stay small."""

SPEC = MetricSpec(
    key="ACS",
    title="Association classification: accuracy of telling true from permuted pairs",
    target="clean",
    sets=("forget",),
    limits=(0.0, 1.0),
    official=("efficacy", "1.3_ACS", "acs_accuracy"),
    order=3,
)


@dataclass(frozen=True)
class Options:
    """What the paper leaves open."""

    feature: Annotated[
        Feature, Field(description="cosine or product: what the headline sees; the other stands beside it")
    ] = "cosine"
    seed: Annotated[int, Field(ge=0, description="draws the wrong pairs and the test half")] = SEED


def mismatch(captions: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A random permutation that gives no row a caption equal to its own.

    Equal captions are put side by side, groups in random order, and all move on by the size of the largest group.

    Args:
        captions: a number for each row's caption, 0 to k-1, equal numbers for equal captions, (n,); no caption fills
            more than half of the rows.
        rng: drives the draw.
    """
    size = np.bincount(captions)
    order = np.lexsort((rng.permutation(len(captions)), rng.permutation(len(size))[captions]))
    permutation = np.empty_like(order)
    permutation[order] = np.roll(order, -size.max())
    return permutation


@dataclass(frozen=True)
class _Pairs:
    """The features of some of the pairs, made block by block: all at once would be most of an evaluation's memory.

    Pair i < n is picture i with its caption, n + i the same picture with a wrong one.
    """

    feature: Feature
    picture: Floats
    text: Floats
    permutation: NDArray[np.int64]
    pairs: NDArray[np.int64]

    def __iter__(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Slices of ``pairs`` with what the classifier sees of them and a column of ones, (block, features + 1)."""
        for start in range(0, len(self.pairs), BLOCK):
            block = slice(start, start + BLOCK)
            row = self.pairs[block] % len(self.picture)
            a = self.picture[row]
            b = self.text[np.where(self.pairs[block] < len(self.picture), row, self.permutation[row])]
            seen = row_cosines(a, b)[:, None] if self.feature == "cosine" else np.multiply(a, b, dtype=np.float64)
            yield block, np.append(seen, np.ones((len(row), 1)), axis=1)

    @property
    def width(self) -> int:
        """Features and the intercept."""
        return 2 if self.feature == "cosine" else self.picture.shape[1] + 1


def _fit(pairs: _Pairs, target: NDArray[np.int64]) -> NDArray[np.float64]:
    """The minimum of |w|^2 / 2 + sum of log losses (scikit-learn's C = 1), the last weight being a free intercept.

    The minimum itself, by Newton's method, so that no score depends on where a solver stops; the sums go block by block
    in the order of the pairs.
    """
    penalty = np.append(np.ones(pairs.width - 1), 0.0)

    def loss(w: NDArray[np.float64]) -> float:
        value = float(penalty @ w**2) / 2
        for block, seen in pairs:
            margin = seen @ w
            value += float(np.logaddexp(0, margin).sum() - margin @ target[block])
        return value / len(target)

    def slopes(w: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        gradient, hessian = penalty * w, np.diag(penalty)
        for block, seen in pairs:
            share = expit(seen @ w)
            gradient += (share - target[block]) @ seen
            hessian += (seen * (share * (1 - share))[:, None]).T @ seen
        return gradient / len(target), hessian / len(target)

    w, value = np.zeros(pairs.width), np.log(2)
    for _ in range(STEPS):
        gradient, hessian = slopes(w)
        if np.abs(gradient).max() <= TOLERANCE:
            return w
        step = solve(hessian, gradient, assume_a="pos")
        fall = float(gradient @ step)
        while (lower := loss(w - step)) > value - 1e-4 * fall and fall > 1e-14:  # too far: half the way
            step, fall = step / 2, fall / 2
        w, value = w - step, lower
    raise RunError(f"ACS: the logistic regression did not converge (gradient {np.abs(gradient).max():.1e})")


def inputs(benchmark: Benchmark, options: Options) -> dict[str, Any] | Skip:
    """The forget pairs, and the permutation that makes the wrong ones."""
    pairs = rows(benchmark, "forget")
    if isinstance(pairs, Skip):
        return pairs
    _, captions, counts = np.unique(np.array(pairs.text, dtype=object), return_inverse=True, return_counts=True)
    if len(pairs) < 4 or counts.max() * 2 > len(pairs):
        return Skip("the set forget has fewer than four rows, or one caption in more than half of them")
    return {
        "picture": Pictures(pairs.picture),
        "text": Texts(pairs.text),
        "permutation": mismatch(captions, generator(options.seed, "ACS", "permutation")),
        "split_seed": derive(options.seed, "ACS", "split") % 2**32,
        "feature": options.feature,
        **labels(pairs),
    }


@metric(SPEC, inputs, options=Options)
def acs(
    picture: Floats,
    text: Floats,
    permutation: NDArray[np.int64],
    split_seed: int,
    file_name: NDArray[np.str_],
    identity_id: NDArray[np.str_],
    feature: Feature = "cosine",
) -> MetricResult:
    """Test accuracy of a logistic regression over n true and n permuted pairs, half of each held out for the test.

    Args:
        picture: (n, d).
        text: their true captions, (n, d).
        permutation: row of the wrong caption of each picture, (n,).
        split_seed: draws the test half.
        file_name: (n,).
        identity_id: (n,).
        feature: what the classifier of the headline sees of a pair: its cosine, or the d products that this sums up.

    Returns:
        The accuracy, and that of the other feature under its name; one hit a tested pair, so up to two a row.

    Raises:
        RunError: the regression does not converge.
    """
    target = np.repeat([1, 0], len(picture))
    train, test = train_test_split(
        np.arange(len(target)), test_size=TEST_SHARE, stratify=target, random_state=split_seed
    )
    test = np.sort(test)
    hits = {}
    for kind in get_args(Feature):
        weights = _fit(_Pairs(kind, picture, text, permutation, train), target[train])
        hits[kind] = np.empty(len(test))
        for block, seen in _Pairs(kind, picture, text, permutation, test):
            hits[kind][block] = (seen @ weights > 0) == target[test[block]]
    headline = hits.pop(feature)
    row = test % len(picture)
    return MetricResult(
        float(headline.mean()), headline, extra=hits, file_name=file_name[row], identity_id=identity_id[row]
    )
