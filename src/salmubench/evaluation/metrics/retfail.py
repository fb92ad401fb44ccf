"""RetFail: can the picture of a forgotten pair still find its caption among 2,000 others?"""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from salmubench.dataset.store import Benchmark, PairSet
from salmubench.evaluation.metric import SEED, Floats, MetricResult, MetricSpec, Pictures, Skip, Texts, metric
from salmubench.evaluation.rows import labels, rows
from salmubench.evaluation.similarity import exact_ranks
from salmubench.seeds import generator

DISTRACTORS = 1000
"""Captions drawn from each of the two sets, without replacement; all of them where a set is smaller."""

SPEC = MetricSpec(
    key="RetFail",
    title="Retrieval of a forgotten caption, mean reciprocal rank among at most 2,001",
    target="clean",
    sets=("forget", "retain_disjoint"),
    limits=(0.0, 1.0),
    official=("efficacy", "1.1_RetFail", "MRR"),
    official_extra={"R@1": "R@1"},
    order=1,
)


@dataclass(frozen=True)
class Options:
    """What the paper leaves open."""

    seed: Annotated[int, Field(ge=0, description="draws the distractors")] = SEED


def _draw(pairs: PairSet, seed: int) -> tuple[str, ...]:
    drawn = generator(seed, "RetFail", pairs.name).permutation(len(pairs))[:DISTRACTORS]
    return tuple(pairs.text[row] for row in sorted(drawn))


def inputs(benchmark: Benchmark, options: Options) -> dict[str, Any] | Skip:
    """Every forget row is a query; the distractors are drawn once, from rows, for all queries."""
    forget, disjoint = rows(benchmark, "forget"), rows(benchmark, "retain_disjoint")
    if isinstance(forget, Skip):
        return forget
    if isinstance(disjoint, Skip):
        return disjoint
    distractors = (*_draw(forget, options.seed), *_draw(disjoint, options.seed))
    return {
        "picture": Pictures(forget.picture),
        "text": Texts(forget.text),
        "distractor": Texts(distractors),
        "caption": np.array(forget.text, dtype=object),
        "distractor_caption": np.array(distractors, dtype=object),
        **labels(forget),
    }


@metric(SPEC, inputs, options=Options)
def retfail(
    picture: Floats,
    text: Floats,
    distractor: Floats,
    caption: NDArray[np.object_],
    distractor_caption: NDArray[np.object_],
    file_name: NDArray[np.str_],
    identity_id: NDArray[np.str_],
) -> MetricResult:
    """Mean of 1 / rank, rank = 1 + strictly greater; a distractor that equals the true caption is dropped.

    Args:
        picture: queries, (n, d).
        text: their true captions, (n, d).
        distractor: captions that all queries share, (m, d).
        caption: the true captions as text, (n,).
        distractor_caption: the distractors as text, (m,).
        file_name: (n,).
        identity_id: (n,).

    Returns:
        The mean reciprocal rank and ``R@1``; columns ``rank`` and ``best``, the caption ranked first.
    """
    _, number = np.unique(np.concatenate([caption, distractor_caption]), return_inverse=True)
    rank, best = exact_ranks(picture, text, distractor, number[: len(caption)], number[len(caption) :])
    reciprocal = 1.0 / rank
    first = caption.copy()
    beaten = best >= 0
    first[beaten] = distractor_caption[best[beaten]]
    return MetricResult(
        value=float(reciprocal.mean()),
        outcomes=reciprocal,
        extra={"R@1": (rank == 1).astype(np.float64)},
        file_name=file_name,
        identity_id=identity_id,
        columns={"rank": rank, "best": first},
    )
