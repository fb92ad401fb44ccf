"""What a preset's pre-training costs, and docs/training.md: ``python -m salmubench.encoders.costs > docs/training.md``.

FLOPs are counted, not looked up: torch's counter follows one pass of each tower over the preset's own model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import open_clip
import torch
from torch.utils.flop_counter import FlopCounterMode

from salmubench.presets import PRESETS, Preset, Spread

PEAK = {
    "RTX 4090": 165e12,
    "A100 80 GB": 312e12,
    "H100 SXM": 989e12,
}
"""Dense bf16 FLOP/s of the makers' data sheets."""
MFU = 0.35
"""Model FLOPs utilisation, the share of the peak that the model's own FLOPs reach: an assumption, measure yours."""


@dataclass(frozen=True)
class Size:
    """A model's size.

    Attributes:
        parameters: weights.
        flops: of one forward pass over one pair, a multiplication and an addition counted as two.
    """

    parameters: int
    flops: int


@dataclass(frozen=True)
class Cost:
    """What one of the two models costs.

    Attributes:
        retain: retain pairs a pass.
        sensitive: sensitive pairs a pass, Compromised's alone.
        seen: pairs that Compromised sees in all.
        flops: of its training: three forward passes' worth a pair (a backward pass is two), a fourth where the batch is
            accumulated.
        gpus: devices.
        hours: hours on them, None on a CPU.
    """

    retain: int
    sensitive: int
    seen: int
    flops: float
    gpus: int
    hours: float | None


@cache
def size(name: str) -> Size:
    """Counts the weights and FLOPs of a preset's model."""
    config = PRESETS[name].pretraining.model
    with torch.device("meta"):
        model = open_clip.CLIP(**config).eval()
        side = config["vision_cfg"]["image_size"]
        picture = torch.empty(1, 3, side, side)
        text = torch.empty(1, config["text_cfg"]["context_length"], dtype=torch.int64)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.encode_image(picture)
            model.encode_text(text)
    return Size(sum(weight.numel() for weight in model.parameters()), counter.get_total_flops())


def _pairs(preset: Preset) -> tuple[int, int]:
    """Retain and sensitive pairs."""
    world = preset.world
    general = world.general_portraits + world.general_classes * world.train_renderings
    people = world.pictures
    sensitive = (
        people.forget_association + people.holdout_association + people.forget_identity + people.holdout_identity
        if isinstance(people, Spread)
        else world.identities * people
    )
    return (preset.scaling.retain_real or general) + world.retain_joint + world.retain_disjoint, sensitive


def cost(name: str, *, mfu: float = MFU) -> Cost:
    """What Compromised of a preset costs; Clean costs its retain share."""
    preset = PRESETS[name]
    scaling, recipe = preset.scaling, preset.pretraining
    retain, sensitive = _pairs(preset)
    seen = recipe.epochs * (retain + recipe.sensitive_repeats * sensitive)
    flops = (3 + (scaling.accumulate > 1)) * float(size(name).flops) * seen
    gpus = scaling.nodes * scaling.gpus_per_node
    peak = PEAK.get(scaling.accelerator)
    return Cost(retain, sensitive, seen, flops, gpus, None if peak is None else flops / (peak * mfu * gpus) / 3600)


def _number(value: float) -> str:
    for unit, length in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= length:
            return f"{value / length:.3g} {unit}"
    return f"{value:.3g}"


def _model(preset: Preset) -> str:
    vision = preset.pretraining.model["vision_cfg"]
    kind = f"ViT-B/{vision['patch_size']}" if "patch_size" in vision else f"ResNet, width {vision['width']}"
    return f"{kind}, {vision['image_size']} px"


def _row(name: str) -> str:
    preset = PRESETS[name]
    found, scaling, recipe = cost(name), preset.scaling, preset.pretraining
    hours = "minutes" if found.hours is None else f"{found.hours * found.gpus:,.0f}"
    wall = "minutes" if found.hours is None else f"{found.hours:,.1f} h"
    devices = scaling.accelerator if found.hours is None else f"{found.gpus} x {scaling.accelerator}"
    cells = [
        f"`{name}`",
        _model(preset),
        _number(size(name).parameters),
        f"{found.retain:,} + {found.sensitive:,}",
        f"{recipe.epochs}",
        f"{recipe.batch_size:,}",
        f"{recipe.learning_rate:g}",
        f"{recipe.warmup_steps:,}",
        f"{size(name).flops / 1e9:.3g}",
        f"{found.flops:.1e}",
        devices,
        hours,
        wall,
    ]
    return f"| {' | '.join(cells)} |"


