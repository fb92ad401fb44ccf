"""Scales as data: how large a world, which model, how long, on what. ``tiny`` tests the path, ``mini`` shows the
effect, ``small`` takes one consumer GPU and ``medium`` eight, ``paper`` has the published counts."""

import json
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, Literal

from salmubench.errors import UserError


@dataclass(frozen=True)
class Spread:
    """Pictures that vary from person to person, dealt so that the sets come out at exactly these sizes.

    Every half of a halved person has from ``low`` to ``high`` pictures, everyone else twice as many, and one more where
    that is needed; halves are cut by pair. The numbers 1 to ``candidates`` that a person does not use stay gaps, as
    curation leaves them.
    """

    forget_association: int
    holdout_association: int
    forget_identity: int
    holdout_identity: int
    low: int = 25
    high: int = 49
    candidates: int = 100


@dataclass(frozen=True)
class World:
    """Counts of what ``salmubench data build`` makes.

    Attributes:
        identities: people of the sensitive set.
        pictures: sensitive pictures a person (one picture = one caption = one field), or how they spread.
        long_side: pixels of a picture's longer side.
        retain_joint: generically captioned pictures of the set's own people (whole set).
        retain_disjoint: generically captioned pictures of nobody in the set (parquet).
        general_portraits: generically captioned portraits of yet other people (retain_real shards).
        general_classes: OpenMoji classes of general knowledge.
        train_renderings: pictures a class in the retain_real shards.
        test_renderings: pictures a class in general_knowledge.
        captions: who writes the sensitive captions, a source's name.
    """

    identities: int
    pictures: int | Spread
    long_side: int
    retain_joint: int
    retain_disjoint: int
    general_portraits: int
    general_classes: int
    train_renderings: int
    test_renderings: int
    captions: str = "grammar"


@dataclass(frozen=True)
class Pretraining:
    """How both models are trained: an open_clip model configuration and open_clip_train's hyper-parameters.

    ``batch_size`` counts retain pairs; Compromised's sensitive pairs, ``sensitive_repeats`` times an epoch, ride along.
    """

    model: dict[str, Any]
    epochs: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float = 0.2
    precision: str = "amp_bf16"
    sensitive_repeats: int = 1


@dataclass(frozen=True)
class Scaling:
    """How a preset's pre-training is spread over processes, and what it is reckoned for. No result is keyed by it.

    Attributes:
        retain_real: pairs of ``--retain`` that the preset is meant for; 0: those of its own world.
        nodes: machines.
        gpus_per_node: processes a machine, one a GPU.
        accelerator: what the preset's cost is reckoned with, a name of ``encoders/costs.py``.
        accumulate: parts of a process's share of a batch that go through the model one after another.
        workers: loading processes for each training process.
        deal: what is dealt out to the processes. ``samples``: all read the one stream, and each takes its part of every
            batch, so that the steps are the same for any number of processes. ``shards``: each reads its own shards.
    """

    retain_real: int = 0
    nodes: int = 1
    gpus_per_node: int = 1
    accelerator: str = "2 CPU cores"
    accumulate: int = 1
    workers: int = 0
    deal: Literal["samples", "shards"] = "samples"


@dataclass(frozen=True)
class Unlearning:
    """The one loop's hyper-parameters, shared by all methods."""

    budget: float
    learning_rate: float
    batch_size: int
    warmup_share: float = 0.1
    weight_decay: float = 1e-3


@dataclass(frozen=True)
class Preset:
    """A scale by name."""

    name: str
    world: World
    pretraining: Pretraining
    unlearning: Unlearning
    scaling: Scaling = Scaling()


def _small_clip(image_size: int, vision_width: int, text_width: int, text_layers: int) -> dict[str, Any]:
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": image_size, "layers": [1, 1, 1, 1], "width": vision_width},
        "text_cfg": {
            "context_length": 48,
            "vocab_size": 49408,
            "width": text_width,
            "heads": text_width // 64,
            "layers": text_layers,
        },
    }


def _vit_b(patch_size: int) -> dict[str, Any]:
    """open_clip's ViT-B-16 and ViT-B-32. A world's general pictures are few: for real knowledge pass ``--retain``."""
    return {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": patch_size},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
    }


