"""The whole path through the real command line at the tiny scale, and what a user sees when something is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import open_clip
import pytest
from datasets import load_dataset

import commands
from salmubench.evaluation.metric import metrics
from salmubench.evaluation.report import Report, read_report
from salmubench.unlearning.method import methods

SALMUBENCH = Path(sys.executable).with_name("salmubench")


def salmubench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return commands.salmubench(*arguments, COLUMNS="200", NO_COLOR="1")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny demo, killed once on its way and run again."""
    out = tmp_path_factory.mktemp("tiny") / "demo"
    command = [SALMUBENCH, "demo", "--preset", "tiny", "--no-open", "--out", out]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (out / "reports" / "clean.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert (out / "models" / "clean" / "training.json").is_file()
    again = salmubench("demo", "--preset", "tiny", "--no-open", "--out", out)
    assert again.returncode == 0, again.stderr
    assert "forgets" in again.stdout or "ineffective" in again.stdout or "over-generalised" in again.stdout
    return out


def reports(out: Path) -> dict[str, Report]:
    return {path.stem: read_report(path) for path in sorted((out / "reports").glob("*.json"))}


def test_every_method_is_run_and_measured_with_every_metric(tiny: Path) -> None:
    found = reports(tiny)
    assert set(found) == {"clean", "compromised", *(f"{method}-1x" for method in methods)}
    for name, report in found.items():
        assert set(report.metrics) == set(metrics)
        assert all(entry.value is not None for entry in report.metrics.values()), name
        assert (report.verdict is None) == (name in ("clean", "compromised"))
        assert report.provenance.touched_holdout in (None, False)
    page = (tiny / "site" / "index.html").read_text()
    assert all(method in page for method in methods)


def test_two_runs_with_one_seed_give_one_report(tiny: Path, tmp_path: Path) -> None:
    undisturbed = tmp_path / "second"
    run = salmubench("demo", "--preset", "tiny", "--no-open", "--out", undisturbed)
    assert run.returncode == 0, run.stderr
    first, second = reports(tiny), reports(undisturbed)
    assert {name: report.comparable() for name, report in first.items()} == {
        name: report.comparable() for name, report in second.items()
    }


def test_a_second_run_reuses_everything(tiny: Path) -> None:
    def written() -> dict[Path, int]:
        files = [path for folder in ("data", "models", "runs", "reports") for path in (tiny / folder).rglob("*")]
        return {path: path.stat().st_mtime_ns for path in files if path.is_file()}

    before = written()
    assert salmubench("demo", "--preset", "tiny", "--no-open", "--out", tiny).returncode == 0
    assert written() == before


def test_the_checkpoints_and_the_data_open_in_other_tools(tiny: Path) -> None:
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tiny / 'models' / 'compromised'}")
    assert model.visual.image_size in (32, (32, 32))
    data = load_dataset(str(tiny / "data" / "salmubench"))
    assert {"forget", "holdout_association", "holdout_identity", "retain_synth"} <= set(data)
    assert data["forget"][0]["image"].size[0] > 0


def test_check_proves_the_demo_data_and_finds_damage(tiny: Path, tmp_path: Path) -> None:
    whole = salmubench("data", "check", tiny / "data")
    assert whole.returncode == 0, whole.stdout
    damaged = shutil.copytree(tiny / "data", tmp_path / "data")
    side = damaged / "salmubench" / "identities_metadata.json"
    people = json.loads(side.read_text())
    next(iter(people.values()))["city"] = "Nowhere"
    side.write_text(json.dumps(people))
    found = salmubench("data", "check", damaged)
    assert found.returncode == 1
    assert "FAILED" in found.stdout
    assert "identities_metadata.json" in found.stdout


def test_the_verbs_take_each_other_s_output(tiny: Path, tmp_path: Path) -> None:
    compromised = tiny / "models" / "compromised"
    run = tmp_path / "run"
    done = salmubench(
        "unlearn", "negative-gradient", "--model", compromised, "--data", tiny / "data", "--out", run, "--budget", "0.5"
    )
    assert done.returncode == 0, done.stderr
    report, official = tmp_path / "report.json", tmp_path / "official.json"
    bounds = ("--clean", tiny / "reports" / "clean.json", "--compromised", tiny / "reports" / "compromised.json")
    done = salmubench(
        "evaluate", run, "--data", tiny / "data", "--out", report, "--official", official, "--limit", "20", *bounds
    )
    assert done.returncode == 2, "reports of a sample and of the whole set must not be compared"
    done = salmubench("evaluate", run, "--data", tiny / "data", "--out", report, "--official", official, *bounds)
    assert done.returncode == 0, done.stderr
    judged = read_report(report).verdict
    assert judged is not None
    assert "\x1b" not in done.stdout
    table = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    assert table.index("clean") < table.index("compromised") < table.index(judged.label)
    done = salmubench("compare", report, official)
    assert done.returncode == 0, done.stderr
    done = salmubench("report", tiny / "reports" / "clean.json", report, "--out", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").is_file()
    done = salmubench("evaluate", run, "--data", tiny / "data", "--out", report, *bounds, "--json")
    assert done.returncode == 0, done.stderr
    assert Report.model_validate_json(done.stdout) == read_report(report)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("unlearn", "negative-gradiant", "--model", "m", "--data", "d", "--out", "o"), "negative-gradient"),
        (("demo", "--preset", "huge", "--out", "o"), "tiny"),
        (("evaluate", "nowhere", "--data", "nowhere"), "nowhere"),
        (("train", "dirty", "--data", "d", "--out", "o"), "compromised"),
        (("data", "check", "nowhere"), "nowhere"),
        (("report", "nowhere.json", "--out", "o"), "nowhere.json"),
        (("report", ".", "--out", "o"), "holds no report"),
        (("evaluate", "nowhere", "--data", "d", "--limit", "0"), "--limit"),
        (("evaluate", "nowhere\n\x1b[31m", "--data", "d"), "nowhere"),
        (("train", "clean", "--data", "d", "--out", "o", "--seed", "-1"), "--seed"),
        (("frobnicate",), "frobnicate"),
        (("demo", "--frob"), "--frob"),
        (("compare", "[/x].json", "y.json"), "[/x].json"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = salmubench(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("verb", ["methods", "metrics"])
def test_what_there_is_is_listed(verb: str) -> None:
    done = salmubench(verb)
    assert done.returncode == 0
    for name in methods if verb == "methods" else metrics:
        assert name in done.stdout
