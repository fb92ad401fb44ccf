"""Sweeps through the real command line: content-addressed runs, failures, a killed driver, one parquet, Slurm, Ray."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
import yaml

from commands import salmubench
from salmubench.encoders.checkpoint import load_encoder, save_checkpoint
from salmubench.errors import UserError
from salmubench.evaluation.report import read_report
from salmubench.presets import Preset, recipe
from salmubench.studies.criterion import Cosines, judge, pair_cosines, read_cosines, write_cosines
from salmubench.studies.study import expand, read_study
from salmubench.studies.sweep import best, job_array, plan, sweep
from salmubench.unlearning.data import ForgetRetain

STUDY: dict[str, Any] = {
    "preset": "tiny",
    "seeds": [1, 2],
    "methods": [{"method": "delete", "learning_rate": 1e-3}, {"method": "finetuning", "batch_size": 8}],
}


@pytest.fixture(scope="module", name="model")
def random_model(micro: Preset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = micro.pretraining.model
    path = tmp_path_factory.mktemp("sweep") / "compromised"
    save_checkpoint(open_clip.CLIP(**config), {"model_cfg": config, "preprocess_cfg": {"size": 32}}, path)
    return path


def written(folder: Path, content: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def command(study: Path, out: Path, world: Path, model: Path, *more: str) -> list[str]:
    shared = ["--out", str(out), "--data", str(world), "--model", str(model), "--threads", "1"]
    return ["sweep", str(study), *shared, *more]


def started(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "salmubench", *words], stderr=subprocess.DEVNULL)


def numbers(out: Path) -> pd.DataFrame:
    frame = pd.read_parquet(out / "results.parquet")
    return frame.drop(columns=["seconds", "peak_memory_mb"])


@pytest.fixture(scope="module", name="finished")
def finished_sweep(world: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study run by the command line, two at once."""
    out = tmp_path_factory.mktemp("finished")
    ended = salmubench(*command(written(out, STUDY), out / "sweep", world, model, "--workers", "2"))
    assert ended.returncode == 0, ended.stderr
    assert "The results:" in ended.stdout
    return out / "sweep"


def test_a_grid_becomes_its_runs(tmp_path: Path) -> None:
    study = read_study(
        written(
            tmp_path,
            {
                "preset": "tiny", "budgets": [1, 2], "seeds": [1, 2, 3], "models": {"m": "x"},
                "methods": ["finetuning", {"method": "delete", "learning_rate": [1e-4, 1e-3], "scope": ["full", "text"],
                                           "options": {"retain": [1, 4]}, "budgets": [5]}, "finetuning"],
            },
        )
    )  # fmt: skip
    runs = expand(study)
    assert len(runs) == 2 * 3 + 2 * 2 * 2 * 3  # the second `finetuning` adds nothing
    assert {run.learning_rate for run in runs if run.method == "finetuning"} == {
        recipe("tiny", "finetuning")["learning_rate"]
    }
    names = {run.identifier("weights", "data") for run in runs}
    assert len(names) == len(runs)
    assert {run.identifier("other", "data") for run in runs}.isdisjoint(names)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ["delite"]}, "did you mean 'delete'"),
        ({"methods": []}, "methods"),
        ({"metods": []}, "metods"),
        ({"seeds": "x"}, "seeds"),
        ({"methods": [{"method": "delete", "options": {"retian": 1}}]}, "did you mean 'retain'"),
        ({"methods": [{"method": "delete", "scope": "brain"}]}, "brain"),
        ({"methods": [{"method": "delete", "learing_rate": 1e-3}]}, r"methods\.0\.learing_rate.*choose from method"),
        ({"methods": ["delete", {"method": "delete", "learning_rate": []}]}, r"methods\.1\.learning_rate"),
        ({"methods": [{"method": "delete", "options": {"retain": []}}]}, r"options\.retain"),
        ({"methods": [{"method": "delete", "learning_rate": [1e-4, 2.0]}]}, r"study\.yaml: --learning-rate 2"),
        ({"methods": [{"method": "delete", "batch_size": 1}]}, "--batch-size 1"),
        ({"methods": [{"method": "salun", "options": {"base": "salun"}}]}, "base=salun"),
        ({"methods": [{"method": "ssd", "scope": "lora-2"}]}, "lora-2"),
        ({"methods": [None]}, "neither a method's name"),
        ({"budgets": [float("nan")]}, "--budget nan"),
        ({"budgets": [0]}, "--budget 0"),
        ({"seeds": [-1]}, r"seeds\.0"),
        ({"seeds": list(range(50_000)), "budgets": [1, 2, 3]}, "more than 100,000 runs"),
        ({"precision": "fp8"}, "precision"),
        ({"clean": "nowhere.json"}, r"nowhere\.json"),
        ({"data": None}, "--data"),
        ({"models": {}}, "--model"),
    ],
)
def test_a_mistake_in_a_study_is_one_sentence(
    change: dict[str, Any], words: str, world: Path, model: Path, tmp_path: Path
) -> None:
    content = {**STUDY, "data": str(world), "models": {"m": str(model)}, **change}
    with pytest.raises(UserError, match=words):
        plan(read_study(written(tmp_path, content)), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"methods: [",
        b"- a list",
        b"\xff\xfe\x00",
        b"",
        b"methods: " + b"[" * 3000 + b"]" * 3000,
        b"methods: [delete]\nmethods: [npo]",
    ],
)
def test_what_is_no_study_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"odd\.yaml"):
        read_study(path)
    with pytest.raises(UserError, match=r"none\.yaml"):
        read_study(tmp_path / "none.yaml")