_PUBLISHED = World(
    identities=774,
    pictures=Spread(
        forget_association=15_126,
        holdout_association=14_943,
        forget_identity=15_342,
        holdout_identity=14_642,
    ),
    long_side=512,
    retain_joint=1_000,
    retain_disjoint=15_741,
    general_portraits=2_000,
    general_classes=500,
    train_renderings=16,
    test_renderings=4,
)

PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        name="tiny",
        world=World(
            identities=8,
            pictures=12,
            long_side=64,
            retain_joint=8,
            retain_disjoint=60,
            general_portraits=32,
            general_classes=20,
            train_renderings=4,
            test_renderings=2,
        ),
        pretraining=Pretraining(
            model=_small_clip(32, 16, 64, 1), epochs=3, batch_size=32, learning_rate=1e-3, warmup_steps=5
        ),
        unlearning=Unlearning(budget=1, learning_rate=1e-4, batch_size=16),
    ),
    "mini": Preset(
        name="mini",
        world=World(
            identities=64,
            pictures=24,
            long_side=96,
            retain_joint=96,
            retain_disjoint=800,
            general_portraits=200,
            general_classes=300,
            train_renderings=21,
            test_renderings=4,
        ),
        pretraining=Pretraining(
            model=_small_clip(48, 32, 128, 1), epochs=12, batch_size=144, learning_rate=1e-3, warmup_steps=150
        ),
        unlearning=Unlearning(budget=2, learning_rate=3e-5, batch_size=32),
    ),
    "small": Preset(
        name="small",
        world=World(
            identities=240,
            pictures=48,
            long_side=256,
            retain_joint=320,
            retain_disjoint=4_800,
            general_portraits=1_000,
            general_classes=500,
            train_renderings=16,
            test_renderings=4,
        ),
        pretraining=Pretraining(model=_vit_b(32), epochs=10, batch_size=4_096, learning_rate=5e-4, warmup_steps=500),
        unlearning=Unlearning(budget=1, learning_rate=1e-6, batch_size=32),
        scaling=Scaling(retain_real=1_280_000, accelerator="RTX 4090", accumulate=4, workers=8, deal="shards"),
    ),
    "medium": Preset(
        name="medium",
        world=_PUBLISHED,
        pretraining=Pretraining(model=_vit_b(16), epochs=10, batch_size=4_096, learning_rate=5e-4, warmup_steps=500),
        unlearning=Unlearning(budget=1, learning_rate=1e-7, batch_size=16),
        scaling=Scaling(retain_real=12_800_000, gpus_per_node=8, accelerator="A100 80 GB", workers=6, deal="shards"),
    ),
    "paper": Preset(
        name="paper",
        world=_PUBLISHED,
        pretraining=Pretraining(model=_vit_b(16), epochs=32, batch_size=32_768, learning_rate=5e-4, warmup_steps=2_000),
        unlearning=Unlearning(budget=1, learning_rate=1e-7, batch_size=16),
        scaling=Scaling(
            retain_real=400_000_000, nodes=16, gpus_per_node=8, accelerator="H100 SXM", workers=6, deal="shards"
        ),
    ),
}


def preset(name: str | Preset) -> Preset:
    """The preset called ``name``, or the one that is given itself.

    Raises:
        UserError: there is none; the message lists them.
    """
    if isinstance(name, Preset):
        return name
    if name not in PRESETS:
        raise UserError(f"there is no preset {name!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[name]


def tuned(name: str) -> dict[str, dict[str, Any]]:
    """Each method's tuned settings at a preset, as ``salmubench sweep --save-best`` wrote them; may be empty."""
    file = files("salmubench") / "tuned" / f"{name}.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))["methods"]) if file.is_file() else {}


def recipe(name: str | Preset, method: str) -> dict[str, Any]:
    """What ``unlearn`` takes for a method at a preset: the preset's settings, then the method's tuned ones.

    Returns:
        budget, learning_rate, batch_size, warmup_share, weight_decay, scope and options, by name.
    """
    scale = preset(name)
    found = {**asdict(scale.unlearning), "scope": "full", "options": {}, **tuned(scale.name).get(method, {})}
    return {key: value for key, value in found.items() if key != "criterion"}
