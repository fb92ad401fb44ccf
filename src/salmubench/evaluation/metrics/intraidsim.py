"""IntraIdSim: are the other facts of the same people still known?"""

import numpy as np
from numpy.typing import NDArray

from salmubench.evaluation.metric import Floats, MetricResult, MetricSpec, metric
from salmubench.evaluation.rows import pair_inputs
from salmubench.evaluation.similarity import mean_cosine

SPEC = MetricSpec(
    key="IntraIdSim",
    title="Intra-identity similarity: cosine of the held-out pairs of forgotten people",
    target="compromised",
    sets=("holdout_association",),
    limits=(-1.0, 1.0),
    official=("utility", "2.3_IntraIdSim", "mean"),
    order=8,
)


@metric(SPEC, pair_inputs("holdout_association"))
def intraidsim(
    picture: Floats, text: Floats, file_name: NDArray[np.str_], identity_id: NDArray[np.str_]
) -> MetricResult:
    """Mean cosine of the holdout_association pairs, (n, d) each."""
    return mean_cosine(picture, text, file_name, identity_id)
