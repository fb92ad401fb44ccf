"""A whole evaluation on a real data set folder with a real checkpoint."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from jsonschema import validate
from open_clip.zero_shot_classifier import build_zero_shot_classifier

from salmubench.atomic import sha256_file, write_json
from salmubench.dataset.splits import write_fragile
from salmubench.dataset.store import load_benchmark
from salmubench.encoders.checkpoint import WEIGHTS_FILE, load_encoder, save_checkpoint
from salmubench.errors import UserError
from salmubench.evaluation.metric import describe
from salmubench.evaluation.official import read_official
from salmubench.evaluation.protocol import evaluate, score_fragile
from salmubench.evaluation.report import Report, outcomes_path, read_report, report_schema
from salmubench.evaluation.sampling import sample
from salmubench.reports.table import skipped

torch.set_num_threads(1)

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1},
}

RECORD = {"method": "finetuning", "budget": 1, "rows_file": "rows.parquet"}


def checkpoint(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_checkpoint(open_clip.CLIP(**MODEL), {"model_cfg": MODEL, "preprocess_cfg": {}}, folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("models") / "compromised", 0)


@pytest.fixture(scope="module")
def data(world: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared micro world with its fragile set."""
    folder = tmp_path_factory.mktemp("protocol") / "data"
    shutil.copytree(world, folder)
    write_fragile(folder, score_fragile(model, folder, device="cpu"))
    return folder


