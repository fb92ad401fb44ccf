"""GenKnow: general knowledge, zero-shot classification as clip_benchmark does it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from salmubench.dataset.store import Benchmark
from salmubench.evaluation.metric import Floats, MetricResult, MetricSpec, Pictures, Skip, Texts, metric
from salmubench.evaluation.similarity import nearest

SPEC = MetricSpec(
    key="GenKnow",
    title="General knowledge: zero-shot top-1 accuracy",
    target="compromised",
    sets=("general_knowledge",),
    limits=(0.0, 1.0),
    official=("utility", "2.1_GenKnow", "ImageNet1k_Accuracy"),
    order=6,
)


def inputs(benchmark: Benchmark) -> dict[str, Any] | Skip:
    """One prompt for each class and template, class by class."""
    general = benchmark.general_knowledge
    if general is None or len(general.picture) == 0:
        return Skip("the data have no general_knowledge folder; name one with --general-knowledge")
    prompts = (template.replace("{c}", name) for name in general.class_names for template in general.templates)
    return {
        "picture": Pictures(general.picture),
        "prompt": Texts(tuple(prompts)),
        "label": general.label,
        "classes": len(general.class_names),
        "file_name": np.array([f"general_knowledge/{number}" for number in general.picture], dtype=np.str_),
    }


@metric(SPEC, inputs)
def genknow(
    picture: Floats, prompt: Floats, label: NDArray[np.int64], classes: int, file_name: NDArray[np.str_]
) -> MetricResult:
    """Share of pictures whose nearest class is theirs.

    A class is the mean of its normalised prompt embeddings over the templates, normalised again.

    Args:
        picture: (n, d).
        prompt: (classes x templates, d), class by class.
        label: (n,).
        classes: how many there are.
        file_name: (n,), the running number of each picture: what two reports on the same data share.
    """
    mean = prompt.reshape(classes, -1, prompt.shape[1]).mean(axis=1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    hits = (nearest(picture, mean) == label).astype(np.float64)
    return MetricResult(float(hits.mean()), hits, file_name=file_name)
