"""Several checkpoints in one go, the cache between runs, and broken pictures, through ``evaluate`` and its verb."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from commands import salmubench
from encoders_world import checkpoint
from salmubench import evaluate, evaluate_all, load_benchmark
from salmubench.dataset.splits import write_fragile
from salmubench.errors import UserError
from salmubench.evaluation.protocol import score_fragile
from salmubench.evaluation.report import Report, outcomes_path, read_report

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [checkpoint(folder / name, seed) for seed, name in enumerate(("first", "second"))]


@pytest.fixture(scope="module")
def data(world: Path, models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together") / "data"
    shutil.copytree(world, folder)
    write_fragile(folder, score_fragile(models[0], folder, device="cpu"))
    return folder


@pytest.fixture(scope="module")
def alone(models: list[Path], data: Path) -> list[Report]:
    return [evaluate(model, data, device="cpu", cache=False) for model in models]


def test_several_get_the_reports_that_each_gets_alone(
    models: list[Path], data: Path, alone: list[Report], tmp_path: Path
) -> None:
    reports = evaluate_all(models, data, out=tmp_path / "r", official=tmp_path / "o", device="cpu", cache=False)
    assert [report.comparable() for report in reports] == [report.comparable() for report in alone]
    for report in reports:
        assert read_report(tmp_path / "r" / f"{report.name}.json") == report
        assert outcomes_path(tmp_path / "r" / f"{report.name}.json").is_file()
        assert (tmp_path / "o" / f"evaluation_{report.name}.json").is_file()
        assert report.provenance.run["models"] == 2


def test_a_report_from_the_cache_is_the_report_to_the_bit(
    models: list[Path], data: Path, alone: list[Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALMUBENCH_CACHE", str(tmp_path / "cache"))
    first = evaluate(models[0], data, device="cpu", out=tmp_path / "first.json")
    both = evaluate_all(models, data, device="cpu")
    again = evaluate(models[0], data, device="cpu", out=tmp_path / "again.json", workers=3)
    assert [report.comparable() for report in both] == [report.comparable() for report in alone]
    assert first.comparable() == again.comparable() == alone[0].comparable()
    tables = [pq.read_table(outcomes_path(tmp_path / f"{name}.json")) for name in ("first", "again")]
    assert tables[0].equals(tables[1])
    runs = [report.provenance.run for report in (first, *both, again)]
    cached = [run["cached_pictures"] for run in runs]
    assert cached == [0, cached[3], 0, cached[3]]
    assert min(cached[3], runs[3]["cached_captions"]) > 50
    for run in runs[:3]:
        assert 0 <= run["data_wait_share"] <= 1
        assert min(run["pictures_per_second"], run["captions_per_second"]) > 0


def test_names_must_differ_and_fit(models: list[Path], data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"are both called 'first'.*give --name once for each checkpoint"):
        evaluate_all([models[0], models[0]], data, device="cpu")
    with pytest.raises(UserError, match="--name: 1 for 2 checkpoints"):
        evaluate_all(models, data, names=["x"], device="cpu")
    with pytest.raises(UserError, match="there is no checkpoint"):
        evaluate_all([], data)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: is a file"):
        evaluate_all(models, data, out=tmp_path / "file")
    reports = evaluate_all([models[0], models[0]], data, names=["a/b", "c"], out=tmp_path / "r", limit=4, device="cpu")
    assert [report.name for report in reports] == ["a/b", "c"]
    assert sorted(path.name for path in (tmp_path / "r").glob("*.json")) == ["a-b.json", "c.json"]


@pytest.fixture(scope="module")
def broken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evaluation folder with junk, a null and a missing file in forget, and a junk picture that no metric wants."""
    folder = tmp_path_factory.mktemp("broken") / "salmubench"
    shutil.copytree(data / "salmubench", folder)
    (path,) = (folder / "data").glob("forget-*.parquet")
    table = pq.read_table(path)
    pictures = table["image"].to_pylist()
    pictures[3] = {"bytes": b"junk", "path": None}
    pictures[5] = None
    pictures[6] = {"bytes": None, "path": "nowhere.png"}
    pictures[7]["bytes"] = pictures[7]["bytes"][: len(pictures[7]["bytes"]) // 2]
    image = pa.array(pictures, table.schema.field("image").type)
    pq.write_table(table.set_column(0, table.schema.field("image"), image), path, row_group_size=4)
    return folder


def test_broken_pictures_end_an_evaluation_or_are_left_out(
    broken: Path, data: Path, models: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"forget-00000-of-00001\.parquet, row 3: not a picture"):
        evaluate(models[0], broken, device="cpu", out=tmp_path / "none.json")
    assert not list(tmp_path.iterdir())
    report = evaluate(models[0], broken, device="cpu", skip_broken=True, out=tmp_path / "x.json")
    named = [f"data/forget-00000-of-00001.parquet, row {row}" for row in (3, 5, 6, 7)]
    assert report.provenance.skipped_pictures == named
    whole = load_benchmark(broken).sets["forget"]
    assert report.provenance.sets["forget"] == report.metrics["AssocStr"].rows == len(whole) - 4
    full = evaluate(models[0], data / "salmubench", device="cpu", out=tmp_path / "full.json")
    values = {}
    for name in ("x", "full"):
        rows = pq.read_table(outcomes_path(tmp_path / f"{name}.json")).to_pylist()
        values[name] = {row["file_name"]: row["value"] for row in rows if row["metric"] == "AssocStr"}
    gone = {whole.file_name[row] for row in (3, 5, 6, 7)}
    assert values["x"].keys() == values["full"].keys() - gone
    assert all(value == pytest.approx(values["full"][name], abs=1e-6) for name, value in values["x"].items())
    assert report.metrics["InterIdSim"].value == pytest.approx(full.metrics["InterIdSim"].value, abs=1e-6)


def test_a_set_that_loses_every_picture_skips_its_metric(data: Path, models: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "salmubench"
    shutil.copytree(data / "salmubench", folder)
    for path in (folder / "data").glob("holdout_identity-*.parquet"):
        table = pq.read_table(path)
        image = pa.array([{"bytes": b"junk", "path": None}] * len(table), table.schema.field("image").type)
        pq.write_table(table.set_column(0, table.schema.field("image"), image), path)
    report = evaluate(models[0], folder, device="cpu", skip_broken=True)
    assert report.metrics["InterIdSim"].value is None
    assert "holdout_identity" in str(report.metrics["InterIdSim"].reason)
    assert report.metrics["IntraIdSim"].value is not None


def test_the_verb_takes_several_checkpoints(models: list[Path], broken: Path, tmp_path: Path) -> None:
    done = salmubench(
        "evaluate", *models, "--data", broken, "--out", tmp_path / "r", "--skip-broken", "--workers", 2,
        "--batch-size", 8, "--no-cache", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "r").glob("*.json")) == ["first.json", "second.json"]
    assert "Left out as broken, 4 in all: data/forget-00000-of-00001.parquet, row 3; " in done.stdout
    assert "encoding pictures" in done.stderr
    failed = salmubench("evaluate", models[0], "--data", broken, "--batch-size", "some", "--device", "cpu")
    assert (failed.returncode, failed.stderr.splitlines()[-1]) == (
        2,
        "Error: --batch-size some: give a number of inputs, 1 or more, or auto",
    )


def test_half_precision_runs_and_stays_near(models: list[Path], data: Path, alone: list[Report]) -> None:
    report = evaluate(models[0], data, device="cpu", precision="fp16-autocast", limit=10**6)
    assert report.provenance.precision == "fp16-autocast"
    for key in ("AssocStr", "InterIdSim", "IntraIdSim", "CoreAssoc"):
        difference = abs(np.subtract(report.metrics[key].value, alone[0].metrics[key].value))
        assert 0 < difference < 2e-3
