"""VisIdInt: can a forgotten person's picture still be described without personal data?"""

import numpy as np
from numpy.typing import NDArray

from salmubench.evaluation.metric import Floats, MetricResult, MetricSpec, metric
from salmubench.evaluation.rows import pair_inputs
from salmubench.evaluation.similarity import mean_cosine

SPEC = MetricSpec(
    key="VisIdInt",
    title="Visual identity integrity: cosine of forgotten people with generic captions",
    target="compromised",
    sets=("retain_joint_evaluated",),
    limits=(-1.0, 1.0),
    official=("utility", "2.4_VisIdInt", "mean"),
    order=9,
)


@metric(SPEC, pair_inputs("retain_joint_evaluated"))
def visidint(picture: Floats, text: Floats, file_name: NDArray[np.str_], identity_id: NDArray[np.str_]) -> MetricResult:
    """Mean cosine of the forgotten people's pictures with their generic captions, (n, d) each."""
    return mean_cosine(picture, text, file_name, identity_id)
