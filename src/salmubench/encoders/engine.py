"""Hands a training over to open_clip_train: its command line, and what we put in the place of members of its own."""

from __future__ import annotations

import logging
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import open_clip_train.main as engine
import torch
from open_clip_train.data import SharedEpoch
from torch.nn.attention import SDPBackend, sdpa_kernel

from salmubench.atomic import write_json
from salmubench.encoders.checkpoint import default_device
from salmubench.encoders.ranks import Ranks, WholeBatchLoss, parallel, share_statistics
from salmubench.encoders.schedule import Schedule
from salmubench.encoders.shards import Shards
from salmubench.encoders.stream import WovenShards, weave
from salmubench.errors import RunError, UserError
from salmubench.presets import Preset
from salmubench.progress import Progress, silent

LATEST = Path("run", "checkpoints", engine.LATEST_CHECKPOINT_NAME)
"""The engine's last checkpoint in a training's work folder."""
LOG = Path("run", "out.log")
"""Its log."""
CURVES = Path("run", "tensorboard")
"""TensorBoard's files, while it trains."""
TRACKERS = ("tensorboard",)
"""Of the engine's own, those that a user may name: its wandb gives every run of a project one id."""


@dataclass(frozen=True)
class Training:
    """One training, as one of its processes sees it.

    Attributes:
        scale: the preset.
        shards: the pairs.
        plan: who takes what of a pass.
        ranks: the processes.
        work: the folder of the engine's state; the same for all processes.
        seed: of initial weights, data order and augmentation.
        tracker: what shows the loss live, a name of the engine's ``--report-to``; changes no result.
    """

    scale: Preset
    shards: Shards
    plan: Schedule
    ranks: Ranks
    work: Path
    seed: int
    tracker: str | None = None


def engine_arguments(training: Training) -> list[str]:
    """The command line of ``open_clip_train.main``, the same for all processes."""
    recipe, shards, plan = training.scale.pretraining, training.shards, training.plan
    flags: dict[str, Any] = {
        "model": model_name(training.scale),
        "train-data": "::".join(shards.retain),
        "train-num-samples": shards.retain_pairs,
        "dataset-type": "webdataset",
        "epochs": recipe.epochs,
        "batch-size": plan.micro_batch,
        "lr": recipe.learning_rate,
        "wd": recipe.weight_decay,
        "beta1": 0.9,
        "beta2": 0.98,
        "eps": 1e-6,
        "warmup": recipe.warmup_steps,
        "precision": recipe.precision,
        "device": default_device(),
        "seed": training.seed,
        "workers": plan.workers,
        "logs": str(training.work),
        "name": "run",
        "save-frequency": 0,
        "resume": "latest",
        "log-every-n-steps": 10,
    }
    if plan.accumulate > 1:
        flags["accum-freq"] = plan.accumulate
    if training.tracker:
        flags["report-to"] = training.tracker
    several = ["--local-loss", "--gather-with-grad"] if plan.ranks > 1 else []
    if plan.ranks > 1 and default_device() != "cpu":
        several.append("--use-bn-sync")
    return [*(f"--{flag}={value}" for flag, value in flags.items()), "--save-most-recent", *several]


def model_name(scale: Preset) -> str:
    """The name under which a preset's model configuration is known to open_clip."""
    return f"salmubench-{scale.name}"


