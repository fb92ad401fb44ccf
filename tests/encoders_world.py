"""Small models and pictures for the tests of encoding."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from salmubench.dataset.schema import Row
from salmubench.dataset.store import Benchmark, load_split, write_split
from salmubench.encoders.checkpoint import save_checkpoint

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1},
}


def checkpoint(folder: Path, seed: int = 0, preprocess_cfg: dict[str, Any] | None = None) -> Path:
    torch.manual_seed(seed)
    save_checkpoint(open_clip.CLIP(**MODEL), {"model_cfg": MODEL, "preprocess_cfg": preprocess_cfg or {}}, folder)
    return folder


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_pictures(folder: Path, pictures: list[bytes]) -> Path:
    rows = [Row(image, f"caption {number}", None, f"{number}.png") for number, image in enumerate(pictures)]
    write_split(folder, "retain_synth", rows, rows_per_file=3)
    return folder


def open_pictures(folder: Path) -> Benchmark:
    pairs, store = load_split(folder, "retain_synth")
    return Benchmark(folder, "sha256:0", None, store, {"retain_synth": pairs}, {}, {}, {}, None)


def benchmark_of(folder: Path, pictures: list[bytes]) -> Benchmark:
    return open_pictures(write_pictures(folder, pictures))
