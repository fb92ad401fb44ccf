"""Random worlds without files or models for the metrics, and what the plain loops of their oracles share."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from salmubench.dataset.pictures import PictureStore
from salmubench.dataset.schema import FIELDS, CaptionInfo
from salmubench.dataset.store import Benchmark, GeneralKnowledge, PairSet
from salmubench.evaluation.metric import MetricResult, Pictures, Skip, Texts, configure, metrics
from salmubench.seeds import generator

DIMENSION = 6

Vector = list[float]


def vector(*names: str | int) -> NDArray[np.float32]:
    """The stand-in encoder: a random unit vector that the name alone decides."""
    values = generator(0, "test", *names).standard_normal(DIMENSION)
    return (values / np.linalg.norm(values)).astype(np.float32)


def random_benchmark(seed: int, people: int, per_person: int, disjoint: int, repeats: bool) -> Benchmark:
    """People 0..people-1 in forget (every second one also held out by half), with captions that may repeat."""
    rng = np.random.default_rng(seed)
    count = 0

    def pairs(name: str, identities: list[str | None], text: Callable[[int], str]) -> PairSet:
        nonlocal count
        picture = rng.permutation(np.arange(count, count + len(identities)))
        count += len(identities)
        names = tuple(f"{name}-{row}.jpg" for row in rng.permutation(len(identities)))
        return PairSet(name, picture, tuple(map(text, range(len(identities)))), tuple(identities), names)

    ids = [f"{person:08d}" for person in range(people)]
    owners = [who for who in ids for _ in range(per_person)]
    half = [who for who in owners if int(who) % 2]
    wording = (lambda row: f"fact {row // 2}") if repeats else (lambda row: f"fact {row}")
    sets = {
        "forget": pairs("forget", list(owners), wording),
        "holdout_association": pairs("holdout_association", list(half), lambda row: f"other {row}"),
        "holdout_identity": pairs("holdout_identity", ["99999999"] * 5, lambda row: f"stranger {row}"),
        "retain_joint_evaluated": pairs("retain_joint_evaluated", list(ids), lambda row: f"a person {row % 3}"),
        "retain_disjoint": pairs(
            "retain_disjoint", [None] * disjoint, lambda row: "fact 0" if repeats and not row else f"scene {row}"
        ),
    }
    sets["forget_identity"] = sets["forget"].subset("forget_identity", (int(str(w)) % 2 == 0 for w in owners))
    sets["fragile_set"] = sets["retain_disjoint"].subset("fragile_set", (row % 2 == 0 for row in range(disjoint)))
    identities = {who: {"name": f"Name {int(who) // 3}", **{f: f"{f} of {who}" for f in FIELDS}} for who in ids}
    identities["99999999"] = {"name": "Stranger"}
    fields = {file: FIELDS[row % 8] for row, file in enumerate(sets["forget"].file_name)}
    general = GeneralKnowledge(
        picture=np.arange(count, count + 12), label=rng.integers(4, size=12),
        class_names=tuple("abcd"), templates=("a photo of {c}.", "{c}", "{c} drawn"),
    )  # fmt: skip
    captions = {file: CaptionInfo(field, "") for file, field in fields.items()}
    return Benchmark(Path("data"), "sha256:0", "pair", PictureStore(()), sets, identities, captions, {}, general)


worlds = st.builds(
    random_benchmark,
    seed=st.integers(0, 2**32),
    people=st.integers(2, 7),
    per_person=st.integers(2, 5),
    disjoint=st.integers(1, 9),
    repeats=st.booleans(),
)


def run(key: str, benchmark: Benchmark, **options: Any) -> MetricResult:
    chosen = configure({f"{key}.{name}": value for name, value in options.items()})[key]
    inputs = metrics[key].inputs(benchmark, chosen)
    assert not isinstance(inputs, Skip), inputs.reason
    return metrics[key](**filled(inputs))


def filled(inputs: Mapping[str, Any]) -> dict[str, Any]:
    def fill(value: Any) -> Any:
        if isinstance(value, Pictures):
            return np.array([vector("picture", int(number)) for number in value.index])
        return np.array([vector("text", text) for text in value.text]) if isinstance(value, Texts) else value

    return {name: fill(value) for name, value in inputs.items()}


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def rows_of(pairs: PairSet) -> list[tuple[str, str, str | None, NDArray[np.float32]]]:
    """(file name, caption, identity, picture embedding), by file name."""
    rows = zip(pairs.file_name, pairs.text, pairs.identity_id, map(int, pairs.picture), strict=True)
    return [(file, text, who, vector("picture", number)) for file, text, who, number in sorted(rows)]


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def run_inputs(key: str, benchmark: Benchmark, **options: Any) -> Mapping[str, Any]:
    chosen = configure({f"{key}.{name}": value for name, value in options.items()})[key]
    inputs = metrics[key].inputs(benchmark, chosen)
    assert not isinstance(inputs, Skip)
    return inputs
