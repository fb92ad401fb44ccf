"""How long a preset would take here: a few steps of its model, tried on this machine and scaled by its counts.

Only arithmetic is tried: pictures are noise, and reading them is not in the figure. On a CPU one thread's CPU seconds
are taken and shared out to the cores, as the demo shares out its work: so the figure holds for cores that do nothing
else, whatever they do now. What cannot be tried is unknown.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import open_clip
import psutil
import torch
from open_clip.loss import ClipLoss
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from salmubench.encoders.checkpoint import default_device
from salmubench.errors import UserError
from salmubench.jobs import cores
from salmubench.personas.estimate import Estimate, Stage, estimate
from salmubench.personas.plan import expected_counts
from salmubench.presets import Preset, Pretraining
from salmubench.presets import preset as preset_by_name
from salmubench.progress import Progress, silent
from salmubench.unlearning.method import methods

LIMIT_SECONDS = 1.0
"""A trial's steps grow until one takes half of this."""
FIRST_BATCH = 2
REPEATS = 4
ENCODING_BATCH = {"cpu": 128, "cuda": 512}
BYTES_A_WEIGHT = 16
"""A weight, its gradient and AdamW's two moments in float32."""


@dataclass(frozen=True)
class Pace:
    """Seconds a pair, on a CPU with all its cores at work; and the pairs of the largest step that was timed."""

    seconds: float
    batch: int


@dataclass(frozen=True)
class Forecast:
    """One preset on this machine.

    Attributes:
        preset: its name.
        device: where its models would run.
        stages: of its path from nothing to reports; ``seconds`` is None where no rate is known, and ``note`` says why.
        bytes: of its data set folder; None where that is not known.
    """

    preset: str
    device: str
    stages: tuple[Stage, ...]
    bytes: int | None

    @property
    def seconds(self) -> float | None:
        """Of all stages together; None where one is not known."""
        known = [stage.seconds for stage in self.stages if stage.seconds is not None]
        return sum(known) if len(known) == len(self.stages) else None


def forecast(
    preset: str | Preset, *, trial: bool = True, limit: float = LIMIT_SECONDS, progress: Progress = silent
) -> Forecast:
    """Counts a preset's work and, with ``trial``, measures what a pair of it takes; writes and fetches nothing.

    Args:
        preset: a scale, or its name.
        trial: measure. Without it every time is unknown.
        limit: seconds that the longest of a trial's steps may take, roughly; a smaller one means smaller steps, which
            do a model injustice.
        progress: shows the trials.

    Raises:
        UserError: there is no such preset.
    """
    scale, device = preset_by_name(preset), default_device()
    paces: dict[str, Pace | str] = dict.fromkeys(("train", "unlearn", "encode"), "not tried")
    made: Estimate | None = None
    if trial:
        made = estimate(scale, progress=progress)
        paces = _tried(scale, device, limit, progress)
    return Forecast(scale.name, device, tuple(_stages(scale, made, paces)), made.bytes if made else None)


def training_pairs(scale: Preset, counts: Mapping[str, int]) -> dict[str, int]:
    """Pairs that each model sees in its whole training on a world of such counts."""
    real = scale.scaling.retain_real or counts["retain_real"]
    retain, recipe = real + counts["retain_synth"], scale.pretraining
    return {
        "clean": recipe.epochs * retain,
        "compromised": recipe.epochs * (retain + recipe.sensitive_repeats * counts["sensitive"]),
    }


def _stages(scale: Preset, made: Estimate | None, paces: dict[str, Pace | str]) -> Iterator[Stage]:
    counts = expected_counts(scale.world, 42, "pair")
    pictures = sum(counts[name] for name in ("sensitive", "retain_synth", "retain_real", "general_knowledge"))
    seconds = made.seconds if made else None
    untimed = [] if made is None else [f"without {name}" for name in made.unknown]
    yield Stage("data build", pictures, "pictures", seconds, ", ".join(untimed) if made else "not tried")
    for which, pairs in training_pairs(scale, counts).items():
        trained = _stage(f"train {which}", pairs, paces["train"], scale.pretraining.batch_size)
        foreign = f"with {scale.scaling.retain_real:,} pairs of --retain" if scale.scaling.retain_real else ""
        yield replace(trained, note="; ".join(filter(None, (foreign, trained.note))))
    seen = round(2 * scale.unlearning.budget * counts["forget"])
    measured = counts["sensitive"] + counts["retain_synth"] + counts["general_knowledge"]
    runs = len(methods)
    yield _stage(f"unlearn, {runs} methods", runs * seen, paces["unlearn"], scale.unlearning.batch_size)
    yield _stage(f"evaluate, {runs + 2} models", (runs + 2) * measured, paces["encode"], None)


def _stage(name: str, pairs: int, pace: Pace | str, batch: int | None) -> Stage:
    if isinstance(pace, str):
        return Stage(name, pairs, "pairs", None, pace)
    smaller = f"tried with {pace.batch} pairs a step, not {batch:,}" if batch and pace.batch < batch else ""
    return Stage(name, pairs, "pairs", pairs * pace.seconds, smaller)


def _tried(scale: Preset, device: str, limit: float, progress: Progress) -> dict[str, Pace | str]:
    trials = {"train": _train_step, "unlearn": _unlearn_step, "encode": _encode_step}
    found: dict[str, Pace | str] = {}
    with progress(f"trying {scale.name}", len(trials)) as advance:
        try:
            model = _model(scale.pretraining, device)
        except UserError as error:
            return dict.fromkeys(trials, str(error))
        for name, step in trials.items():
            most = {
                "train": scale.pretraining.batch_size,
                "unlearn": 2 * scale.unlearning.batch_size,
                "encode": ENCODING_BATCH[device],
            }[name]
            with _one_thread(device), step(model, scale, device) as one:
                found[name] = measure(one, most, limit, device=device)
            advance(1)
    return found


