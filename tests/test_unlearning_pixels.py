"""Pictures are decoded once for all runs, and a run with them is the same to the byte."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from salmubench.dataset.schema import Row
from salmubench.dataset.store import write_split
from salmubench.encoders.checkpoint import load_encoder
from salmubench.unlearning.data import ForgetRetain, Pair
from salmubench.unlearning.pixels import PixelCache, PixelTransform, decoding
from salmubench.unlearning.run import unlearn
from unlearning_world import FORGET, SMALL, picture, products, rows
from unlearning_world import world_folder as world_folder
from unlearning_world import world_model as world_model

torch.set_num_threads(1)


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Where the pictures lie that were decoded, with a cache of the test's own."""
    seen: list[str] = []
    pixels = PixelTransform.pixels
    monkeypatch.setattr(PixelTransform, "pixels", lambda self, pair: seen.append(pair.where) or pixels(self, pair))
    monkeypatch.setenv("SALMUBENCH_CACHE", str(tmp_path / "cache"))
    return seen


def test_runs_on_the_same_pictures_share_them(decoded: list[str], folder: Path, model: Path, tmp_path: Path) -> None:
    live = unlearn("delete", model, folder, tmp_path / "live", cache=False, **SMALL)
    assert not (tmp_path / "cache").exists()
    count = len(decoded)
    first = unlearn("delete", model, folder, tmp_path / "first", **SMALL)
    assert len(decoded) == 2 * count
    again = unlearn("delete", model, folder, tmp_path / "again", **SMALL)
    unlearn("generic-captions", model, folder, tmp_path / "other", seed=7, budget=2, **SMALL)
    assert len(decoded) == 2 * count
    assert products(live) == products(first) == products(again)


def test_another_picture_under_the_same_name_is_another(
    decoded: list[str], folder: Path, model: Path, tmp_path: Path
) -> None:
    unlearn("negative-gradient", model, folder, tmp_path / "a", **SMALL)
    changed = shutil.copytree(folder, tmp_path / "data")
    content = list(rows("forget", FORGET))
    content[4] = Row(picture("another"), content[4].text, content[4].identity_id, content[4].file_name)
    write_split(changed / "salmubench", "forget", content)
    decoded.clear()
    kept = unlearn("negative-gradient", model, changed, tmp_path / "b", **SMALL)
    (where,) = decoded
    assert where.endswith("row 4")
    live = unlearn("negative-gradient", model, changed, tmp_path / "c", cache=False, **SMALL)
    assert products(kept) == products(live)


def test_a_damaged_cache_costs_time_and_no_result(
    decoded: list[str], folder: Path, model: Path, tmp_path: Path
) -> None:
    whole = unlearn("finetuning", model, folder, tmp_path / "whole", **SMALL)
    for segment in (tmp_path / "cache" / "pixels").glob("*/*"):
        content = bytearray(segment.read_bytes())
        content[-1] ^= 1
        segment.write_bytes(content)
    count = len(decoded)
    assert products(unlearn("finetuning", model, folder, tmp_path / "again", **SMALL)) == products(whole)
    assert len(decoded) == 2 * count
    for path in (tmp_path / "cache").rglob("*.npy"):
        path.unlink()
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("no folder")
    assert products(unlearn("finetuning", model, folder, tmp_path / "third", **SMALL)) == products(whole)


def test_a_set_that_is_too_large_keeps_its_beginning(
    decoded: list[str], folder: Path, model: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(model, device="cpu")
    transform = PixelTransform.of(encoder.preprocess)
    pairs: list[Pair] = list(ForgetRetain(folder).read("forget", np.arange(FORGET)))
    expected = np.stack([transform.pixels(pair) for pair in pairs])
    size = int(np.prod(transform.shape)) + 16
    cache = PixelCache(tmp_path / "small", gigabytes=2 * 10.5 * size / 1e9)
    for lacking in (FORGET, FORGET - 10, FORGET - 10):
        decoded.clear()
        with decoding(encoder, transform, cache) as pixels:
            parts = [pixels(pairs[:7]), pixels(pairs[7:8]), pixels(pairs[8:])]
        np.testing.assert_array_equal(np.concatenate(parts), expected)
        assert len(decoded) == lacking
