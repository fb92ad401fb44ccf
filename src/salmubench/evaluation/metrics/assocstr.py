"""AssocStr: how near a forgotten picture still is to its caption."""

import numpy as np
from numpy.typing import NDArray

from salmubench.evaluation.metric import Floats, MetricResult, MetricSpec, metric
from salmubench.evaluation.rows import pair_inputs
from salmubench.evaluation.similarity import mean_cosine

SPEC = MetricSpec(
    key="AssocStr",
    title="Association strength: cosine of forgotten pairs",
    target="clean",
    sets=("forget",),
    limits=(-1.0, 1.0),
    official=("efficacy", "1.2_AssocStr", "mean"),
    order=2,
)


@metric(SPEC, pair_inputs("forget"))
def assocstr(picture: Floats, text: Floats, file_name: NDArray[np.str_], identity_id: NDArray[np.str_]) -> MetricResult:
    """Mean cosine of the forget pairs, (n, d) each."""
    return mean_cosine(picture, text, file_name, identity_id)