def test_the_parquet_holds_what_the_reports_say(finished: Path) -> None:
    frame = numbers(finished)
    reports = {path.parent.name: read_report(path) for path in finished.glob("runs/*/report.json")}
    assert len(reports) == 4
    assert set(frame.run) == set(reports)
    assert frame.error.isna().all()
    for _, row in frame[frame.number == ""].iterrows():
        entry = reports[row.run].metrics[row.metric]
        assert entry.value == row.value or (entry.value is None and np.isnan(row.value))
    assert set(frame.seed) == {1, 2}


def test_a_finished_run_is_left_alone_and_dry_run_says_so(
    finished: Path, world: Path, model: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    study = written(tmp_path, STUDY)
    again = salmubench(*command(study, finished, world, model, "--json"))
    assert again.returncode == 0, again.stderr
    assert {row["run"] for row in json.loads(again.stdout)["runs"]} == {path.parent.name for path in before}
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")} == before
    listed = salmubench(*command(study, finished, world, model, "--dry-run"))
    assert "4 runs, 4 finished" in listed.stdout


def test_a_killed_driver_goes_on_and_ends_with_the_same_numbers(
    finished: Path, world: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    words = command(written(tmp_path, STUDY), out, world, model)
    driver = started(words)
    deadline = time.monotonic() + 120
    while not list(out.glob("runs/*/report.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    first = next(out.glob("runs/*/report.json"))
    written_at = first.stat().st_mtime_ns
    assert not (out / "results.parquet").exists()
    assert salmubench(*words).returncode == 0
    assert first.stat().st_mtime_ns == written_at
    pd.testing.assert_frame_equal(numbers(out), numbers(finished))


def test_a_failed_run_is_told_and_tried_again(world: Path, model: Path, tmp_path: Path) -> None:
    content = {**STUDY, "seeds": [1], "methods": [{"method": "delete", "weight_decay": [1e-3, 1e30]}]}
    words = command(written(tmp_path, content), tmp_path / "sweep", world, model)
    ended = salmubench(*words)
    assert ended.returncode == 1
    assert "the loss became nan" in ended.stderr
    frame = pd.read_parquet(tmp_path / "sweep" / "results.parquet")
    assert frame[frame.weight_decay == 1e30].error.str.contains("the loss became nan").all()
    assert frame[frame.weight_decay < 1].error.isna().all()
    failure = next(tmp_path.glob("sweep/runs/*.failure.json"))
    failure.write_text(json.dumps({"why": "an older reason", "run": {}}))
    asked = read_study(tmp_path / "study.yaml", data=str(world), models={"m": str(model)})
    (why,) = sweep(asked, tmp_path / "sweep").failed.values()
    assert "the loss became nan" in why  # it was run again, and says what is so now


@pytest.mark.parametrize("name", ["report.json", "criterion.json", "record.json"])
def test_a_damaged_run_is_done_again(name: str, finished: Path, world: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    shutil.copytree(finished, out)
    study = read_study(written(tmp_path, STUDY), data=str(world), models={"m": str(model)})
    hurt = plan(study, out).planned[0].folder / name
    hurt.write_bytes(hurt.read_bytes()[:-20])
    (out / "results.parquet").write_bytes(b"PAR1")
    done = sweep(study, out)
    assert not done.failed
    pd.testing.assert_frame_equal(numbers(out).drop(columns=["model", "checkpoint"]),
                                  numbers(finished).drop(columns=["model", "checkpoint"]))  # fmt: skip


def test_a_sweep_says_before_any_run_that_it_cannot_write(world: Path, model: Path, tmp_path: Path) -> None:
    study = written(tmp_path, STUDY)
    asked_for = read_study(study, data=str(world), models={"m": str(model)})
    with pytest.raises(UserError, match=r"study\.yaml is a file"):
        sweep(asked_for, study)


@pytest.mark.slow
def test_a_lost_process_costs_its_run_alone(world: Path, model: Path, tmp_path: Path, finished: Path) -> None:
    psutil = pytest.importorskip("psutil")
    out = tmp_path / "sweep"
    driver = started(command(written(tmp_path, STUDY), out, world, model))
    deadline = time.monotonic() + 120
    while not list(out.glob("runs/*/log.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    (server,) = [p for p in psutil.Process(driver.pid).children() if "forkserver" in " ".join(p.cmdline())]
    server.children()[0].kill()
    assert driver.wait(timeout=600) == 0  # the run was tried once more
    pd.testing.assert_frame_equal(numbers(out), numbers(finished))


def test_the_criterion_is_its_formula(world: Path, model: Path, tmp_path: Path) -> None:
    encoder, data = load_encoder(model), ForgetRetain(world)
    found = pair_cosines(encoder, data, seed=3)
    pairs = {name: list(data.read(name, np.arange(data.size(name)))) for name in ("forget", "retain")}
    for name, all_of in pairs.items():
        image = encoder.encode_pictures([(pair.where, pair.image) for pair in all_of], len(all_of))
        text = encoder.encode_texts([pair.text for pair in all_of])
        assert np.allclose(found.true[name], [float(a @ b) for a, b in zip(image, text, strict=True)], atol=1e-5)
        matrix = (image @ text.T).astype(float)
        for row, value in enumerate(found.permuted[name]):  # some other caption's, never the pair's own
            assert np.isclose(np.delete(matrix[row], row), value, atol=1e-5).any()
    write_cosines(found, tmp_path / "c.npz")
    assert judge(read_cosines(tmp_path / "c.npz"), found).score == pytest.approx(1.0)
    (tmp_path / "c.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:-40])
    with pytest.raises(UserError, match="remove it"):
        read_cosines(tmp_path / "c.npz")
    original = Cosines({"forget": np.array([0.8, 0.6]), "retain": np.array([0.5, 0.5])},
                       {"forget": np.array([0.1, 0.1]), "retain": np.array([0.1, 0.1])})  # fmt: skip
    model_ = Cosines({"forget": np.array([0.1, 0.2]), "retain": np.array([0.3, 0.5])},
                     {"forget": np.array([0.1, 0.1]), "retain": np.array([0.1, 0.1])})  # fmt: skip
    judged = judge(model_, original)
    assert judged.leak == pytest.approx(0.05 / 0.6)
    assert judged.damage == pytest.approx(0.1 / 0.4)


def test_the_best_settings_have_the_lowest_criterion(world: Path, model: Path, tmp_path: Path) -> None:
    content = {**STUDY, "seeds": [1], "methods": [{"method": "delete", "learning_rate": [1e-5, 3e-3]}]}
    study = read_study(written(tmp_path, content), data=str(world), models={"m": str(model)})
    done = sweep(study, tmp_path / "sweep")
    scores = {
        each.run.learning_rate: json.loads((each.folder / "criterion.json").read_text())["score"]
        for each in done.planned
    }
    chosen = best(done)["delete"]
    assert chosen["learning_rate"] == min(scores, key=scores.__getitem__)
    assert {"scope", "batch_size", "options", "warmup_share", "weight_decay"} <= chosen.keys()


def test_a_job_array_does_every_run_once(tmp_path: Path) -> None:
    fake = tmp_path / "salmubench"
    fake.write_text('#!/bin/bash\necho "${@: -1}" >> ' + str(tmp_path / "ran") + "\n")
    fake.chmod(0o755)
    script = tmp_path / "array.sh"
    for count in (3, 2500):
        script.write_text(job_array(["a study.yaml", "--out", "x"], count, threads=2, gpus=1))
        (tmp_path / "ran").unlink(missing_ok=True)
        tasks = min(count, 1000)
        assert f"#SBATCH --array=0-{tasks - 1}" in script.read_text()
        for task in (0, 1, tasks - 1):
            environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(task)}
            subprocess.run(["bash", script], env=environment, check=True)
        ran = [int(line) for line in (tmp_path / "ran").read_text().split()]
        assert ran == [run for task in (0, 1, tasks - 1) for run in range(task, count, tasks)]


def test_one_run_of_a_study_by_its_number(world: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    study = written(tmp_path, STUDY)
    script = tmp_path / "array.sh"
    assert salmubench(*command(study, out, world, model, "--slurm", str(script))).returncode == 0
    assert "--array=0-3" in script.read_text()
    assert salmubench(*command(study, out, world, model, "--only", "2")).returncode == 0
    runs = {path.parent.name for path in out.glob("runs/*/report.json")}
    assert len(runs) == 1
    assert next(iter(runs)).startswith("finetuning")
    assert not (out / "results.parquet").exists()
    assert "--only 4" in salmubench(*command(study, out, world, model, "--only", "4")).stderr
    array = command(study, out, world, model, "--slurm", str(script))
    assert "whole GPUs" in salmubench(*array, "--gpus", "0.5").stderr
    assert "--only with --slurm" in salmubench(*array, "--only", "1").stderr
