"""Trains Clean and Compromised from scratch by handing over to open_clip_train.

Both runs share seed, configuration and the order of the retain pairs; Compromised also sees the sensitive pairs. The
engine's own ``main`` runs in this process; what we add is the data order (``stream.py``), progress, and the checkpoint
folder at the end. A killed run continues from the last finished epoch and ends with the same weights.
"""

from __future__ import annotations

import logging
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import open_clip
import open_clip_train.main as engine
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from salmubench.atomic import alone, read_json, replacing, write_json
from salmubench.dataset.manifest import check_sizes, read_manifest
from salmubench.dataset.retain import CaptionedPicture, shard_sizes, write_shards
from salmubench.dataset.store import load_split
from salmubench.encoders.checkpoint import WEIGHTS_FILE, default_device, save_checkpoint
from salmubench.encoders.stream import WovenShards, weave
from salmubench.errors import RunError, UserError
from salmubench.presets import Preset
from salmubench.presets import preset as preset_by_name
from salmubench.progress import Progress, silent

Which = Literal["clean", "compromised"]

TRAINING_FILE = "training.json"
"""Written last into a finished checkpoint folder: what was trained, on what, how."""
TRAINING_FOLDERS = ("salmu", "retain_real")


@dataclass(frozen=True)
class Shards:
    """The training pairs as webdataset shards, with their counts."""

    retain: list[str]
    retain_pairs: int
    sensitive: list[str]
    sensitive_pairs: int