@pytest.fixture(scope="module")
def written(data: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reports") / "compromised.json"
    evaluate(model, data, out=out, official=out.with_name("evaluation_compromised.json"), device="cpu")
    return out


@pytest.fixture(scope="module")
def report(written: Path) -> Report:
    return read_report(written)


def test_all_ten_are_measured_and_the_file_keeps_the_schema(written: Path, report: Report) -> None:
    validate(json.loads(written.read_text()), report_schema())
    assert list(report.metrics) == [spec.key for spec in describe()]
    for spec in describe():
        entry = report.metrics[spec.key]
        assert entry.value is not None, entry.reason
        assert entry.interval is not None
        assert spec.limits[0] <= entry.interval[0] <= entry.value <= entry.interval[1] <= spec.limits[1]
    assert report.name == "compromised"
    assert report.verdict is None


def test_provenance_says_what_was_measured(report: Report, model: Path, data: Path) -> None:
    origin, benchmark = report.provenance, load_benchmark(data)
    assert origin.weights_sha256 == sha256_file(model / "open_clip_model.safetensors")
    assert origin.data_revision == benchmark.revision
    assert (origin.data, origin.association_split) == ("data", "pair")
    assert origin.sets["forget"] == len(benchmark.sets["forget"])
    assert origin.sets["fragile_set"] == len(benchmark.sets["fragile_set"])
    assert benchmark.general_knowledge is not None
    assert origin.sets["general_knowledge"] == len(benchmark.general_knowledge)
    assert origin.versions["torch"] == torch.__version__
    assert origin.run["seconds"] > 0
    assert origin.run["peak_memory_bytes"] > 10**8
    assert {"command", "date", "threads"} <= origin.run.keys()


def test_two_runs_agree_to_the_bit(report: Report, written: Path, data: Path, model: Path, tmp_path: Path) -> None:
    again = evaluate(model, data, out=tmp_path / "again.json", device="cpu")
    assert again.comparable() == report.comparable()
    assert read_report(tmp_path / "again.json") == again
    assert pq.read_table(outcomes_path(tmp_path / "again.json")).equals(pq.read_table(outcomes_path(written)))


def test_the_batch_size_moves_no_number(report: Report, data: Path, model: Path) -> None:
    again = evaluate(model, data, batch_size=7, device="cpu")
    for key, entry in again.metrics.items():
        assert entry.value == pytest.approx(report.metrics[key].value, abs=1e-5)


def test_the_sidecar_holds_every_outcome(written: Path, report: Report, data: Path) -> None:
    table = pq.read_table(outcomes_path(written))
    assert table.column_names == [
        "metric", "file_name", "identity_id", "data_field", "style", "value", "rank", "best",
    ]  # fmt: skip
    columns = table.to_pydict()
    for key, entry in report.metrics.items():
        for number, mean in entry.numbers().items():
            title = f"{key} {number}".strip()
            values = [value for value, name in zip(columns["value"], columns["metric"], strict=True) if name == title]
            assert len(values) == entry.rows
            assert np.mean(values) == pytest.approx(mean, abs=1e-12)
    forget = load_benchmark(data).sets["forget"]
    captions = dict(zip(forget.file_name, forget.text, strict=True))
    for row in table.to_pylist():
        assert (row["rank"] is not None) == (row["best"] is not None) == (row["metric"] == "RetFail")
        if row["rank"] is not None:
            assert row["value"] == 1 / row["rank"]
            assert (row["rank"] == 1) == (row["best"] == captions[row["file_name"]])


def test_the_official_file_holds_the_same_numbers(written: Path, report: Report) -> None:
    path = written.with_name("evaluation_compromised.json")
    for key, numbers in read_official(path).items():
        assert numbers["value"] == report.metrics[key].value
    content = json.loads(path.read_text())["efficacy"]["1.1_RetFail"]
    assert np.mean(content["outcomes"]) == pytest.approx(content["MRR"])
    assert np.mean(np.array(content["outcomes"]) == 1) == pytest.approx(content["R@1"])


def test_general_knowledge_is_that_of_open_clips_own_classifier(report: Report, data: Path, model: Path) -> None:
    benchmark, encoder = load_benchmark(data), load_encoder(model, device="cpu")
    general = benchmark.general_knowledge
    assert general is not None
    templates = [lambda name, template=template: template.format(c=name) for template in general.templates]
    weights = build_zero_shot_classifier(encoder.model, encoder.tokenizer, general.class_names, templates)
    pictures = encoder.encode_pictures((("", benchmark.pictures.read(int(n))) for n in general.picture), len(general))
    hits = (torch.from_numpy(pictures) @ weights).argmax(dim=1).numpy() == general.label
    assert report.metrics["GenKnow"].value == pytest.approx(hits.mean())


def test_the_fragile_set_is_where_the_weakest_pairs_are(data: Path, model: Path, report: Report) -> None:
    scores = score_fragile(model, data, device="cpu")
    disjoint, fragile = load_benchmark(data).sets["retain_disjoint"], load_benchmark(data).sets["fragile_set"]
    assert sorted(scores) == sorted(disjoint.file_name)
    weakest = sorted(scores.values())[: len(fragile)]
    assert report.metrics["FragSim"].value == pytest.approx(np.mean(weakest), abs=1e-6)


def test_a_folder_without_general_knowledge_skips_it(data: Path, model: Path, tmp_path: Path) -> None:
    bare = evaluate(model, data / "salmubench", out=tmp_path / "x.json", official=tmp_path / "o.json", device="cpu")
    entry = bare.metrics["GenKnow"]
    assert entry.value is None
    assert entry.interval is None
    assert "--general-knowledge" in str(entry.reason)
    assert skipped([bare, bare]) == [f"GenKnow is skipped: {entry.reason}."]
    assert read_official(tmp_path / "o.json")["GenKnow"]["value"] is None
    assert "GenKnow" not in pq.read_table(outcomes_path(tmp_path / "x.json"))["metric"].to_pylist()
    assert bare.metrics["RetFail"].value is not None
    full = evaluate(model, data / "salmubench", general_knowledge=data / "general_knowledge", device="cpu")
    assert full.metrics["GenKnow"].value is not None


def test_the_bounds_give_a_verdict_but_get_none(data: Path, model: Path, written: Path, tmp_path: Path) -> None:
    """Clean is told to stand below Compromised, as an untrained model would not do by itself."""
    content = json.loads(written.read_text())
    content["metrics"]["RetFail"]["value"] = 0.0
    for key in ("InterIdSim", "IntraIdSim"):
        content["metrics"][key]["value"] -= 0.5
    content["provenance"]["weights_sha256"] = "of clean"
    write_json(tmp_path / "clean.json", content)
    bounds = {"clean": tmp_path / "clean.json", "compromised": written}
    assert evaluate(model, data, device="cpu", **bounds).verdict is None
    other = evaluate(checkpoint(tmp_path / "method", 1), data, device="cpu", **bounds)
    assert other.verdict is not None
    leak = other.metrics["RetFail"].value
    assert leak is not None
    compromised = read_report(written).metrics["RetFail"].value
    assert compromised is not None
    assert other.verdict.leakage_reduction == pytest.approx((compromised - leak) / compromised)


def test_bounds_must_come_together_and_from_the_same_data(
    data: Path, model: Path, written: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="--compromised is missing"):
        evaluate(model, data, clean=written, device="cpu")
    with pytest.raises(UserError, match="other rows of the same data"):
        evaluate(model, data, clean=written, compromised=written, limit=3, device="cpu")


def unlearned(folder: Path, names: list[str]) -> Path:
    checkpoint(folder, 2)
    pq.write_table(
        pa.table({"file_name": names, "set": ["forget"] * len(names), "count": [1] * len(names)}),
        folder / "rows.parquet",
    )
    record = {**RECORD, "weights_sha256": sha256_file(folder / WEIGHTS_FILE), "run": {"seconds": 3.2}}
    write_json(folder / "record.json", record)
    return folder


@pytest.mark.parametrize("split", ["holdout_association", "holdout_identity", None])
def test_a_run_that_saw_a_holdout_row_is_marked(data: Path, tmp_path: Path, split: str | None) -> None:
    sets = load_benchmark(data).sets
    names = [*sets["forget"].file_name, *(sets[split].file_name[:1] if split else ())]
    folder = unlearned(tmp_path / "run", names)
    for path, arch in ((folder, None), (f"local-dir:{folder}", None)):
        origin = evaluate(path, data, arch=arch, limit=2, device="cpu").provenance
        assert origin.unlearning == {**RECORD, "weights_sha256": origin.weights_sha256}
        assert origin.touched_holdout is (split is not None)
        assert origin.run["unlearning"] == {"seconds": 3.2}


def test_without_a_record_nothing_is_claimed(data: Path, report: Report, tmp_path: Path) -> None:
    assert report.provenance.unlearning is None
    assert report.provenance.touched_holdout is None
    folder = unlearned(tmp_path / "run", ["x"])
    checkpoint(folder, 3)
    stale = evaluate(folder, data, limit=2, device="cpu").provenance
    assert (stale.unlearning, stale.touched_holdout) == (None, None), "the record speaks of other weights"
    unlearned(folder, ["x"])
    (folder / "rows.parquet").unlink()
    assert evaluate(folder, data, limit=2, device="cpu").provenance.touched_holdout is None
    (folder / "rows.parquet").write_text("junk")
    with pytest.raises(UserError, match=r"rows\.parquet: not a table of consumed rows"):
        evaluate(folder, data, limit=2, device="cpu")


@pytest.mark.parametrize("limit", [1, 5, 10**6])
def test_a_limit_keeps_every_set_and_spreads_it_over_people(data: Path, limit: int) -> None:
    whole = load_benchmark(data)
    part = sample(whole, limit, seed=42)
    assert part.sets.keys() == whole.sets.keys()
    for name, pairs in part.sets.items():
        full = whole.sets[name]
        assert len(pairs) == min(limit, len(full))
        known = dict(zip(full.file_name, zip(full.picture, full.text, full.identity_id, strict=True), strict=True))
        for row in range(len(pairs)):
            assert known[pairs.file_name[row]] == (pairs.picture[row], pairs.text[row], pairs.identity_id[row])
        taken, available = Counter(pairs.identity_id), Counter(full.identity_id)
        del taken[None]
        for who, count in taken.items():
            assert count >= min(available[who], max(taken.values()) - 1)
    assert part.general_knowledge is not None
    assert whole.general_knowledge is not None
    assert len(part.general_knowledge) == min(limit, len(whole.general_knowledge))


def test_a_limited_run_is_quick_repeatable_and_says_so(data: Path, model: Path) -> None:
    first = evaluate(model, data, limit=6, device="cpu")
    assert first.comparable() == evaluate(model, data, limit=6, device="cpu").comparable()
    assert first.provenance.model_dump()["limit"] == 6
    assert max(first.provenance.sets.values()) == 6
    assert all(entry.value is not None for entry in first.metrics.values())
    with pytest.raises(UserError, match="--limit 0"):
        evaluate(model, data, limit=0, device="cpu")


def test_the_seed_moves_intervals_only(data: Path, model: Path, report: Report) -> None:
    other: Any = evaluate(model, data, seed=7, device="cpu")
    for key, entry in other.metrics.items():
        assert entry.value == report.metrics[key].value
    assert other.metrics["AssocStr"].interval != report.metrics["AssocStr"].interval
