"""Every metric against a naive oracle in plain Python loops, through its inputs and its function, on random worlds."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from salmubench.dataset.pictures import PictureStore
from salmubench.dataset.schema import FIELDS, CaptionInfo
from salmubench.dataset.store import Benchmark, GeneralKnowledge, PairSet
from salmubench.evaluation.metric import MetricResult, Pictures, Skip, Texts, describe, metrics
from salmubench.evaluation.metrics.acs import mismatch
from salmubench.seeds import derive, generator

KEYS = [
    "RetFail",
    "AssocStr",
    "ACS",
    "IdZSC",
    "CoreAssoc",
    "GenKnow",
    "InterIdSim",
    "IntraIdSim",
    "VisIdInt",
    "FragSim",
]
DIMENSION = 6
PAIR_METRICS = {
    "AssocStr": "forget",
    "InterIdSim": "holdout_identity",
    "IntraIdSim": "holdout_association",
    "VisIdInt": "retain_joint_evaluated",
    "FragSim": "fragile_set",
}

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


def run(key: str, benchmark: Benchmark) -> MetricResult:
    inputs = metrics[key].inputs(benchmark)
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


def test_the_papers_ten_metrics_are_there_in_its_order() -> None:
    papers = [spec for spec in describe() if spec.official]
    assert [spec.key for spec in papers] == KEYS
    assert [spec.target for spec in papers] == ["clean"] * 5 + ["compromised"] * 5


@pytest.mark.parametrize("key", KEYS)
@settings(max_examples=10, deadline=None)
@given(benchmark=worlds)
def test_every_metric_keeps_its_contract(key: str, benchmark: Benchmark) -> None:
    spec, result = metrics[key].spec, run(key, benchmark)
    assert result.value == pytest.approx(mean(result.outcomes.tolist()), abs=1e-12)
    assert result.outcomes.dtype == np.float64
    assert spec.limits[0] - 1e-6 <= result.outcomes.min() <= result.outcomes.max() <= spec.limits[1] + 1e-6
    for column in (result.file_name, result.identity_id, *result.columns.values()):
        assert column is None or len(column) == len(result.outcomes)
    assert set(spec.official_extra) == set(result.extra)


@pytest.mark.parametrize("key", KEYS)
def test_the_order_of_stored_rows_changes_nothing(key: str) -> None:
    benchmark = random_benchmark(3, 6, 4, 8, True)

    def shuffled(pairs: PairSet) -> PairSet:
        order = np.random.default_rng(5).permutation(len(pairs))
        take = lambda values: tuple(values[row] for row in order)  # noqa: E731
        return PairSet(
            pairs.name, pairs.picture[order], take(pairs.text), take(pairs.identity_id), take(pairs.file_name)
        )

    again = replace(benchmark, sets={name: shuffled(pairs) for name, pairs in benchmark.sets.items()})
    first, second = run(key, benchmark), run(key, again)
    assert first.value == second.value
    np.testing.assert_array_equal(first.outcomes, second.outcomes)


@pytest.mark.parametrize("key", KEYS)
def test_missing_and_empty_sets_are_skipped_with_a_reason(key: str) -> None:
    benchmark = random_benchmark(1, 4, 4, 4, False)
    for name in metrics[key].spec.sets:
        if name == "general_knowledge":
            poorer = [replace(benchmark, general_knowledge=None)]
        else:
            rest = {other: pairs for other, pairs in benchmark.sets.items() if other != name}
            empty = benchmark.sets[name].subset(name, [False] * len(benchmark.sets[name]))
            poorer = [replace(benchmark, sets=rest), replace(benchmark, sets=rest | {name: empty})]
        for less in poorer:
            inputs = metrics[key].inputs(less)
            assert isinstance(inputs, Skip)
            assert name in inputs.reason


@pytest.mark.parametrize(("key", "name"), PAIR_METRICS.items())
@settings(max_examples=10, deadline=None)
@given(benchmark=worlds)
def test_mean_cosines(key: str, name: str, benchmark: Benchmark) -> None:
    rows = rows_of(benchmark.sets[name])
    expected = [cosine(picture, vector("text", text)) for _, text, _, picture in rows]
    result = run(key, benchmark)
    np.testing.assert_allclose(result.outcomes, expected, atol=1e-6)
    assert result.value == pytest.approx(mean(expected), abs=1e-6)
    assert result.file_name is not None
    assert result.identity_id is not None
    assert result.file_name.tolist() == [file for file, *_ in rows]
    assert result.identity_id.tolist() == [who or "" for _, _, who, _ in rows]


def drawn(pairs: PairSet, size: int) -> list[str]:
    captions = [text for _, text, _, _ in rows_of(pairs)]
    return [captions[row] for row in generator(42, "RetFail", pairs.name).permutation(len(captions))[:size]]


@settings(max_examples=40, deadline=None)
@given(benchmark=worlds, size=st.integers(1, 12))
def test_retfail(benchmark: Benchmark, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("salmubench.evaluation.metrics.retfail.DISTRACTORS", size)
        result = run("RetFail", benchmark)
    distractors = drawn(benchmark.sets["forget"], size) + drawn(benchmark.sets["retain_disjoint"], size)
    ranks, best = [], []
    for _, true, _, picture in rows_of(benchmark.sets["forget"]):
        own = cosine(picture, vector("text", true))
        others = [(cosine(picture, vector("text", text)), text) for text in distractors if text != true]
        ranks.append(1 + sum(score > own for score, _ in others))
        best.append(true if ranks[-1] == 1 else max(others)[1])
    assert result.columns["rank"].tolist() == ranks
    assert result.columns["best"].tolist() == best
    assert result.value == pytest.approx(mean([1 / rank for rank in ranks]), abs=1e-6)
    assert result.extra["R@1"] == pytest.approx(mean([float(rank == 1) for rank in ranks]), abs=1e-6)


def test_retfail_draws_a_thousand_of_each_set() -> None:
    inputs = metrics["RetFail"].inputs(random_benchmark(0, 30, 40, 1100, False))
    assert not isinstance(inputs, Skip)
    captions = inputs["distractor_caption"].tolist()
    assert len(set(captions)) == len(captions) == 2000
    assert sum(caption.startswith("fact") for caption in captions) == 1000
    assert inputs["distractor"].text == tuple(captions)


def logistic_regression(x: Vector, y: list[int]) -> Callable[[float], int]:
    """Minimises w^2 / 2 + sum of log losses by Newton's method; one feature and an intercept."""
    w, b = 0.0, 0.0
    for _ in range(50):
        p = [1 / (1 + math.exp(-(w * value + b))) for value in x]
        gw = w + math.fsum((q - t) * value for q, t, value in zip(p, y, x, strict=True))
        gb = math.fsum(q - t for q, t in zip(p, y, strict=True))
        hww = 1 + math.fsum(q * (1 - q) * value * value for q, value in zip(p, x, strict=True))
        hwb = math.fsum(q * (1 - q) * value for q, value in zip(p, x, strict=True))
        hbb = math.fsum(q * (1 - q) for q in p)
        determinant = hww * hbb - hwb * hwb
        w, b = w - (hbb * gw - hwb * gb) / determinant, b - (hww * gb - hwb * gw) / determinant
    return lambda value: int(w * value + b > 0)


