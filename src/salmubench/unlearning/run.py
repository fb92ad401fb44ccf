"""The one unlearning loop: AdamW, linear warm-up and cosine, a budget in passes over the forget set, exact resumption.

The model stays in eval mode throughout. Dropout is off, so the frozen original's features can be computed once; and
batch normalisation keeps its statistics (its weights train): batches of one kind of picture, forget portraits, would
otherwise shift them for every picture, and the damage would come from the loop rather than from the method.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from open_clip_train.scheduler import cosine_lr
from torch import nn
from torch.optim import AdamW

from salmubench.atomic import alone
from salmubench.dataset.seal import sealed
from salmubench.encoders.checkpoint import FOLDER_PREFIX, RECORD_FILE, WEIGHTS_FILE, load_encoder, save_checkpoint
from salmubench.encoders.encoder import Encoder
from salmubench.errors import RunError, UserError
from salmubench.progress import Progress, silent
from salmubench.seeds import derive
from salmubench.trackers import choose_tracker
from salmubench.unlearning.data import ForgetRetain
from salmubench.unlearning.features import FeatureSource
from salmubench.unlearning.method import Method, MethodEntry, methods, trained_weights
from salmubench.unlearning.optimizer import MuonAdamW, parameter_groups
from salmubench.unlearning.pixels import PixelCache
from salmubench.unlearning.plan import check_rates, make_plan
from salmubench.unlearning.record import Settings, is_finished, peak_memory_mb, write_record, write_rows
from salmubench.unlearning.scope import Scope
from salmubench.unlearning.split import Split
from salmubench.unlearning.state import LOG_FILE, STATE_FILE, load_state, save_state, trim_log
from salmubench.unlearning.track import TRACKERS, project, tracking

PRECISIONS = {"fp32": "no", "bf16": "bf16"}
DECODING = timedelta(hours=12)
"""How long processes wait for their machine's first one, which decodes the pictures."""
MAX_LOGIT_SCALE = math.log(100)
"""open_clip_train's bound on the log of the logit scale, kept after each step."""


@dataclass
class Totals:
    """Steps done and seconds spent, over all sittings; seconds in which the model waited for data, in this one."""

    step: int
    seconds: float
    waited: float = 0.0


