"""Trains Clean and Compromised from scratch by handing over to open_clip_train.

Both runs share seed, configuration and the order of the retain pairs; Compromised also sees the sensitive pairs. What
we add to the engine is the data order (``stream.py``), progress, and the checkpoint folder at the end. A killed run
continues from the last finished epoch and ends with the same weights.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import open_clip
import torch

from salmubench.atomic import alone, read_json, write_json
from salmubench.dataset.manifest import check_sizes, read_manifest
from salmubench.encoders.checkpoint import WEIGHTS_FILE, default_device, model_config, save_checkpoint
from salmubench.encoders.engine import (
    CURVES,
    LATEST,
    LOG,
    TRACKERS,
    Training,
    engine_arguments,
    losses,
    model_name,
    quiet,
    run_engine,
)
from salmubench.encoders.ranks import joined
from salmubench.encoders.schedule import Schedule, schedule
from salmubench.encoders.shards import Shards, Which, training_shards
from salmubench.errors import RunError, UserError
from salmubench.presets import Preset
from salmubench.presets import preset as preset_by_name
from salmubench.progress import Progress, silent
from salmubench.trackers import FOLDER, choose_tracker

TRAINING_FILE = "training.json"
"""Written last into a finished checkpoint folder: what was trained, on what, how."""
SETTINGS_FILE = "settings.json"
TRAINING_FOLDERS = ("salmu", "retain_real")


def train(
    which: Which,
    data: str | Path,
    out: str | Path,
    *,
    preset: str | Preset = "mini",
    arch: str | None = None,
    seed: int = 42,
    threads: int | None = None,
    retain: Sequence[str] = (),
    retain_pairs: int | None = None,
    accumulate: int | None = None,
    workers: int | None = None,
    resume: bool = True,
    tracker: str | None = None,
    progress: Progress = silent,
) -> Path:
    """Trains one of the two models of a data set folder, in this process or, under torchrun, in all that it started.

    Args:
        which: ``"clean"`` (retain pairs only) or ``"compromised"`` (retain and sensitive pairs).
        data: a data set folder, as ``salmubench data build`` writes it.
        out: the checkpoint folder to write: ``open_clip_config.json``, ``open_clip_model.safetensors`` and
            ``training.json``. A finished one with the same settings is kept.
        preset: the scale, or its name.
        arch: another model than the preset's: open_clip's name of it, or the path of a JSON file with embed_dim,
            vision_cfg and text_cfg.
        seed: seed of initial weights, data order and augmentation. Give both models the same.
        threads: CPU threads; None leaves torch's choice. Equal weights are promised for an equal number of threads.
        retain: webdataset shards in the place of the folder's retain_real, as ``expand_urls`` reads them.
        retain_pairs: pairs in them; None where ``sizes.json`` beside them tells.
        accumulate: parts of a process's batch that go through the model one after another; None: the preset's.
        workers: loading processes of each training process; None: the preset's.
        resume: go on from the last epoch that a killed run of the same settings has finished; False begins anew.
        tracker: where loss and learning rate are shown live: ``tensorboard`` (the default where it is installed), whose
            files end up in ``out/tracker``, or ``none``; changes no result.
        progress: shows one bar, in steps.

    Returns:
        ``out``.

    Raises:
        UserError: ``data`` is not a complete data set folder, or ``out`` holds a model of other settings.
        RunError: the training ended without a checkpoint, or its weights are not finite.
    """
    data, out = Path(data), Path(out)
    if which not in ("clean", "compromised"):
        raise UserError(f"cannot train {which!r}: choose clean or compromised")
    scale, shown = preset_by_name(preset), choose_tracker(tracker, TRACKERS)
    if arch is not None:
        scale = replace(scale, pretraining=replace(scale.pretraining, model=model_config(arch)))
    accumulate = scale.scaling.accumulate if accumulate is None else accumulate
    workers = scale.scaling.workers if workers is None else workers
    work = out.with_name(f".{out.name}-training")
    with joined(default_device()) as ranks, ExitStack() as held:

        def prepare() -> tuple[dict[str, Any], Shards, Schedule] | None:
            settings = _settings(which, data, scale, seed, retain, retain_pairs)
            if _is_finished(out, settings):
                shutil.rmtree(work, ignore_errors=True)
                return None
            held.enter_context(alone(work))
            _same_settings_or_fresh(work, settings if resume else None)
            write_json(work / SETTINGS_FILE, settings)
            lanes = ranks.size * max(1, workers) if scale.scaling.deal == "shards" else 1
            shards = training_shards(
                which, data, work / "shards", retain=retain, retain_pairs=retain_pairs, sensitive_shards=lanes
            )
            plan = schedule(
                scale, shards.retain_pairs, len(shards.retain), ranks=ranks.size, accumulate=accumulate, workers=workers
            )
            return settings, shards, plan

        prepared = ranks.from_first(prepare)
        if prepared is None:
            return out
        settings, shards, plan = prepared
        if threads is not None:
            torch.set_num_threads(threads)
        started = time.perf_counter()
        training = Training(scale, shards, plan, ranks, work, seed, shown)
        run_engine(training, f"training {which}", progress)
        if ranks.rank == 0:
            _publish(training, out, _record(settings, training, time.perf_counter() - started))
            shutil.rmtree(work)
    return out


def _settings(
    which: Which, data: Path, scale: Preset, seed: int, retain: Sequence[str], retain_pairs: int | None
) -> dict[str, Any]:
    """What makes the model, so that equal settings are the same model."""
    settings = {
        "which": which,
        "preset": scale.name,
        "seed": seed,
        "pretraining": asdict(scale.pretraining),
        "data_revision": _training_revision(data),
    }
    return settings | ({"retain": list(retain), "retain_pairs": retain_pairs} if retain else {})


def _record(settings: dict[str, Any], training: Training, seconds: float) -> dict[str, Any]:
    of_this_machine = ("--train-data=", "--logs=", "--report-to=")
    return {
        "schema": 1,
        "settings": settings,
        "retain_pairs": training.shards.retain_pairs,
        "sensitive_pairs": training.shards.sensitive_pairs,
        "arguments": [flag for flag in engine_arguments(training) if not flag.startswith(of_this_machine)],
        "losses": losses(training.work),
        "versions": {"torch": torch.__version__, "open_clip": open_clip.__version__},
        "run": {
            "seconds": round(seconds, 1),
            "threads": torch.get_num_threads(),
            "processes": training.plan.ranks,
            "workers": training.plan.workers,
        },
    }


def _training_revision(data: Path) -> str:
    """The revision of what both models train on.

    Raises:
        UserError: the folder is not a complete data set folder.
    """
    manifest = read_manifest(data)
    if manifest is None:
        raise UserError(f"{data}: not a complete data set folder (no manifest); run `salmubench data build` first")
    for folder in TRAINING_FOLDERS:
        check_sizes(data, manifest, folder)
    return manifest.revision_of(*TRAINING_FOLDERS)


def _is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Whether ``out`` holds this very model.

    Raises:
        UserError: it holds another checkpoint.
    """
    record = out / TRAINING_FILE
    if record.is_file():
        content = read_json(record)
        if not isinstance(content, dict) or content.get("settings") != settings:
            raise UserError(f"{out}: holds a model of other settings; choose another --out or remove it")
        return True
    begun = out.with_name(f".{out.name}-training").exists()
    if (out / WEIGHTS_FILE).exists() and not begun:
        raise UserError(f"{out}: holds a checkpoint that this training would overwrite; choose another --out")
    return False