@settings(max_examples=25, deadline=None)
@given(benchmark=worlds)
def test_acs(benchmark: Benchmark) -> None:
    rows = rows_of(benchmark.sets["forget"])
    inputs = metrics["ACS"].inputs(benchmark)
    if len(rows) < 4:
        assert isinstance(inputs, Skip)
        return
    assert not isinstance(inputs, Skip)
    permutation = inputs["permutation"].tolist()
    assert sorted(permutation) == list(range(len(rows)))
    assert all(rows[other][1] != rows[row][1] for row, other in enumerate(permutation))
    x = [cosine(picture, vector("text", text)) for _, text, _, picture in rows]
    x += [cosine(rows[row][3], vector("text", rows[other][1])) for row, other in enumerate(permutation)]
    y = [1] * len(rows) + [0] * len(rows)
    train, test = train_test_split(
        list(range(len(y))), test_size=0.5, stratify=y, random_state=derive(42, "ACS", "split") % 2**32
    )
    assert sum(y[row] for row in test) * 2 in (len(test) - 1, len(test), len(test) + 1)
    predict = logistic_regression([x[row] for row in train], [y[row] for row in train])
    hits = [float(predict(x[row]) == y[row]) for row in sorted(test)]
    result = run("ACS", benchmark)
    assert result.outcomes.tolist() == hits
    assert result.value == pytest.approx(mean(hits), abs=1e-6)
    assert result.file_name is not None
    assert result.file_name.tolist() == [rows[row % len(rows)][0] for row in sorted(test)]


