"""FragSim: do the pairs that are the easiest to break still hold?"""

import numpy as np
from numpy.typing import NDArray

from salmubench.evaluation.metric import Floats, MetricResult, MetricSpec, metric
from salmubench.evaluation.rows import pair_inputs
from salmubench.evaluation.similarity import mean_cosine

SPEC = MetricSpec(
    key="FragSim",
    title="Fragile similarity: cosine of the weakest unrelated pairs",
    target="compromised",
    sets=("fragile_set",),
    limits=(-1.0, 1.0),
    official=("utility", "2.5_FragSim", "mean"),
    order=10,
)


LISTED = "`salmubench data fragile DATA --model COMPROMISED` lists them"


@metric(SPEC, pair_inputs("fragile_set", mend=LISTED))
def fragsim(picture: Floats, text: Floats, file_name: NDArray[np.str_], identity_id: NDArray[np.str_]) -> MetricResult:
    """Mean cosine of the fragile pairs, (n, d) each."""
    return mean_cosine(picture, text, file_name, identity_id)
