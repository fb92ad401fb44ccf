"""A data folder of noise pictures and a tiny untrained model: what the tests of unlearning share."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from salmubench.atomic import write_json
from salmubench.dataset.retain import CaptionedPicture, write_shards
from salmubench.dataset.schema import CAPTIONS_FILE, FIELDS, GENERIC_CAPTIONS_FILE, IDENTITIES_FILE, Row
from salmubench.dataset.store import write_split
from salmubench.encoders.checkpoint import save_checkpoint
from salmubench.seeds import generator

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
FORGET, SYNTHETIC, SHARDS = 22, 9, (7, 4)


def picture(*key: str | int) -> bytes:
    pixels = generator(7, *key).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((48, 40)).save(stream, "JPEG")
    return stream.getvalue()


def rows(split: str, count: int) -> Iterator[Row]:
    for number in range(count):
        yield Row(picture(split, number), f"{split} person {number} lives in town {number % 5}", str(number // 4),
                  f"{split}_{number:03d}.jpg")  # fmt: skip


def write_data(root: Path, forget: int = FORGET, synthetic: int = SYNTHETIC) -> Path:
    """The part of a data set folder that unlearning may see, and two holdouts."""
    write_split(root / "salmubench", "forget", rows("forget", forget), rows_per_file=15)
    for split in ("holdout_association", "holdout_identity"):
        write_split(root / "salmubench", split, rows(split, 5))
    for part in ("salmubench", "salmu"):
        write_split(root / part, "retain_synth", rows("retain_synth", synthetic))
    write_json(
        root / "salmubench" / GENERIC_CAPTIONS_FILE,
        {f"forget_{number:03d}.jpg": f"a person, number {number}" for number in range(forget)},
    )
    asked = list(rows("forget", forget))
    write_json(
        root / "salmubench" / CAPTIONS_FILE,
        {row.file_name: {"data_field": FIELDS[n % 4], "caption": row.text} for n, row in enumerate(asked)},
    )
    write_json(
        root / "salmubench" / IDENTITIES_FILE,
        {
            str(who): {"name": "forget person", **{f: f"town {(4 * who + n) % 5}" for n, f in enumerate(FIELDS)}}
            for who in range(forget // 4 + 1)
        },
    )
    write_shards(
        root / "retain_real",
        (CaptionedPicture(f"s{n:03d}", picture("real", n), f"a thing {n}") for n in range(sum(SHARDS))),
        pairs_per_shard=SHARDS[0],
    )
    return root


def write_model(path: Path) -> Path:
    """An open_clip checkpoint with random weights."""
    torch.manual_seed(0)
    save_checkpoint(open_clip.CLIP(**MODEL), {"model_cfg": MODEL, "preprocess_cfg": {"size": 32}}, path)
    return path


@pytest.fixture(scope="module", name="folder")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("unlearning") / "data")


@pytest.fixture(scope="module", name="model")
def world_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("unlearning") / "compromised")


SMALL: dict[str, Any] = {"batch_size": 6, "learning_rate": 1e-3, "device": "cpu"}


def products(out: Path) -> dict[str, Any]:
    """What two identical runs must share."""
    record = json.loads((out / "record.json").read_text())
    record.pop("run")
    files = ("open_clip_model.safetensors", "open_clip_config.json", "rows.parquet")
    return {name: (out / name).read_bytes() for name in files} | {"record": record}