def page() -> str:
    """docs/training.md as Markdown."""
    head = [
        "preset", "model", "weights", "pairs a pass, retain + sensitive", "passes", "batch", "rate", "warm-up steps",
        "GFLOPs a pair, forward", "FLOPs of the training", "devices", "GPU-hours", "wall",
    ]  # fmt: skip
    table = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *map(_row, PRESETS)]
    peaks = ", ".join(f"{name} {peak / 1e12:.0f}e12" for name, peak in PEAK.items())
    return _TEXT.replace("TABLE", "\n".join(table)).replace("MFU_VALUE", f"{MFU:g}").replace("PEAKS", peaks)


_TEXT = """# Pre-training, from two cores to a cluster

Written by `python -m salmubench.encoders.costs`; a test compares it with the code. One command trains at every scale:

```
salmubench train compromised --preset small --data data --out compromised --retain '/shards/{00000..01279}.tar'
salmubench train compromised --preset medium --data data --out compromised --retain urls.txt --retain-pairs 12800000
salmubench train compromised --preset paper --data data --out compromised --retain urls.txt \\
    --retain-pairs 400000000 --slurm
salmubench train compromised --preset paper ... --print-command      # torchrun's line; with --slurm the job script
salmubench train clean --preset tiny --data data --out clean --gpus-per-node 2   # two processes, on CPUs over gloo
salmubench train clean --preset mini --arch examples/vit-mini.json --data data --out clean   # another model
```

Each is a run of open_clip_train with fixed hyper-parameters ([presets.py](../src/salmubench/presets.py)): AdamW (.9,
.98, 1e-6, weight decay .2), cosine after a linear warm-up, bf16 autocast, local loss with gathered gradients. The
batch is the whole one, over all processes; it counts retain pairs, Compromised's sensitive pairs ride along.

## What it costs

TABLE

    FLOPs of the training = passes * pairs * k * FLOPs of a forward pass over a pair
    GPU-hours             = FLOPs / (peak * MFU * 3600),    wall = GPU-hours / GPUs

k is 3, as a backward pass is two forward ones, and 4 where a batch is accumulated (open_clip_train first encodes all
its parts to have the negatives). FLOPs are counted by `torch.utils.flop_counter` on the preset's own model, a
multiplication with its addition as two. Peak: dense bf16 of the data sheets, in FLOP/s: PEAKS. MFU is an input, here
MFU_VALUE: measure pairs a second on your machine (open_clip_train logs them) and divide. The hours are an estimate,
not a measurement: no run at `small` or above has been timed by us. The row is Compromised's; Clean is short of the
sensitive pairs. Both are needed.

## Retain pairs from elsewhere

`--retain` takes webdataset shards in the place of the folder's retain_real: a folder, `{000..999}` patterns,
`http://`, `pipe:COMMAND` (`pipe:aws s3 cp s3://bucket/{00000..12799}.tar -`), or a `.txt` of such lines; DataComp's
CommonPool shards fit as they are downloaded. They are streamed; of each sample the picture and its `.txt` are read
and nothing else. `sizes.json` beside local shards tells their pairs, else `--retain-pairs` must. Foreign shards that
cannot be read, and pictures that do not decode, are passed over; where half of a batch is lost the training ends. A
sensitive pair is never lost.

Clean is clean only if they tell of nobody: `salmubench data check DATA --retain --retain-shards URL... --report
found.jsonl --out shards/` finds pairs whose picture is a file or near copy of a sensitive one (SHA-256; difference
hash, then thumbnail; with `--model CHECKPOINT` also its cosine), or whose caption holds a full name, phone number,
e-mail, IBAN, card or passport (letters and digits alone are compared, without case and accents, and with a slip or
so), and writes the others as shards. City, job and blood group are many people's: alone they tell nobody.

## Processes

Where samples are dealt (`tiny`, `mini`), every process reads the one stream and takes its share of each batch before
decoding: steps, order and crops are those of one process, whatever their number. After training `tiny` on two gloo
processes, losses agree to .5 % and weights to .01 in float32, to 2 % and .05 in bfloat16
(`tests/test_encoders_launch.py`). Where shards are dealt (`small` and above), each loading worker walks its own
shards; the sensitive pairs are cut into at least as many shards as there are workers, and each is seen once a pass.
Clean and Compromised are comparable where both ran on as many processes and workers: `training.json` names them.

Unequal shares (riders do not divide) need a loss over the whole batch and, on CPUs, shared batch statistics:
`encoders/ranks.py`. `--accum-freq` cuts a process's share into parts that go through one by one; a ResNet's batch
statistics are then those of the parts.

## Killed

A process that dies ends the others; the same command goes on after the last finished pass (`--resume latest`, the
default; `never` begins anew), on as many GPUs as there are then. A Slurm job is requeued by itself. The folder of
`--out` must be seen by all machines. On one process on a CPU the result has the same bytes as an unbroken run.
"""


if __name__ == "__main__":
    print(page(), end="")
