"""A micro world that many tests share: the real build at the smallest scale that fills every set."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # as many tests run at once as there are cores; commands that they start inherit it

import pytest
import torch

from salmubench.personas.build import build
from salmubench.presets import Preset, Pretraining, Unlearning, World

torch.set_num_threads(1)

MICRO = Preset(
    name="micro",
    world=World(
        identities=8,
        pictures=8,
        long_side=48,
        retain_joint=8,
        retain_disjoint=40,
        general_portraits=12,
        general_classes=6,
        train_renderings=3,
        test_renderings=2,
    ),
    pretraining=Pretraining(
        model={
            "embed_dim": 32,
            "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
            "text_cfg": {"context_length": 48, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1},
        },
        epochs=2,
        batch_size=16,
        learning_rate=1e-3,
        warmup_steps=2,
    ),
    unlearning=Unlearning(budget=1, learning_rate=1e-4, batch_size=8),
)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps embeddings out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALMUBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def micro() -> Preset:
    return MICRO


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set folder of the micro scale; read only."""
    return build(MICRO, tmp_path_factory.mktemp("world") / "data", seed=42, workers=1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser."""
    from browsing import started

    with started() as opened:
        yield opened


@pytest.fixture(scope="session")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The leak explorer on eight people and four models, and its columns."""
    from explorer_world import open_world

    return open_world(tmp_path_factory.mktemp("explorer"))