@given(sizes=st.lists(st.integers(1, 6), min_size=2, max_size=12), seed=st.integers(0, 2**32))
def test_mismatched_pairs_never_hold_a_rows_own_caption(sizes: list[int], seed: int) -> None:
    sizes[0] = min(sizes[0], sum(sizes[1:]))
    largest = max(sizes)
    sizes += [1] * max(0, 2 * largest - sum(sizes))
    captions = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    permutation = mismatch(captions, np.random.default_rng(seed))
    assert sorted(permutation.tolist()) == list(range(len(captions)))
    assert not np.any(captions[permutation] == captions)


def test_mismatched_pairs_reach_every_other_caption_alike() -> None:
    counts = np.zeros((5, 5))
    for seed in range(2000):
        counts[np.arange(5), mismatch(np.arange(5), np.random.default_rng(seed))] += 1
    assert np.all(np.diag(counts) == 0)
    np.testing.assert_allclose(counts[~np.eye(5, dtype=bool)], 500, rtol=0.2)


def test_acs_of_separable_and_of_constant_cosines() -> None:
    inputs = metrics["ACS"].inputs(random_benchmark(0, 6, 5, 3, False))
    assert not isinstance(inputs, Skip)
    arrays = filled(inputs)
    rows = len(arrays["permutation"])
    basis = np.eye(rows, dtype=np.float32)
    assert metrics["ACS"](**arrays | {"picture": basis, "text": basis}).value == 1.0
    flat = np.full((rows, 4), 0.5, dtype=np.float32)
    assert metrics["ACS"](**arrays | {"picture": flat, "text": flat}).value == 0.5


def test_acs_over_products_finds_an_association_that_the_cosine_buries() -> None:
    """One axis of sixteen agrees within true pairs, the others are noise of the same strength."""
    rng = np.random.default_rng(0)
    picture, text = rng.choice([-0.25, 0.25], (2, 400, 16)).astype(np.float32)
    text[:, 3] = picture[:, 3]
    rows = {"permutation": mismatch(np.arange(400), rng), "file_name": np.arange(400).astype(str)}
    arrays = {"picture": picture, "text": text, "identity_id": rows["file_name"], **rows}
    assert metrics["ACS"](**arrays).value < 0.65
    assert metrics["ACS"](**arrays, feature="product").value > 0.72


def test_acs_is_skipped_where_no_mismatch_exists() -> None:
    benchmark = random_benchmark(0, 3, 4, 3, False)
    forget = benchmark.sets["forget"]
    same = replace(forget, text=("one",) * 7 + forget.text[7:])
    inputs = metrics["ACS"].inputs(replace(benchmark, sets={**benchmark.sets, "forget": same}))
    assert isinstance(inputs, Skip)


@settings(max_examples=20, deadline=None)
@given(benchmark=worlds)
def test_idzsc(benchmark: Benchmark) -> None:
    rows = rows_of(benchmark.sets["forget_identity"])
    names = sorted({benchmark.identities[str(who)]["name"] for _, _, who, _ in rows})
    hits = []
    for _, _, who, picture in rows:
        scores = {name: cosine(picture, vector("text", name)) for name in names}
        hits.append(float(max(names, key=scores.__getitem__) == benchmark.identities[str(who)]["name"]))
    result = run("IdZSC", benchmark)
    assert result.outcomes.tolist() == hits
    assert result.value == pytest.approx(mean(hits), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(benchmark=worlds)
def test_coreassoc(benchmark: Benchmark) -> None:
    expected = []
    for file, _, who, picture in rows_of(benchmark.sets["forget"]):
        facts = benchmark.identities[str(who)]
        name, value = facts["name"], facts[benchmark.captions[file].data_field]
        orders = (f"{name} {value}", f"{value} {name}")
        expected.append(max(cosine(picture, vector("text", text)) for text in orders))
    result = run("CoreAssoc", benchmark)
    np.testing.assert_allclose(result.outcomes, expected, atol=1e-6)
    assert result.value == pytest.approx(mean(expected), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(benchmark=worlds)
def test_genknow(benchmark: Benchmark) -> None:
    general = benchmark.general_knowledge
    assert general is not None
    classes = []
    for name in general.class_names:
        prompts = [vector("text", template.format(c=name)) for template in general.templates]
        middle = [mean([float(prompt[axis]) for prompt in prompts]) for axis in range(DIMENSION)]
        length = math.sqrt(math.fsum(x * x for x in middle))
        classes.append([x / length for x in middle])
    hits = []
    for number, label in zip(general.picture, general.label, strict=True):
        scores = [cosine(vector("picture", int(number)), np.array(centre)) for centre in classes]
        hits.append(float(scores.index(max(scores)) == label))
    result = run("GenKnow", benchmark)
    assert result.outcomes.tolist() == hits
    assert result.value == pytest.approx(mean(hits), abs=1e-6)
