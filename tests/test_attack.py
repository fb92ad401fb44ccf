"""The recovery attacks on worlds where the truth is known, on real checkpoints, and through the command line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import validate
from open_clip.loss import ClipLoss
from typer.testing import CliRunner

from salmubench.atomic import sha256_file
from salmubench.cli import app
from salmubench.dataset.pictures import decode_picture
from salmubench.dataset.store import Benchmark, load_benchmark
from salmubench.encoders.checkpoint import WEIGHTS_FILE, load_encoder, save_checkpoint
from salmubench.encoders.embeddings import Embeddings
from salmubench.errors import UserError
from salmubench.evaluation.protocol import evaluate
from salmubench.evaluation.recovery import AttackReport, attack_schema, read_attack
from salmubench.presets import Preset
from salmubench.seeds import generator
from salmubench.studies.attack import ATTACKS, attack
from salmubench.studies.probes import Extraction, MembershipInference, Paraphrasing, Probe
from salmubench.studies.relearn import Lesson, Teaching, make_lesson, read_steps, relearn
from salmubench.studies.wordings import Rivals

SCHEMA = Path(__file__).parents[1] / "docs" / "attack.schema.json"


@pytest.fixture(scope="module")
def benchmark(world: Path) -> Benchmark:
    return load_benchmark(world)


@pytest.fixture(scope="module")
def models(micro: Preset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import open_clip

    folder, made = tmp_path_factory.mktemp("attacked"), {}
    for seed, name in enumerate(("clean", "compromised", "unlearned")):
        torch.manual_seed(seed)
        made[name] = folder / name
        config = {"model_cfg": micro.pretraining.model, "preprocess_cfg": {}}
        save_checkpoint(open_clip.CLIP(**micro.pretraining.model), config, made[name])
    return made


def direction(*name: str | int) -> np.ndarray:
    values = generator(0, "toy", *name).standard_normal(64)
    return values / np.linalg.norm(values)


def encoded(benchmark: Benchmark, probe: Probe, *, leaks: bool) -> Embeddings:
    """A hand-made model: a picture shows its person; a text that tells a name or value points at its person, or not."""
    owner = {
        int(picture): identity
        for pairs in benchmark.sets.values()
        for picture, identity in zip(pairs.picture, pairs.identity_id, strict=True)
    }
    index = np.unique(probe.pictures())
    pictures = np.array([direction(owner[int(picture)] or f"nobody {picture}") for picture in index])
    texts = list(dict.fromkeys(probe.texts()))
    vectors = []
    for text in texts:
        vector = direction("text", text)
        for identity, person in benchmark.identities.items() if leaks else ():
            facts = [value for part, value in person.items() if part not in ("country", "country_code", "gender")]
            vector = vector + sum(fact.lower() in text.lower() for fact in facts) * direction(identity)
        vectors.append(vector / np.linalg.norm(vector))
    row = {text: place for place, text in enumerate(texts)}
    return Embeddings(index, pictures.astype(np.float32), row, np.array(vectors, np.float32))


def test_every_probe_finds_a_planted_leak_and_nothing_where_there_is_none(benchmark: Benchmark) -> None:
    rivals = Rivals(benchmark, seed=42)
    probes: dict[str, Probe] = {
        "paraphrase": Paraphrasing(benchmark, rivals, seed=42),
        "extraction": Extraction(benchmark, rivals),
        "membership": MembershipInference(benchmark, rivals, seed=42),
    }
    leaky, clean = (
        {name: probe.find(encoded(benchmark, probe, leaks=leaks), 20.0) for name, probe in probes.items()}
        for leaks in (True, False)
    )
    for wording, finding in leaky["paraphrase"].items():
        own, nothing = finding.numbers(), clean["paraphrase"][wording].numbers()
        assert own["mrr"] > 0.8
        assert own["gap_other"] > 0.1
        assert own["gap_invented"] > 0.1
        assert abs(nothing["mrr"] - finding.chance["mrr"]) < 0.15
        assert abs(nothing["gap_other"]) < 0.1
    own, nothing = (found["extraction"]["all"] for found in (leaky, clean))
    assert own.numbers()["top1"] > 0.8
    assert own.numbers()["top5"] > 0.95
    assert nothing.numbers()["top1"] < 0.25
    assert set(leaky["extraction"]) == {"all", *{i.data_field for i in benchmark.captions.values()}}
    for score in ("cosine", "loss"):
        own, nothing = (found["membership"][score] for found in (leaky, clean))
        assert own.numbers()["auc"] > 0.8
        assert abs(nothing.numbers()["auc"] - 0.5) < 0.2


def test_what_is_taught_and_what_is_measured_are_of_other_people(benchmark: Benchmark) -> None:
    pairs = benchmark.sets["forget"]
    forget = pairs.take("forget", sorted(range(len(pairs)), key=pairs.file_name.__getitem__))
    lesson = make_lesson(benchmark, "forget", 6, seed=1)
    taught = set(lesson.pairs.identity_id)
    assert len(lesson.pairs) == len(set(lesson.pairs.file_name)) == 6
    assert set(lesson.pairs.file_name) <= set(forget.file_name)
    for place in range(len(forget)):
        known, learnt = forget.identity_id[place] in taught, forget.file_name[place] in lesson.pairs.file_name
        assert lesson.others[place] == (not known)
        assert lesson.same[place] == (known and not learnt)
    assert lesson.others.any()
    held = make_lesson(benchmark, "holdout_identity", 6, seed=1)
    assert set(held.pairs.file_name) <= set(benchmark.sets["holdout_identity"].file_name)
    assert held.others.all()
    assert not held.same.any()
    with pytest.raises(UserError, match="--pairs 9999: there are"):
        make_lesson(benchmark, "forget", 9999, seed=1)


def outcomes(found: dict[int, tuple[object, object]], step: int) -> np.ndarray:
    return np.column_stack(list(found[step][0].outcomes.values()))  # type: ignore[attr-defined]


def test_relearning_starts_where_evaluate_stands_and_leaves_the_model_alone(
    benchmark: Benchmark, world: Path, models: dict[str, Path]
) -> None:
    encoder = load_encoder(models["compromised"], device="cpu")
    before = {name: weight.clone() for name, weight in encoder.model.state_dict().items()}
    everyone = replace(make_lesson(benchmark, "holdout_identity", 6, seed=1))
    teaching = Teaching((0, 1, 3), 1e-3, 4, 7)
    found = relearn(encoder, benchmark, everyone, teaching)
    report = evaluate(models["compromised"], world, device="cpu")
    numbers = found[0][0].numbers()
    assert numbers["mrr"] == pytest.approx(report.metrics["RetFail"].value)
    assert numbers["assocstr"] == pytest.approx(report.metrics["AssocStr"].value)
    assert not np.array_equal(outcomes(found, 0), outcomes(found, 1))
    assert not np.array_equal(outcomes(found, 1), outcomes(found, 3))
    again = relearn(encoder, benchmark, everyone, replace(teaching, steps=(0, 3)))
    assert np.array_equal(outcomes(again, 3), outcomes(found, 3))  # looking in between changes nothing
    assert all(torch.equal(weight, before[name]) for name, weight in encoder.model.state_dict().items())


def test_one_step_is_adamw_on_clip_s_loss(benchmark: Benchmark, models: dict[str, Path]) -> None:
    lesson = make_lesson(benchmark, "forget", 5, seed=3)
    found = relearn(load_encoder(models["clean"], device="cpu"), benchmark, lesson, Teaching((0, 1), 1e-3, 8, 7))
    by_hand = load_encoder(models["clean"], device="cpu")
    store = benchmark.pictures
    pictures = [decode_picture(store.read(int(number)), "") for number in lesson.pairs.picture]
    images = torch.stack([by_hand.preprocess(picture) for picture in pictures])
    image, text, scale = by_hand.model(images, by_hand.tokenizer(list(lesson.pairs.text)))
    weights = list(by_hand.model.parameters())
    groups = [
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
        {"params": [w for w in weights if w.ndim >= 2], "weight_decay": 1e-3},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    ClipLoss()(image, text, scale).backward()
    optimizer.step()
    expected = relearn(by_hand, benchmark, lesson, Teaching((0, 1), 1e-9, 8, 7))
    assert outcomes(found, 1)[:, 1] == pytest.approx(outcomes(expected, 0)[:, 1], abs=1e-4)


def test_what_was_taught_comes_back(benchmark: Benchmark, models: dict[str, Path]) -> None:
    lesson = make_lesson(benchmark, "forget", 8, seed=2)
    names = sorted(benchmark.sets["forget"].file_name)
    taught = np.array([name in lesson.pairs.file_name for name in names])
    check: Lesson = replace(lesson, others=taught)
    found = relearn(load_encoder(models["clean"], device="cpu"), benchmark, check, Teaching((0, 60), 3e-3, 8, 7))
    assert found[60][0].numbers()["mrr"] > found[0][0].numbers()["mrr"] + 0.3


def test_steps_are_read_with_nought_before_them() -> None:
    assert read_steps("5,1,2,5") == read_steps([1, 2, 5]) == (0, 1, 2, 5)
    for wrong in ("", "a", "0", "-1,2", "1,,2"):
        with pytest.raises(UserError, match="--steps"):
            read_steps(wrong)


@pytest.fixture(scope="module")
def reports(world: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three models through the command line."""
    out = tmp_path_factory.mktemp("attack") / "out"
    before = {name: sha256_file(path / WEIGHTS_FILE) for name, path in models.items()}
    arguments = [
        "attack", *map(str, models.values()), "--data", str(world), "--control", str(models["clean"]),
        "--compromised", str(models["compromised"]), "--out", str(out), "--markdown", str(out / "table.md"),
        "--pairs", "6", "--steps", "1,2", "--device", "cpu",
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    for name in ("paraphrase", "relearning, holdout", "membership", "unlearned"):
        assert name in done.output
    assert before == {name: sha256_file(path / WEIGHTS_FILE) for name, path in models.items()}
    return out


def test_the_files_keep_the_published_schema(reports: Path) -> None:
    assert json.loads(SCHEMA.read_text()) == attack_schema()
    assert sorted(path.name for path in reports.glob("*.json")) == ["clean.json", "compromised.json", "unlearned.json"]
    for path in reports.glob("*.json"):
        content = json.loads(path.read_text())
        validate(content, attack_schema())
        assert read_attack(path).model_dump(mode="json", by_alias=True) == content


def test_clean_and_compromised_are_the_ends_of_the_recovered_share(reports: Path) -> None:
    clean, compromised = (read_attack(reports / f"{name}.json") for name in ("clean", "compromised"))
    shares = 0
    for report, end in ((clean, 0.0), (compromised, 1.0)):
        found = report.probes
        entries = [*found.paraphrase.values(), *found.extraction.values(), *found.membership.values()]
        assert found.relearning is not None
        if found.relearning.curve[0].steps == 0:
            entries.append(found.relearning.curve[0])
        for entry in entries:
            assert all(share == pytest.approx(end) for share in entry.recovered.values())
            shares += len(entry.recovered)
    assert shares
    assert clean.probes.relearning is not None
    for point in clean.probes.relearning.curve:
        assert point.control == pytest.approx({"mrr": point.mrr, "assocstr": point.assocstr})
    assert clean.compromised is not None
    assert clean.compromised.weights_sha256 == compromised.provenance.weights_sha256


def test_a_run_again_and_alone_gives_the_same_numbers(reports: Path, world: Path, models: dict[str, Path]) -> None:
    done = read_attack(reports / "unlearned.json")
    alone = attack(
        [models["unlearned"]], world, control=models["clean"], compromised=models["compromised"], pairs=6,
        steps="1,2", cache=False, device="cpu",
    )  # fmt: skip
    assert alone[0].comparable() == done.comparable()


def test_one_probe_alone_as_json(world: Path, models: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["attack", str(models["clean"]), "--data", str(world), "--probe", "membership", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "attack.json"), "--limit", "10"])
    assert done.exit_code == 0, done.output
    (printed,) = json.loads(done.stdout)
    report = AttackReport.model_validate(printed)
    assert report == read_attack(tmp_path / "attack.json")
    assert report.probes.relearning is None
    assert report.provenance.limit == 10
    assert report.probes.membership["cosine"].rows == 10
    assert not report.probes.membership["cosine"].control


def test_wrong_arguments_are_named(world: Path, models: dict[str, Path], tmp_path: Path) -> None:
    clean = models["clean"]
    with pytest.raises(UserError, match=f"--probe guess: .* {ATTACKS[0]}"):
        attack([clean], world, probes=["guess"])
    with pytest.raises(UserError, match="--control is missing"):
        attack([clean], world, compromised=clean)
    with pytest.raises(UserError, match="--learning-rate 0"):
        attack([clean], world, learning_rate=0)
    with pytest.raises(UserError, match="rename one"):
        attack([clean, clean], world, out=tmp_path)
    broken = tmp_path / "attack.json"
    broken.write_text('{"schema": 1, "name": "x"}')
    with pytest.raises(UserError, match="not an attack's report"):
        read_attack(broken)