@contextmanager
def _one_thread(device: str) -> Iterator[None]:
    """On a CPU; there several threads would wait for each other for as long as other programs hold a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if device == "cpu" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(step: Callable[[int], None], most: int, limit: float, *, device: str) -> Pace | str:
    """Times steps of a growing number of pairs, until one takes half of ``limit`` or has ``most``, or memory ends.

    A step takes a fixed time, mostly the optimiser's, and a time for each pair; so the last two sizes tell what one of
    ``most`` pairs would take.

    Args:
        step: does one step over so many pairs.
        most: pairs of a step of the preset.
        limit: seconds.
        device: whose time it takes: ``cpu`` or ``cuda``.

    Returns:
        The pace at ``most`` pairs, or why there is none.
    """
    size, times = min(FIRST_BATCH, most), dict[int, float]()
    share = cores() if device == "cpu" else 1
    while True:
        try:
            if not times:
                step(size)  # the first of all also loads what torch loads late
            times[size] = _least_seconds(step, size, limit, device)
        except (RuntimeError, MemoryError) as error:  # torch has no class of its own for a CPU's memory
            if "memory" not in str(error) and not isinstance(error, MemoryError):
                raise
            if not times:
                return f"memory does not hold {size} pairs a step"
            largest = max(times)
            return Pace(times[largest] / largest / share, largest)
        if size == most or times[size] > limit / 2:
            return Pace(_at(times, most) / most / share, size)
        size = min(4 * size, most)


def _least_seconds(step: Callable[[int], None], size: int, limit: float, device: str) -> float:
    """Of two or more steps: what else the machine does only adds to one, and a size's first one picks kernels."""
    seconds: list[float] = []
    clock = time.process_time if device == "cpu" else time.perf_counter
    while len(seconds) < 2 or (sum(seconds) < limit and len(seconds) < REPEATS):
        began = clock()
        step(size)
        seconds.append(clock() - began)
    return min(seconds)


def _at(times: dict[int, float], size: int) -> float:
    """Seconds of a step of ``size`` pairs, on the line through the two largest that were timed."""
    (large, seconds), *smaller = sorted(times.items(), reverse=True)
    if size == large or not smaller or smaller[0][1] >= seconds:  # noise: a smaller step was no quicker
        return seconds * size / large
    return seconds + (seconds - smaller[0][1]) / (large - smaller[0][0]) * (size - large)


def _model(recipe: Pretraining, device: str) -> nn.Module:
    """The preset's model with random weights.

    Raises:
        UserError: memory does not hold its training.
    """
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in open_clip.CLIP(**recipe.model).parameters())
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    if weights * BYTES_A_WEIGHT > free:
        needed = weights * BYTES_A_WEIGHT / 1e9
        raise UserError(f"its weights and their moments need {needed:.1f} GB of memory, {free / 1e9:.1f} are free")
    model: nn.Module = open_clip.CLIP(**recipe.model).to(device, memory_format=torch.channels_last)
    return model


def _noise(scale: Preset, pairs: int, device: str) -> tuple[Tensor, Tensor]:
    """Pictures, (pairs, 3, size, size), and captions, (pairs, context): contents do not change the time."""
    model = scale.pretraining.model
    size, text = model["vision_cfg"]["image_size"], model["text_cfg"]
    pictures = torch.rand(pairs, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    return pictures, torch.randint(1, text["vocab_size"], (pairs, text["context_length"]), device=device)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


@contextmanager
def _train_step(model: Any, scale: Preset, device: str) -> Iterator[Callable[[int], None]]:
    """A pre-training step: autocast and plain attention on a CPU, as ``train`` has them."""
    attention = sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()
    half = scale.pretraining.precision == "amp_bf16"
    with attention, _optimised(model.train(), device) as update:

        def step(pairs: int) -> None:
            with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
                picture, text, scaling = model(*_noise(scale, pairs, device))
                loss = ClipLoss()(picture, text, scaling)
            update(loss)

        yield step


@contextmanager
def _unlearn_step(model: Any, scale: Preset, device: str) -> Iterator[Callable[[int], None]]:
    """An unlearning step over half forget, half retain pairs, in float32."""
    with _optimised(model.eval(), device) as update:

        def step(pairs: int) -> None:
            picture, text, scaling = model(*_noise(scale, pairs, device))
            half = pairs // 2
            parts = [ClipLoss()(picture[part], text[part], scaling) for part in (slice(half), slice(half, None))]
            update(torch.stack(parts).sum())

        yield step


@contextmanager
def _encode_step(model: Any, scale: Preset, device: str) -> Iterator[Callable[[int], None]]:
    """A forward pass of both towers, in float32."""
    model.eval()

    def step(pairs: int) -> None:
        with torch.inference_mode():
            model(*_noise(scale, pairs, device))
        _wait(device)

    yield step


@contextmanager
def _optimised(model: nn.Module, device: str) -> Iterator[Callable[[Tensor], None]]:
    """What follows a loss: backward, AdamW's step."""
    # The rate is nothing: weights that run away would slow a CPU down.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9, fused=True)

    def update(loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        _wait(device)

    yield update
    optimizer.zero_grad(set_to_none=True)
