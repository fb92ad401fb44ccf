"""What recovery attacks compute from cosines: ranks among rivals, extraction of values, membership inference.

A rank here counts half of those that tie: a model that maps everything to one point gives nothing away.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from salmubench.evaluation.bootstrap import DRAWS, resampled_weights
from salmubench.evaluation.metric import Floats
from salmubench.evaluation.recovery import Means
from salmubench.evaluation.similarity import row_cosines

BLOCK = 1 << 22
"""Cosines held at once."""
FALSE_POSITIVES = 0.01


def harmonic(count: NDArray[np.int64]) -> NDArray[np.float64]:
    """H_m / m, the mean of 1 / rank when all m ranks are equally likely; NaN for m = 0."""
    sums = np.concatenate([[np.nan], np.cumsum(1 / np.arange(1, count.max(initial=1) + 1))])
    return sums[count] / np.maximum(count, 1)


def among_rivals(cosine: Floats, other: Floats, invented: Floats, identity_id: NDArray[np.str_]) -> Means:
    """How clearly a picture prefers the truth to what is told of others, and to what is true of nobody.

    Args:
        cosine: of each picture with its true text, (n,).
        other: with the rivals that are true of other people, (n, a); NaN where a row has fewer.
        invented: with those that are true of nobody, (n, b).
        identity_id: (n,).

    Returns:
        ``mrr`` among the truth and all rivals, ``cosine``, ``gap_other`` and ``gap_invented``: cosine minus the mean of
        the rivals'. A row without rivals counts for the cosine alone.
    """
    rivals: NDArray[np.float64] = np.column_stack([other, invented])
    rank = 1 + np.sum(rivals > cosine[:, None], axis=1) + 0.5 * np.sum(rivals == cosine[:, None], axis=1)
    count = np.count_nonzero(~np.isnan(rivals), axis=1)
    reciprocal = np.where(count > 0, 1 / rank, np.nan)
    outcomes = {
        "mrr": reciprocal,
        "cosine": np.asarray(cosine, np.float64),
        "gap_other": cosine - _row_means(other),
        "gap_invented": cosine - _row_means(invented),
    }
    ranked = count > 0
    chance = {"mrr": float(harmonic(count[ranked] + 1).mean())} if ranked.any() else {}
    return Means(outcomes, identity_id, chance)


def _row_means(values: Floats) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: NDArray[np.float64] = np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)
    return means


def extraction(picture: Floats, candidate: Floats, label: NDArray[np.int64], identity_id: NDArray[np.str_]) -> Means:
    """Where the true value stands when a picture ranks all candidate values.

    Args:
        picture: (n, d), unit length.
        candidate: (m, d), unit length.
        label: the true candidate of each picture, (n,).
        identity_id: (n,).
    """
    rank = np.empty(len(picture))
    step = max(1, BLOCK // max(1, len(candidate)))
    for start in range(0, len(picture), step):
        block = slice(start, start + step)
        cosine = picture[block].astype(np.float64) @ candidate.T.astype(np.float64)
        true = cosine[np.arange(len(cosine)), label[block], None]
        rank[block] = 1 + np.sum(cosine > true, axis=1) + 0.5 * (np.sum(cosine == true, axis=1) - 1)
    outcomes = {"top1": (rank == 1).astype(float), "top5": (rank <= 5).astype(float), "mrr": 1 / rank}
    count = len(candidate)
    chance = {"top1": 1 / count, "top5": min(5, count) / count, "mrr": float(harmonic(np.array([count]))[0])}
    return Means(outcomes, identity_id, chance, {"candidates": count})


def pair_losses(
    picture: Floats, text: Floats, logit_scale: float, other_picture: Floats, other_text: Floats
) -> NDArray[np.float64]:
    """CLIP's loss of each pair, (n,), by itself among reference pairs that all share.

    With s the logit scale, c the pair's cosine, and the references' pictures p and captions t:
    (log(1 + sum_t exp(s (cos(picture, t) - c))) + log(1 + sum_p exp(s (cos(p, text) - c)))) / 2.
    """
    losses = np.empty(len(picture))
    step = max(1, BLOCK // max(1, len(other_text)))
    for start in range(0, len(picture), step):
        image, words = (side[start : start + step].astype(np.float64) for side in (picture, text))
        cosine = row_cosines(image, words)[:, None]
        among = [
            logsumexp(logit_scale * np.column_stack([np.zeros(len(cosine)), rivals - cosine]), axis=1)
            for rivals in (image @ other_text.T, words @ other_picture.T)
        ]
        losses[start : start + step] = (among[0] + among[1]) / 2
    return losses


@dataclass(frozen=True)
class MembershipFinding:
    """Scores of trained pairs and of their untrained counterparts, row by row.

    Attributes:
        member: (n,); higher speaks for having been trained.
        other: (n,), the same pictures with a value that was never theirs.
        identity_id: (n,).
    """

    member: Floats
    other: Floats
    identity_id: NDArray[np.str_]

    @property
    def rows(self) -> int:
        return len(self.member)

    @property
    def chance(self) -> Mapping[str, float]:
        return {"auc": 0.5, "tpr_at_1pct": FALSE_POSITIVES}

    def numbers(self) -> dict[str, float]:
        """Area under the ROC curve, and the true positive rate where at most 1 % of the others pass."""
        auc, tpr = self._curve(np.ones(self.rows), *self._places())
        return {"auc": auc, "tpr_at_1pct": tpr}

    def draws(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """See ``Finding``; a person's members and others are drawn together."""
        if len(np.unique(self.identity_id)) < 2:
            return np.full((DRAWS, 2), np.nan)
        places = self._places()
        weights = resampled_weights(self.rows, self.identity_id, rng)
        return np.array([self._curve(weight, *places) for weight in weights])

    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each score's place among the distinct ones, ascending."""
        _, place = np.unique(np.concatenate([self.member, self.other]), return_inverse=True)
        return place[: self.rows], place[self.rows :]

    def _curve(
        self, weight: NDArray[np.float64], member: NDArray[np.int64], other: NDArray[np.int64]
    ) -> tuple[float, float]:
        size = int(max(member.max(), other.max())) + 1
        true, false = (np.bincount(place, weights=weight, minlength=size) for place in (member, other))
        total = weight.sum()
        below = np.cumsum(false) - false
        auc = float(true @ (below + false / 2) / total**2)
        passing, wrong = np.cumsum(true[::-1]), np.cumsum(false[::-1])
        allowed = np.flatnonzero(wrong <= FALSE_POSITIVES * total)
        return auc, float(passing[allowed[-1]] / total) if len(allowed) else 0.0
