"""ACS: can a classifier tell true forget pairs from permuted ones?"""

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from salmubench.dataset.store import Benchmark
from salmubench.errors import RunError
from salmubench.evaluation.metric import SEED, Floats, MetricResult, MetricSpec, Pictures, Skip, Texts, metric
from salmubench.evaluation.rows import labels, rows
from salmubench.evaluation.similarity import row_cosines
from salmubench.seeds import derive, generator

TEST_SHARE = 0.5
TOLERANCE = 1e-6
"""Largest admissible gradient of the mean loss at the regression's optimum."""

SPEC = MetricSpec(
    key="ACS",
    title="Association classification: accuracy of telling true from permuted pairs",
    target="clean",
    sets=("forget",),
    limits=(0.0, 1.0),
    official=("efficacy", "1.3_ACS", "acs_accuracy"),
    order=3,
)


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


def _fit(features: NDArray[np.float64], target: NDArray[np.int64]) -> LogisticRegression:
    """The L2-regularised optimum (scikit-learn's default C = 1), so that no score depends on where a solver stops."""
    classifier = LogisticRegression(solver="newton-cholesky", tol=1e-8, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # raised even at the optimum; the gradient decides
        classifier.fit(features, target)
    residual = classifier.predict_proba(features)[:, 1] - target
    gradient = np.append(classifier.coef_[0] + residual @ features, residual.sum()) / len(target)
    if np.abs(gradient).max() > TOLERANCE:
        raise RunError(f"ACS: the logistic regression did not converge (gradient {np.abs(gradient).max():.1e})")
    return classifier


def inputs(benchmark: Benchmark) -> dict[str, Any] | Skip:
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
        "permutation": mismatch(captions, generator(SEED, "ACS", "permutation")),
        **labels(pairs),
    }


@metric(SPEC, inputs)
def acs(
    picture: Floats,
    text: Floats,
    permutation: NDArray[np.int64],
    file_name: NDArray[np.str_],
    identity_id: NDArray[np.str_],
    feature: Literal["cosine", "product"] = "cosine",
) -> MetricResult:
    """Test accuracy of a logistic regression over n true and n permuted pairs, half of each held out for the test.

    Args:
        picture: (n, d).
        text: their true captions, (n, d).
        permutation: row of the wrong caption of each picture, (n,).
        file_name: (n,).
        identity_id: (n,).
        feature: what the classifier sees of a pair: its cosine, or the d products that the cosine sums up.

    Raises:
        RunError: the regression does not converge.
    """
    if feature == "cosine":
        true, wrong = row_cosines(picture, text)[:, None], row_cosines(picture, text[permutation])[:, None]
    else:
        true = np.multiply(picture, text, dtype=np.float64)
        wrong = np.multiply(picture, text[permutation], dtype=np.float64)
    features = np.concatenate([true, wrong])
    target = np.repeat([1, 0], len(picture))
    train, test = train_test_split(
        np.arange(len(target)), test_size=TEST_SHARE, stratify=target, random_state=derive(SEED, "ACS", "split") % 2**32
    )
    classifier = _fit(features[train], target[train])
    test = np.sort(test)
    hits = (classifier.predict(features[test]) == target[test]).astype(np.float64)
    row = test % len(picture)
    return MetricResult(float(hits.mean()), hits, file_name=file_name[row], identity_id=identity_id[row])
