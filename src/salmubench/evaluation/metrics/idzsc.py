"""IdZSC: does a face still find its name among the names of all forgotten people?"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from salmubench.dataset.schema import SENSITIVE_SPLITS
from salmubench.dataset.store import Benchmark
from salmubench.evaluation.metric import Floats, MetricResult, MetricSpec, Pictures, Skip, Texts, metric
from salmubench.evaluation.rows import labels, rows
from salmubench.evaluation.similarity import nearest

SPEC = MetricSpec(
    key="IdZSC",
    title="Identity zero-shot classification: accuracy over the names of forgotten people",
    target="clean",
    sets=("forget_identity",),
    limits=(0.0, 1.0),
    official=("efficacy", "1.4_IdZSC", "identity_classification_accuracy"),
    order=4,
)


@dataclass(frozen=True)
class Options:
    """What the paper leaves open."""

    classes: Annotated[
        Literal["own", "sensitive"],
        Field(description="own or sensitive: the names of the set's people, or of all sensitive people"),
    ] = "own"
    prompt: Annotated[str, Field(pattern=r"\{name\}", description="what is encoded for a name")] = "{name}"


def inputs(benchmark: Benchmark, options: Options) -> dict[str, Any] | Skip:
    """The classes are names, each once: two people of one name are one class."""
    pairs = rows(benchmark, "forget_identity")
    if isinstance(pairs, Skip):
        return pairs
    people = {str(identity) for identity in pairs.identity_id}
    if options.classes == "sensitive":
        people |= {str(who) for split in SENSITIVE_SPLITS for who in benchmark.sets[split].identity_id}
    classes = sorted({benchmark.identities[identity]["name"] for identity in people})
    place = {name: number for number, name in enumerate(classes)}
    return {
        "picture": Pictures(pairs.picture),
        "name": Texts(tuple(options.prompt.replace("{name}", name) for name in classes)),
        "label": np.array([place[benchmark.identities[str(identity)]["name"]] for identity in pairs.identity_id]),
        **labels(pairs),
    }


@metric(SPEC, inputs, options=Options)
def idzsc(
    picture: Floats,
    name: Floats,
    label: NDArray[np.int64],
    file_name: NDArray[np.str_],
    identity_id: NDArray[np.str_],
) -> MetricResult:
    """Share of pictures, (n, d), whose nearest name, (m, d), is that of ``label``, (n,)."""
    hits = (nearest(picture, name) == label).astype(np.float64)
    return MetricResult(float(hits.mean()), hits, file_name=file_name, identity_id=identity_id)
