"""Every metric against a naive oracle in plain Python loops, through its inputs and its function, on random worlds."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_world import (
    DIMENSION,
    cosine,
    filled,
    mean,
    random_benchmark,
    rows_of,
    run,
    run_inputs,
    vector,
    worlds,
)
from salmubench.cli import app
from salmubench.dataset.store import Benchmark, PairSet
from salmubench.errors import UserError
from salmubench.evaluation.metric import Pictures, Skip, Texts, configure, describe, metrics
from salmubench.seeds import generator

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
PAIR_METRICS = {
    "AssocStr": "forget",
    "InterIdSim": "holdout_identity",
    "IntraIdSim": "holdout_association",
    "VisIdInt": "retain_joint_evaluated",
    "FragSim": "fragile_set",
}


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
    for column in (result.file_name, result.identity_id, *result.columns.values(), *result.extra.values()):
        assert column is None or len(column) == len(result.outcomes)
    assert set(spec.official_extra) <= set(result.extra)
    assert result.file_name is not None
    assert key == "ACS" or len({*result.file_name}) == len(result.outcomes)


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
    for one, other in zip(first.numbers().values(), second.numbers().values(), strict=True):
        np.testing.assert_array_equal(one, other)


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
            assert ("salmubench data fragile" in inputs.reason) == (key == "FragSim")


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
    assert result.extra["R@1"].tolist() == [float(rank == 1) for rank in ranks]
    for rank, (_, true, _, picture) in zip(ranks, rows_of(benchmark.sets["forget"]), strict=True):
        scores = [cosine(picture, vector("text", text)) for text in (true, *distractors)]
        assert rank == 1 + sum(score > scores[0] for score in scores), "a kept distractor that is the caption ties"


def test_options_of_the_draws() -> None:
    benchmark = random_benchmark(0, 30, 40, 1100, False)
    drawn_with = {seed: run_inputs("RetFail", benchmark, seed=seed)["distractor"].text for seed in (42, 7)}
    assert drawn_with[42] != drawn_with[7]
    assert {*drawn_with[7]} < {*benchmark.sets["forget"].text, *benchmark.sets["retain_disjoint"].text}
    wrong = [run_inputs("ACS", benchmark, seed=seed) for seed in (42, 7)]
    assert wrong[0]["permutation"].tolist() != wrong[1]["permutation"].tolist()
    assert wrong[0]["split_seed"] != wrong[1]["split_seed"]


def test_retfail_draws_a_thousand_of_each_set() -> None:
    inputs = metrics["RetFail"].inputs(random_benchmark(0, 30, 40, 1100, False))
    assert not isinstance(inputs, Skip)
    captions = inputs["distractor_caption"].tolist()
    assert len(set(captions)) == len(captions) == 2000
    assert sum(caption.startswith("fact") for caption in captions) == 1000
    assert inputs["distractor"].text == tuple(captions)


@settings(max_examples=20, deadline=None)
@given(
    benchmark=worlds,
    classes=st.sampled_from(["own", "sensitive"]),
    prompt=st.sampled_from(["{name}", "this is {name}"]),
)
def test_idzsc(benchmark: Benchmark, classes: str, prompt: str) -> None:
    rows = rows_of(benchmark.sets["forget_identity"])
    people = {str(who) for _, _, who, _ in rows}
    if classes == "sensitive":
        people |= {str(who) for split in ("forget", "holdout_association") for who in benchmark.sets[split].identity_id}
    names = sorted(
        {benchmark.identities[who]["name"] for who in people} | ({"Stranger"} if classes != "own" else set())
    )
    hits = []
    for _, _, who, picture in rows:
        scores = {name: cosine(picture, vector("text", prompt.format(name=name))) for name in names}
        hits.append(float(max(names, key=scores.__getitem__) == benchmark.identities[str(who)]["name"]))
    result = run("IdZSC", benchmark, classes=classes, prompt=prompt)
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"ACS.featur": "product"},
            r"--set ACS\.featur=product: metric 'ACS' has no option 'featur'; did you mean 'feature'",
        ),
        ({"ACS.feature": "sum"}, r"--set ACS\.feature=sum: .*give a value that feature can take"),
        ({"ASC.feature": "product"}, "no metric 'ASC': did you mean 'ACS'"),
        ({"feature": "product"}, r"write it as METRIC\.option=value"),
        ({"GenKnow.seed": 1}, "metric 'GenKnow' has no option 'seed'; it has none"),
        ({"IdZSC.prompt": "a photo"}, r"--set IdZSC\.prompt=a photo: "),
        ({"RetFail.seed": "-1"}, r"--set RetFail\.seed=-1: "),
    ],
)
def test_a_wrong_option_is_refused_with_the_flag(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        configure(settings)


def test_the_command_line_lists_the_options_with_their_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    app(["metrics"], standalone_mode=False)
    cells = [[cell.strip() for cell in line.split("│")] for line in capsys.readouterr().out.splitlines()]
    listed = {row[1]: row[2].split(":")[0] for row in cells if len(row) == 4 and row[1]}
    assert listed == {
        "RetFail.seed": "42",
        "ACS.feature": "cosine",
        "ACS.seed": "42",
        "IdZSC.classes": "own",
        "IdZSC.prompt": "{name}",
    }


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("people", [1, 2])
def test_all_equal_embeddings_and_a_single_person(key: str, people: int) -> None:
    """A model that maps everything to one point: ties go to the true caption and to the first class."""
    inputs = metrics[key].inputs(random_benchmark(0, people, 2, 3, False))
    if isinstance(inputs, Skip):
        assert people == 1
        assert key in ("ACS", "IntraIdSim")
        return
    arrays = filled(inputs)
    one = np.array([0.6, 0.8], dtype=np.float32)
    arrays = {
        name: np.tile(one, (len(value), 1)) if isinstance(inputs[name], Pictures | Texts) else value
        for name, value in arrays.items()
    }
    result = metrics[key](**arrays)
    expected = {
        "RetFail": 1.0,
        "ACS": 0.5,
        "IdZSC": float((inputs["label"] == 0).mean()) if key == "IdZSC" else 0.0,
        "GenKnow": float((inputs["label"] == 0).mean()) if key == "GenKnow" else 0.0,
    }
    assert result.value == pytest.approx(expected.get(key, 1.0), abs=1e-6)