class Loop:
    """One run's optimisation. Everything random follows from the plan, so the state is weights, moments and a step."""

    def __init__(
        self,
        method: Method[Any],
        settings: Settings,
        model: nn.Module,
        source: FeatureSource,
        accelerator: Accelerator,
        out: Path,
    ) -> None:
        self.method, self.settings, self.source, self.accelerator, self.out = method, settings, source, accelerator, out
        self.steps = len(source.plan) if method.trains else 0
        groups = parameter_groups(model, settings.weight_decay, orthogonal=method.orthogonal)
        # The fused kernel is quicker on a CPU, where most of a small model's weights are token embeddings.
        fused = accelerator.device.type in ("cpu", "cuda")
        kind = MuonAdamW if method.orthogonal else AdamW
        optimizer = kind(groups, lr=settings.learning_rate, fused=fused)
        # Not wrapped for several processes: ``Split`` brings embeddings and gradients together.
        self.model = accelerator.prepare_model(model, evaluation_mode=True)
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.trained = list(trained_weights(self.bare).values())
        if settings.compiled:
            # A graph for each of the few step sizes: no graph depends on which sizes came before, as on resuming.
            self.model.compile(dynamic=False)
        warmup = round(settings.warmup_share * self.steps)
        self.set_learning_rate: Callable[[int], float] = cosine_lr(
            self.optimizer, settings.learning_rate, warmup, self.steps
        )
        step, seconds = load_state(out, settings, self.bare, self.optimizer)
        self.totals = Totals(step, seconds)

    @property
    def bare(self) -> nn.Module:
        """The model without accelerate's wrapping."""
        model: nn.Module = self.accelerator.unwrap_model(self.model)
        return model

    def run(self, *, checkpoint_seconds: float, progress: Progress) -> Totals:
        """Does the steps that are left.

        Raises:
            RunError: the loss or a weight is no longer finite.
        """
        if self.accelerator.is_main_process:
            trim_log(self.out, self.totals.step)
        sizes = [len(rows) for rows in self.source.plan.forget[: self.steps]]
        before, began = self.totals.seconds, time.perf_counter()
        saved, writes = began, self.accelerator.is_main_process
        with (
            (self.out / LOG_FILE if writes else Path(os.devnull)).open("a", buffering=1, encoding="utf-8") as log,
            tracking(self.accelerator, self.settings),
            progress(f"unlearning: {self.settings.method}", sum(sizes)) as advance,
        ):
            advance(sum(sizes[: self.totals.step]))
            while self.totals.step < self.steps:
                self._step(log)
                now = time.perf_counter()
                self.totals.seconds = before + now - began
                advance(sizes[self.totals.step - 1])
                if writes and now - saved >= checkpoint_seconds and self.totals.step < self.steps:
                    self._require_finite_weights()
                    save_state(
                        self.out, self.settings, self.totals.step, self.totals.seconds, self.bare, self.optimizer
                    )
                    saved = time.perf_counter()
        self._require_finite_weights()
        return self.totals

    def _step(self, log: TextIO) -> None:
        step, began = self.totals.step, time.perf_counter()
        inputs = self.source.inputs(step)
        waited = time.perf_counter() - began
        rate = self.set_learning_rate(step)
        loss = self.method.loss(self.source.encode(self.model, inputs))
        value = loss.item()
        if not math.isfinite(value):
            raise RunError(self._diverged(f"the loss became {value}"))
        if not loss.requires_grad:
            raise UserError(f"--scope {self.settings.scope}: {self.settings.method}'s loss depends on no weight of it")
        self.accelerator.backward(loss)
        for weight in self.trained:
            if weight.grad is not None:
                self.source.split.mean(weight.grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        clamp_logit_scale(self.bare)
        self.method.after_step(self.bare)
        seconds = time.perf_counter() - began
        self.totals.step, self.totals.waited = step + 1, self.totals.waited + waited
        line = {
            "step": step,
            "loss": value,
            "learning_rate": rate,
            "pairs_per_second": len(inputs.permutation) / seconds,
            "data_wait": waited / seconds,
            "peak_memory_mb": peak_memory_mb(self.accelerator.device),
        }
        log.write(json.dumps(line) + "\n")
        self.accelerator.log({"loss": value, "learning_rate": rate}, step=step)

    def _require_finite_weights(self) -> None:
        if not all(bool(weight.isfinite().all()) for weight in self.bare.parameters()):
            raise RunError(self._diverged("a weight became infinite or NaN"))

    def _diverged(self, what: str) -> str:
        state = self.out / STATE_FILE
        kept = f"the last good state is kept in {state}" if state.exists() else "no state had been saved yet"
        return (
            f"{self.settings.method}: {what} at step {self.totals.step} of {self.steps}; {kept}; lower --learning-rate "
            f"(now {self.settings.learning_rate:g}) and choose another --out"
        )


@torch.no_grad()
def clamp_logit_scale(model: nn.Module) -> None:
    """Keeps the logit scale within 1 and 100, as CLIP was trained."""
    scale = getattr(model, "logit_scale", None)
    if isinstance(scale, torch.Tensor) and scale.requires_grad:
        scale.clamp_(0, MAX_LOGIT_SCALE)


def unlearn(
    method: str,
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    budget: float = 1,
    options: Mapping[str, str] | None = None,
    scope: str = "full",
    learning_rate: float = 3e-5,
    batch_size: int = 32,
    warmup_share: float = 0.1,
    weight_decay: float = 1e-3,
    seed: int = 42,
    arch: str | None = None,
    device: str | None = None,
    precision: str = "fp32",
    chunks: int = 1,
    compiled: bool = False,
    cache: bool = True,
    checkpoint_seconds: float = 120,
    tracker: str | None = None,
    progress: Progress = silent,
) -> Path:
    """Unlearns the forget set from a checkpoint with one method.

    A killed run goes on where its last state was saved and ends with the same bytes (on a GPU, as far as its kernels
    are deterministic). A finished run with the same settings is reused. Started by ``accelerate launch`` or
    ``torchrun``, processes share each step; its loss remains that of the whole batch, and the first process writes.

    Args:
        method: a registered method's name.
        model: the checkpoint to start from, normally Compromised: a folder, a weights file (``arch``), ``hf-hub:...``.
        data: a data set folder, an evaluation folder or ``hf://...``; only forget and retain files are opened.
        out: folder that gets the checkpoint, log.jsonl, rows.parquet and, last, record.json.
        budget: passes over the forget set; as many retain pairs are seen. Fractions end early.
        options: the method's own options as texts, from ``--set key=value``.
        scope: what is trained: ``full``, ``vision`` or ``text`` (one tower), ``last-N`` (the last N blocks of each
            tower), ``lora-R`` (adapters of rank R, merged at the end; needs peft).
        learning_rate: AdamW's peak rate.
        batch_size: forget pairs a step, and as many retain pairs.
        warmup_share: share of the steps over which the rate rises linearly; then it falls as a cosine.
        weight_decay: AdamW's, on matrices only.
        seed: of everything random.
        arch: open_clip's name of the architecture, for a weights file.
        device: ``cpu``, ``cuda`` or ``mps``; the best that is there by default.
        precision: ``fp32`` or ``bf16`` (autocast; weights stay fp32).
        chunks: forward passes that a step is cut into, so that it takes less memory: the loss stays that of the whole
            batch, each part is encoded twice.
        compiled: whether ``torch.compile`` compiles the model first.
        cache: whether decoded pictures are kept for the next run (``SALMUBENCH_CACHE``, 10 GB at most).
        checkpoint_seconds: how often the training state is saved; changes no result.
        tracker: where loss and learning rate are shown live: ``tensorboard`` (the default where it is installed),
            ``wandb``, ``trackio``, ``mlflow``, or ``none``; changes no result.
        progress: shows decoding and the steps.

    Returns:
        ``out``, a checkpoint folder.

    Raises:
        UserError: a wrong name, value or path, or another run in ``out``.
        RunError: the loss or a weight is no longer finite.
    """
    entry = methods[method]
    parsed, trained = entry.parse(options or {}), Scope.parse(scope)
    built = entry.build(parsed)
    trained.require_fit(method, built)
    check_rates(learning_rate, warmup_share, weight_decay)
    out = Path(out)
    pairs = ForgetRetain(data)
    accelerator = _accelerator(device, precision, choose_tracker(tracker, TRACKERS), out)
    split = Split.of(accelerator, chunks)
    progress = progress if accelerator.is_main_process else silent
    encoder = load_encoder(model, arch=arch, device=str(accelerator.device))
    settings = Settings(
        method=method, method_sha256=entry.source_sha256,
        options=asdict(parsed), scope=scope, budget=budget, learning_rate=learning_rate, batch_size=batch_size,
        warmup_share=warmup_share, weight_decay=weight_decay, seed=seed, precision=precision,
        chunks=chunks, processes=split.processes, compiled=compiled,
        model_sha256=encoder.weights_sha256, data_sha256=pairs.fingerprint,
    )  # fmt: skip
    if is_finished(out, settings):
        (out / STATE_FILE).unlink(missing_ok=True)
        return out
    plan = make_plan(pairs.size("forget"), pairs.size("retain"), budget=budget, batch_size=batch_size, seed=seed)
    split.require_fit(min(map(len, plan.forget)))
    with _claimed(out, model, accelerator), sealed():
        # As in evaluation: cuDNN neither picks its algorithm by the batch nor rounds float32 to TF32.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=precision != "fp32"):
            trained.choose(encoder.model)
            with accelerator.autocast():
                steps, began = len(plan) if built.trains else plan.first_pass, time.perf_counter()
                kept = PixelCache() if cache else None
                source = FeatureSource(
                    pairs, plan, built.needs, encoder, steps=steps, scratch=out, progress=progress, split=split,
                    cache=kept,
                )  # fmt: skip
                source.write(built, pairs, encoder, progress)
                source.start(built, encoder.model, progress)
                prepared = time.perf_counter() - began
            with trained.adapters(encoder.model, seed):
                loop = Loop(built, settings, encoder.model, source, accelerator, out)
                with _compiling(compiled):
                    loop.run(checkpoint_seconds=checkpoint_seconds, progress=progress)
        loop.method.finish(loop.bare, torch.Generator().manual_seed(derive(seed, "unlearning", "finish")))
        if accelerator.is_main_process:
            _publish(loop, entry, encoder, {"model": str(model), "data": str(data)}, prepared)
    return out


def _publish(
    loop: Loop, entry: MethodEntry, encoder: Encoder, origin: Mapping[str, str], preparing_seconds: float
) -> None:
    """Writes what a run leaves behind: the checkpoint, the rows it saw and, last, its record.

    Its ``seconds`` are those of the steps and of what came before the first: decoding, texts, looks at all gradients.
    """
    settings, source, out = loop.settings, loop.source, loop.out
    save_checkpoint(loop.bare, encoder.config, out)
    consumed = source.consumed(loop.steps)
    write_rows(out, consumed)
    facts = {
        "summary": entry.summary,
        "citation": entry.citation,
        "architecture": encoder.architecture,
        "device": loop.accelerator.device.type,
        "steps": loop.steps,
        "batches_looked_at": len(source.looked),
        "rows": {name: len(names) for name, (names, _) in consumed.items()},
    }
    seen = sum(len(rows) for rows in source.plan.forget[: loop.steps])
    run = {
        **origin,
        "seconds": round(loop.totals.seconds + preparing_seconds, 3),
        "preparing_seconds": round(preparing_seconds, 3),
        "pairs_per_second": round(seen / loop.totals.seconds, 1) if seen else None,
        "data_wait_seconds": round(loop.totals.waited, 3),
        "peak_memory_mb": peak_memory_mb(loop.accelerator.device),
    }
    write_record(out, settings, facts, run)
    (out / STATE_FILE).unlink(missing_ok=True)


def _accelerator(device: str | None, precision: str, tracker: str | None, out: Path) -> Accelerator:
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: there is no such precision; choose from {', '.join(PRECISIONS)}")
    # accelerate keeps one state a process; a second run with another device or precision needs it fresh.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=device == "cpu", mixed_precision=PRECISIONS[precision], log_with=tracker, project_config=project(out),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=DECODING)],
    )  # fmt: skip
    if device is not None and device != accelerator.device.type:
        raise UserError(f"--device {device}: accelerate offers {accelerator.device.type} here; choose that or cpu")
    return accelerator