def _members(training: Training, handed_out: Callable[[int, int], None]) -> dict[str, Any]:
    """What the engine finds in the place of members of its own."""
    shards, plan, several = training.shards, training.plan, training.plan.ranks > 1
    create_model = engine.create_model_and_transforms

    def source(epoch: SharedEpoch) -> WovenShards:
        return WovenShards(
            shards.retain,
            shards.sensitive,
            retain_pairs=plan.stream_pairs,
            repeats=training.scale.pretraining.sensitive_repeats,
            seed=training.seed,
            epoch=epoch,
            own_shards=plan.own_shards,
            strict=not shards.foreign,
        )

    def channels_last(*args: Any, **kwargs: Any) -> Any:
        model, *transforms = create_model(*args, **kwargs)
        if several and default_device() == "cpu":
            model = share_statistics(model)
        return model.to(memory_format=torch.channels_last), *transforms  # a quarter faster on a CPU, the same weights

    members = {
        "create_model_and_transforms": channels_last,
        # The fused kernel takes a quarter of the time on a CPU, where most weights are token embeddings.
        "optim": SimpleNamespace(AdamW=partial(torch.optim.AdamW, fused=True)),
        "get_data": weave(engine.get_data, source, plan, handed_out),
        "init_distributed_device": training.ranks.device,
        "setup_logging": _log_to_file,
    }
    if several:
        loss = WholeBatchLoss(rank=training.ranks.rank, world_size=training.ranks.size)
        members["create_loss"] = lambda arguments: loss
    return members


def run_engine(training: Training, description: str, progress: Progress) -> None:
    """Runs open_clip_train's ``main``, with a bar in the first process.

    Raises:
        UserError: a shard is no tar, or a picture does not decode.
        RunError: the engine failed, or could not write its state.
    """
    work, ranks, steps = training.work, training.ranks, training.plan.steps
    configuration = work / "model" / f"{model_name(training.scale)}.json"
    ranks.from_first(lambda: write_json(configuration, training.scale.pretraining.model))
    open_clip.add_model_config(configuration)
    shown = progress if ranks.rank == 0 else silent
    with shown(description, training.scale.pretraining.epochs * steps) as advance:
        done = 0

        def handed_out(epoch: int, number: int) -> None:
            nonlocal done
            advance(epoch * steps + number - done)
            done = epoch * steps + number

        # Plain attention: the CPU's flash kernel takes twice as long over short captions.
        attention = sdpa_kernel(SDPBackend.MATH) if default_device() == "cpu" else nullcontext()
        several = {"DistributedDataParallel": parallel} if ranks.size > 1 else {}
        with (
            _replaced(engine, **_members(training, handed_out)),
            _replaced(torch.nn.parallel, **several),
            attention,
            _explained(work),
            _written_curves(training),
        ):
            status = engine.main(engine_arguments(training))
    if status:
        raise RunError(f"{work}: open_clip_train ended with {status}; its log is {work / LOG}")


@contextmanager
def _written_curves(training: Training) -> Iterator[None]:
    """Closes TensorBoard's writer, which the engine leaves open with the last points in memory."""
    if training.tracker is None:
        yield
        return
    from torch.utils.tensorboard import SummaryWriter

    with ExitStack() as opened:

        def writer(folder: str) -> SummaryWriter:
            made: SummaryWriter = opened.enter_context(SummaryWriter(folder))
            return made

        with _replaced(engine, tensorboard=SimpleNamespace(SummaryWriter=writer)):
            yield


def losses(work: Path) -> list[float]:
    """The loss of each epoch's last step, from the engine's log."""
    log = (work / LOG).read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"Train Epoch: (\d+) .* Loss: (\S+)", log)
    return [float(loss) for _, loss in sorted({int(epoch): loss for epoch, loss in found}.items())]


@contextmanager
def _explained(work: Path) -> Iterator[None]:
    """Says what went wrong where the engine's own error would not."""
    try:
        yield
    except tarfile.TarError as error:
        raise UserError(
            f"{error.args[-1]}: not a readable tar; build the data set again or run `salmubench data check`"
        ) from error
    except RuntimeError as error:
        if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
            raise
        raise RunError(f"{work}: the training state could not be written; free some space and run again") from error


def quiet() -> AbstractContextManager[None]:
    """Keeps warnings of open_clip from the screen."""
    return _replaced(logging.root, level=logging.ERROR)


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
    handler = logging.FileHandler(log_file) if log_file else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s | %(levelname)s | %(message)s"))
    root.addHandler(handler)