def _same_settings_or_fresh(work: Path, settings: dict[str, Any] | None) -> None:
    """Keeps a killed run's folder only where it was made for the same settings."""
    marker = work / SETTINGS_FILE
    if not marker.is_file() or read_json(marker) != settings:
        for stale in work.iterdir():  # not the folder, which is held
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()


def _publish(training: Training, out: Path, record: dict[str, Any]) -> None:
    """Turns the engine's last checkpoint into an open_clip folder, the record last."""
    work, scale = training.work, training.scale
    latest = work / LATEST
    if not latest.is_file():
        raise RunError(f"{latest}: the training left no checkpoint; its log is {work / LOG}")
    state = torch.load(latest, map_location="cpu", weights_only=True)["state_dict"]
    state = {name.removeprefix("module."): weight for name, weight in state.items()}
    broken = [name for name, weight in state.items() if not torch.isfinite(weight).all()]
    if broken:
        raise RunError(f"{out}: training ended with weights that are not finite ({broken[0]}); lower the learning rate")
    with quiet():  # open_clip would warn of random weights, replaced at once
        model = open_clip.create_model(model_name(scale), load_weights=False)
    model.load_state_dict(state)
    save_checkpoint(model, {"model_cfg": scale.pretraining.model, "preprocess_cfg": model.visual.preprocess_cfg}, out)
    if (work / CURVES).is_dir():
        shutil.copytree(work / CURVES, out / FOLDER, dirs_exist_ok=True)
    write_json(out / TRAINING_FILE, record)