def train(
    which: Which,
    data: str | Path,
    out: str | Path,
    *,
    preset: str | Preset = "mini",
    seed: int = 42,
    threads: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Trains one of the two models of a data set folder.

    Args:
        which: ``"clean"`` (retain pairs only) or ``"compromised"`` (retain and sensitive pairs).
        data: a data set folder, as ``salmubench data build`` writes it.
        out: the checkpoint folder to write: ``open_clip_config.json``, ``open_clip_model.safetensors`` and
            ``training.json``. A finished one with the same settings is kept.
        preset: the scale, or its name.
        seed: seed of initial weights, data order and augmentation. Give both models the same.
        threads: CPU threads; None leaves torch's choice. Equal weights are promised for an equal number of threads.
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
    scale = preset_by_name(preset)
    settings = {
        "which": which,
        "preset": scale.name,
        "seed": seed,
        "pretraining": asdict(scale.pretraining),
        "data_revision": _training_revision(data),
    }
    work = out.with_name(f".{out.name}-training")
    if _is_finished(out, settings):
        shutil.rmtree(work, ignore_errors=True)
        return out
    with alone(work):
        _same_settings_or_fresh(work, settings)
        if threads is not None:
            torch.set_num_threads(threads)
        started = time.perf_counter()
        shards = training_shards(which, data, work / "shards")
        arguments = engine_arguments(scale, shards, work, seed)
        _run_engine(arguments, scale, shards, work, seed, f"training {which}", progress)
        record = {
            "schema": 1,
            "settings": settings,
            "retain_pairs": shards.retain_pairs,
            "sensitive_pairs": shards.sensitive_pairs,
            "arguments": [argument for argument in arguments if not argument.startswith(("--train-data=", "--logs="))],
            "versions": {"torch": torch.__version__, "open_clip": open_clip.__version__},
            "run": {"seconds": round(time.perf_counter() - started, 1), "threads": torch.get_num_threads()},
        }
        _publish(work, scale, out, record)
        shutil.rmtree(work)
    return out


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


def _same_settings_or_fresh(work: Path, settings: dict[str, Any]) -> None:
    """Keeps a killed run's folder only where it was made for the same settings."""
    marker = work / "settings.json"
    if not marker.is_file() or read_json(marker) != settings:
        for stale in work.iterdir():  # not the folder, which is held
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    if not marker.is_file():
        write_json(marker, settings)


def training_shards(which: Which, data: Path, work: Path) -> Shards:
    """The retain shards of ``data`` and, as shards in ``work``, the parquet splits that this model trains on."""
    retain_real = sorted((data / "retain_real").glob("*.tar"))
    if not retain_real:
        raise UserError(f"{data / 'retain_real'}: holds no .tar shards; build the data set first")
    synthetic, synthetic_pairs = _as_shards(data / "salmu", "retain_synth", work)
    sensitive, sensitive_pairs = _as_shards(data / "salmu", "sensitive", work) if which == "compromised" else ([], 0)
    return Shards(
        retain=[*map(str, retain_real), *synthetic],
        retain_pairs=sum(shard_sizes(data / "retain_real").values()) + synthetic_pairs,
        sensitive=sensitive,
        sensitive_pairs=sensitive_pairs,
    )


def _as_shards(folder: Path, split: str, work: Path) -> tuple[list[str], int]:
    pairs, pictures = load_split(folder, split)
    target = work / split
    if not len(pairs):
        return [], 0
    if not target.is_dir():

        def captioned() -> Iterator[CaptionedPicture]:
            for row, image in enumerate(pictures.stream(pairs.picture)):
                name, _, extension = pairs.file_name[row].rpartition(".")
                yield CaptionedPicture(name.replace(".", "-"), image, pairs.text[row], extension)

        with replacing(target) as temporary:
            write_shards(temporary, captioned())
    return sorted(map(str, target.glob("*.tar"))), len(pairs)


def engine_arguments(scale: Preset, shards: Shards, work: Path, seed: int) -> list[str]:
    """The command line of ``open_clip_train.main`` for one model."""
    recipe = scale.pretraining
    flags: dict[str, Any] = {
        "model": model_name(scale),
        "train-data": "::".join(shards.retain),
        "train-num-samples": shards.retain_pairs,
        "dataset-type": "webdataset",
        "epochs": recipe.epochs,
        "batch-size": recipe.batch_size,
        "lr": recipe.learning_rate,
        "wd": recipe.weight_decay,
        "beta1": 0.9,
        "beta2": 0.98,
        "eps": 1e-6,
        "warmup": recipe.warmup_steps,
        "precision": recipe.precision,
        "device": default_device(),
        "seed": seed,
        "workers": 0,
        "logs": str(work),
        "name": "run",
        "save-frequency": 0,
        "resume": "latest",
        "log-every-n-steps": 10,
    }
    return [*(f"--{flag}={value}" for flag, value in flags.items()), "--save-most-recent"]


def model_name(scale: Preset) -> str:
    """The name under which a preset's model configuration is known to open_clip."""
    return f"salmubench-{scale.name}"


def _run_engine(
    arguments: list[str], scale: Preset, shards: Shards, work: Path, seed: int, description: str, progress: Progress
) -> None:
    configuration = work / "model" / f"{model_name(scale)}.json"
    write_json(configuration, scale.pretraining.model)
    open_clip.add_model_config(configuration)
    recipe = scale.pretraining
    steps = -(-shards.retain_pairs // recipe.batch_size)
    ratio = recipe.sensitive_repeats * shards.sensitive_pairs / shards.retain_pairs
    get_data, create_model = engine.get_data, engine.create_model_and_transforms

    def channels_last(*args: Any, **kwargs: Any) -> Any:
        model, *transforms = create_model(*args, **kwargs)
        return model.to(memory_format=torch.channels_last), *transforms  # a quarter faster on a CPU, the same weights

    with progress(description, recipe.epochs * steps) as advance:
        done = 0

        def handed_out(epoch: int, batches: int) -> None:
            nonlocal done
            advance(epoch * steps + batches - done)
            done = epoch * steps + batches

        def woven_data(*args: Any, **kwargs: Any) -> Any:
            data = get_data(*args, **kwargs)
            source = WovenShards(
                shards.retain,
                shards.sensitive,
                sensitive_per_retain=ratio,
                seed=seed,
                epoch=data["train"].shared_epoch,
            )
            weave(data["train"], source, batch_size=recipe.batch_size, handed_out=handed_out)
            return data

        # The fused kernel takes a quarter of the time on a CPU, where most weights are token embeddings.
        fused = SimpleNamespace(AdamW=partial(torch.optim.AdamW, fused=True))
        members = {
            "create_model_and_transforms": channels_last,
            "optim": fused,
            "get_data": woven_data,
            "setup_logging": _log_to_file,
        }
        # Plain attention: the CPU's flash kernel takes twice as long over short captions.
        with _replaced(engine, **members), sdpa_kernel(SDPBackend.MATH) if default_device() == "cpu" else nullcontext():
            try:
                status = engine.main(arguments)
            except tarfile.TarError as error:
                raise UserError(
                    f"{error.args[-1]}: not a readable tar; build the data set again or run `salmubench data check`"
                ) from error
            except RuntimeError as error:
                if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
                    raise
                raise RunError(
                    f"{work}: the training state could not be written; free some space and run again"
                ) from error
    if status:
        raise RunError(f"{work}: open_clip_train ended with {status}; its log is {work / 'run' / 'out.log'}")


@contextmanager
def _replaced(module: Any, **members: Any) -> Iterator[None]:
    """Puts ``members`` in the module's place of the same names while the context lasts; takes its log handlers away."""
    before = {name: getattr(module, name) for name in members}
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        for name, member in members.items():
            setattr(module, name, member)
        yield
    finally:
        for name, member in before.items():
            setattr(module, name, member)
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)


def _log_to_file(log_file: str | None, level: int, include_host: bool = False) -> None:
    """In place of the engine's ``setup_logging``: its log goes to its file, nothing to the screen."""
    root = logging.getLogger()
    root.setLevel(level)
    if log_file:
        handler = logging.FileHandler(log_file)
        handler.setFormatter(logging.Formatter("%(asctime)s | %(levelname)s | %(message)s"))
        root.addHandler(handler)


def _publish(work: Path, scale: Preset, out: Path, record: dict[str, Any]) -> None:
    """Turns the engine's last checkpoint into an open_clip folder, the record last."""
    latest = work / "run" / "checkpoints" / engine.LATEST_CHECKPOINT_NAME
    if not latest.is_file():
        raise RunError(f"{latest}: the training left no checkpoint; its log is {work / 'run' / 'out.log'}")
    state = torch.load(latest, map_location="cpu", weights_only=True)["state_dict"]
    broken = [name for name, weight in state.items() if not torch.isfinite(weight).all()]
    if broken:
        raise RunError(f"{out}: training ended with weights that are not finite ({broken[0]}); lower the learning rate")
    with _replaced(logging.root, level=logging.ERROR):  # open_clip would warn of random weights, replaced at once
        model = open_clip.create_model(model_name(scale), load_weights=False)
    model.load_state_dict(state)
    save_checkpoint(model, {"model_cfg": scale.pretraining.model, "preprocess_cfg": model.visual.preprocess_cfg}, out)
    write_json(out / TRAINING_FILE, record)