@contextmanager
def _compiling(compiled: bool) -> Iterator[None]:
    """Says in one sentence that torch.compile failed, for want of a C++ compiler, say."""
    if not compiled:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # seconds to import

    try:
        yield
    except TorchDynamoException as error:
        reason = str(getattr(error, "inner_exception", error)).splitlines()[0]
        raise RunError(f"--compile: torch.compile failed ({reason}); run without it") from error


@contextmanager
def _claimed(out: Path, model: str | Path, accelerator: Accelerator) -> Iterator[None]:
    """Holds ``out`` for this run: its first process alone, and the others wait for it, before and after."""
    accelerator.wait_for_everyone()  # all have read what lies there
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()
        yield
    else:
        with alone(out):
            _claim(out, model)
            accelerator.wait_for_everyone()
            yield
    accelerator.wait_for_everyone()


def _claim(out: Path, model: str | Path) -> None:
    """Makes ``out`` ready, unless it holds what no run of ours wrote."""
    ours = any((out / name).exists() for name in (LOG_FILE, RECORD_FILE, STATE_FILE))
    same = out.resolve() == Path(str(model).removeprefix(FOLDER_PREFIX)).resolve()
    if same or ((out / WEIGHTS_FILE).exists() and not ours):
        raise UserError(f"{out}: holds a checkpoint that this run would overwrite; choose another --out")
    found = [] if ours else [path.name for path in sorted(out.glob("[!.]*")) if ".tmp-" not in path.name]
    if found:
        raise UserError(f"{out}: holds {found[0]}, which no unlearning run wrote; choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / RECORD_FILE).unlink(missing_ok=True)
        for unfinished in out.glob("*.tmp-*"):  # what a killed run was writing
            unfinished.unlink()
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror}); choose another --out") from error
