"""InterIdSim: are other people, whom nobody asked to forget, still known?"""

import numpy as np
from numpy.typing import NDArray

from salmubench.evaluation.metric import Floats, MetricResult, MetricSpec, metric
from salmubench.evaluation.rows import pair_inputs
from salmubench.evaluation.similarity import mean_cosine

SPEC = MetricSpec(
    key="InterIdSim",
    title="Inter-identity similarity: cosine of the pairs of people wholly held out",
    target="compromised",
    sets=("holdout_identity",),
    limits=(-1.0, 1.0),
    official=("utility", "2.2_InterIdSim", "mean"),
    order=7,
)


@metric(SPEC, pair_inputs("holdout_identity"))
def interidsim(
    picture: Floats, text: Floats, file_name: NDArray[np.str_], identity_id: NDArray[np.str_]
) -> MetricResult:
    """Mean cosine of the holdout_identity pairs, (n, d) each."""
    return mean_cosine(picture, text, file_name, identity_id)
