"""The flag --tracker: what TensorBoard is shown equals the log, results stay the same, wrong names are told."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from salmubench.cli import app
from salmubench.encoders.checkpoint import WEIGHTS_FILE
from salmubench.encoders.pretrain import train
from salmubench.errors import UserError
from salmubench.presets import Preset
from salmubench.trackers import choose_tracker
from unlearning_world import products
from unlearning_world import world_folder as world_folder
from unlearning_world import world_model as world_model


def scalars(folder: Path, tag: str) -> dict[int, float]:
    """What TensorBoard shows of one curve."""
    shown = [EventAccumulator(str(path)).Reload() for path in folder.rglob("events.out.tfevents.*")]
    (curve,) = [events.Scalars(tag) for events in shown if tag in events.Tags()["scalars"]]
    return {point.step: point.value for point in curve}


def unlearned(model: Path, data: Path, out: Path, *flags: str) -> Path:
    command = ["unlearn", "delete", "--model", str(model), "--data", str(data), "--out", str(out)]
    result = CliRunner().invoke(app, [*command, "--batch-size", "6", "--device", "cpu", *flags])
    assert result.exception is None, result.exception
    return out


@pytest.mark.parametrize("flags", [["--tracker", "tensorboard"], []], ids=["named", "by default"])
def test_tensorboard_shows_the_log(flags: list[str], folder: Path, model: Path, tmp_path: Path) -> None:
    out = unlearned(model, folder, tmp_path / "out", *flags)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for name in ("loss", "learning_rate"):
        assert scalars(out / "tracker", name) == pytest.approx({line["step"]: line[name] for line in log})
    assert len(log) == 4


def test_none_writes_no_tracker_and_changes_no_result(folder: Path, model: Path, tmp_path: Path) -> None:
    plain = unlearned(model, folder, tmp_path / "plain", "--tracker", "none")
    shown = unlearned(model, folder, tmp_path / "shown", "--tracker", "tensorboard")
    assert not (plain / "tracker").exists()
    assert products(plain) == products(shown)


def test_pre_training_shows_the_engines_losses(world: Path, micro: Preset, tmp_path: Path) -> None:
    plain = train("clean", world, tmp_path / "plain", preset=micro, threads=1, tracker="none")
    shown = train("clean", world, tmp_path / "shown", preset=micro, threads=1)
    records = [json.loads((out / "training.json").read_text()) for out in (plain, shown)]
    for record in records:
        record.pop("run")
    assert records[0] == records[1]
    assert (plain / WEIGHTS_FILE).read_bytes() == (shown / WEIGHTS_FILE).read_bytes()
    assert not (plain / "tracker").exists()
    curve = scalars(shown / "tracker", "train/loss")
    last = [curve[step] for step in sorted(curve)][-1]
    assert last == pytest.approx(records[1]["losses"][-1], abs=1e-3)  # the log rounds


def test_pre_training_refuses_other_trackers_first(tmp_path: Path) -> None:
    command = ["train", "clean", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--tracker", "wandb"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == "--tracker wandb: there is no such tracker; choose from tensorboard, none"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tensorbord", "--tracker tensorbord: there is no such tracker; choose from tensorboard, mlflow, none"),
        ("mlflow", "--tracker mlflow: its package is not installed; pip install mlflow"),
    ],
)
def test_a_tracker_that_is_not_there_is_told(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(UserError) as error:
        choose_tracker(name, ("tensorboard", "mlflow"))
    assert str(error.value) == words
    assert choose_tracker(None, ("tensorboard", "mlflow")) == "tensorboard"
    assert choose_tracker(None, ("mlflow", "tensorboard")) is None
