"""Clean and Compromised differ in the sensitive pairs alone; a killed training ends with the same weights."""

import dataclasses
import json
import shutil
import time
from collections import Counter
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip_train.data import SharedEpoch

from commands import python, started
from conftest import MICRO
from salmubench.atomic import read_json, sha256_file, write_json
from salmubench.dataset.manifest import read_manifest, write_manifest
from salmubench.dataset.pictures import index_tar
from salmubench.dataset.retain import CaptionedPicture, write_shards
from salmubench.dataset.store import write_split
from salmubench.encoders.checkpoint import WEIGHTS_FILE, load_encoder
from salmubench.encoders.engine import Training, engine_arguments
from salmubench.encoders.pretrain import train
from salmubench.encoders.ranks import joined
from salmubench.encoders.schedule import schedule
from salmubench.encoders.shards import training_shards
from salmubench.encoders.stream import BATCH, Deal, SeedBySample, WovenShards
from salmubench.errors import UserError
from salmubench.presets import Preset


def _shards(folder: Path, prefix: str, count: int) -> list[str]:
    if not count:
        return []
    pairs = (CaptionedPicture(f"{prefix}{number:04d}", b"picture", "caption") for number in range(count))
    return list(map(str, write_shards(folder, pairs, pairs_per_shard=7)))


def _keys(retain: list[str], sensitive: list[str], pairs: int, repeats: int, epoch: int) -> list[str]:
    sizes = {url: len(index_tar(Path(url))) for url in sensitive}
    stream = WovenShards(retain, sizes, retain_pairs=pairs, repeats=repeats, seed=3, epoch=SharedEpoch(epoch))
    return [sample["__key__"] for sample in stream.run()]


@settings(deadline=None)
@given(retain=st.integers(1, 40), sensitive=st.integers(0, 40), repeats=st.integers(1, 2), epoch=st.integers(0, 3))
def test_the_shared_part_has_one_order(
    tmp_path_factory: pytest.TempPathFactory, retain: int, sensitive: int, repeats: int, epoch: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    shared, extra = _shards(folder / "r", "r", retain), _shards(folder / "s", "s", sensitive)
    clean = _keys(shared, [], retain, 1, epoch)
    compromised = _keys(shared, extra, retain, repeats, epoch)
    assert sorted(clean) == [f"r{number:04d}" for number in range(retain)]
    assert [key for key in compromised if key.startswith("r")] == clean
    assert Counter(key for key in compromised if key.startswith("s")) == {
        f"s{number:04d}": repeats for number in range(sensitive)
    }


def test_each_epoch_has_its_own_order(tmp_path: Path) -> None:
    shared = _shards(tmp_path, "r", 40)
    assert _keys(shared, [], 40, 1, 0) != _keys(shared, [], 40, 1, 1)


def _batches(
    retain: list[str],
    sensitive: list[str],
    pairs: int,
    size: int,
    *,
    ranks: int = 1,
    rank: int = 0,
    accumulate: int = 1,
) -> list[list[str]]:
    """The keys of each batch that one process sees in a pass."""
    scale = replace(MICRO, pretraining=replace(MICRO.pretraining, batch_size=size))
    plan = schedule(scale, pairs, len(retain), ranks=ranks, accumulate=accumulate, workers=0)
    sizes = {url: len(index_tar(Path(url))) for url in sensitive}
    source = WovenShards(retain, sizes, retain_pairs=plan.stream_pairs, seed=3, epoch=SharedEpoch(1))
    dealt = Deal(plan, rank).run(source.run())
    return [[sample["__key__"] for sample in batch] for _, batch in groupby(dealt, key=lambda sample: sample[BATCH])]


@settings(deadline=None)
@given(retain=st.integers(1, 40), sensitive=st.integers(0, 40), size=st.integers(1, 12))
def test_a_step_takes_the_same_retain_pairs_whoever_rides_along(
    tmp_path_factory: pytest.TempPathFactory, retain: int, sensitive: int, size: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    shared, extra = _shards(folder / "r", "r", retain), _shards(folder / "s", "s", sensitive)
    clean, compromised = (_batches(shared, shards, retain, size) for shards in ([], extra))
    assert len(clean) == -(-retain // size)
    retained = [[key for key in batch if key.startswith("r")] for batch in compromised]
    assert retained == clean
    assert [len(batch) for batch in retained[:-1]] == [size] * (len(retained) - 1)
    assert sum(map(len, compromised)) == retain + sensitive


@settings(deadline=None)
@given(
    retain=st.integers(8, 40),
    sensitive=st.integers(0, 40),
    ranks=st.integers(1, 3),
    accumulate=st.integers(1, 2),
    share=st.integers(1, 4),
)
def test_processes_share_every_batch_of_the_one_stream(
    tmp_path_factory: pytest.TempPathFactory, retain: int, sensitive: int, ranks: int, accumulate: int, share: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    shared, extra = _shards(folder / "r", "r", retain), _shards(folder / "s", "s", sensitive)
    size = share * ranks * accumulate
    if 0 < retain % size < ranks * accumulate:
        with pytest.raises(UserError, match="too few for"):
            _batches(shared, extra, retain, size, ranks=ranks, accumulate=accumulate)
        return
    whole = _batches(shared, extra, retain, size)
    parts = [
        _batches(shared, extra, retain, size, ranks=ranks, rank=rank, accumulate=accumulate) for rank in range(ranks)
    ]
    assert {len(mine) for mine in parts} == {len(whole) * accumulate}
    for step, batch in enumerate(whole):
        shares = [mine[step * accumulate + part] for mine in parts for part in range(accumulate)]
        assert sorted(key for each in shares for key in each) == sorted(batch)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_crop_is_a_property_of_the_sample_and_the_epoch() -> None:
    def draws(keys: list[str], epoch: int) -> dict[str, float]:
        stage = SeedBySample(seed=5, epoch=SharedEpoch(epoch))
        return {sample["__key__"]: torch.rand(1).item() for sample in stage.run({"__key__": key} for key in keys)}

    alone, among = draws(["a"], 0), draws(["x", "a", "y"], 0)
    assert alone["a"] == among["a"]
    assert draws(["a"], 1)["a"] != alone["a"]


def test_the_two_configurations_differ_in_the_data_alone(world: Path, micro: Preset, tmp_path: Path) -> None:
    shards = {which: training_shards(which, world, tmp_path) for which in ("clean", "compromised")}
    with joined("cpu") as ranks:
        clean, compromised = (
            engine_arguments(
                Training(
                    micro,
                    each,
                    schedule(micro, each.retain_pairs, len(each.retain), ranks=1, accumulate=1, workers=0),
                    ranks,
                    tmp_path,
                    seed=1,
                )
            )
            for each in shards.values()
        )
    assert clean == compromised
    assert not shards["clean"].sensitive
    assert shards["compromised"].sensitive


def test_without_sensitive_pairs_both_are_one_model(world: Path, micro: Preset, tmp_path: Path) -> None:
    data = shutil.copytree(world, tmp_path / "data")
    for file in (data / "salmu" / "data").glob("sensitive-*"):
        file.unlink()
    write_split(data / "salmu", "sensitive", [])
    manifest = read_manifest(data)
    assert manifest is not None
    write_manifest(data, facts=manifest.facts)
    weights = {
        which: sha256_file(train(which, data, tmp_path / which, preset=micro, threads=1) / WEIGHTS_FILE)
        for which in ("clean", "compromised")
    }
    assert weights["clean"] == weights["compromised"]
    assert load_encoder(tmp_path / "clean").encode_texts(["a face"]).shape == (1, 32)


def test_a_trained_model_is_kept_and_other_settings_are_refused(world: Path, micro: Preset, tmp_path: Path) -> None:
    out = train("compromised", world, tmp_path / "model", preset=micro, threads=1)
    written = (out / WEIGHTS_FILE).stat().st_mtime_ns
    assert train("compromised", world, out, preset=micro, threads=1) == out
    assert (out / WEIGHTS_FILE).stat().st_mtime_ns == written
    with pytest.raises(UserError, match="other settings"):
        train("compromised", world, out, preset=micro, seed=7)
    assert read_json(out / "training.json")["sensitive_pairs"] == micro.world.identities * micro.world.pictures
    assert not list(tmp_path.glob(".*-training"))


def test_another_architecture_than_the_presets(world: Path, micro: Preset, tmp_path: Path) -> None:
    text = {"context_length": 48, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}
    arch = tmp_path / "vit.json"
    arch.write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    out = train("clean", world, tmp_path / "vit", preset=micro, arch=str(arch), threads=1)
    assert isinstance(load_encoder(out).model.visual, open_clip.transformer.VisionTransformer)
    assert load_encoder(out).encode_texts(["a face"]).shape == (1, 24)
    with pytest.raises(UserError, match="other settings"):
        train("clean", world, out, preset=micro)
    with pytest.raises(UserError, match="--arch ViT-B-61: open_clip knows no such architecture; did you mean ViT-B-16"):
        train("clean", world, tmp_path / "none", preset=micro, arch="ViT-B-61")


SCRIPT = """
import sys
from pathlib import Path
from conftest import MICRO
from dataclasses import replace
from salmubench.encoders.pretrain import train
longer = replace(MICRO, pretraining=replace(MICRO.pretraining, epochs=6))
train("compromised", {world!r}, sys.argv[1], preset=longer, threads=1)
"""


def test_a_killed_training_ends_with_the_same_weights(world: Path, tmp_path: Path) -> None:
    script = SCRIPT.format(world=str(world))
    assert python(script, tmp_path / "whole").returncode == 0
    killed = started(script, tmp_path / "killed")
    checkpoint = tmp_path / ".killed-training" / "run" / "checkpoints" / "epoch_latest.pt"
    deadline = time.monotonic() + 60
    while not checkpoint.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    killed.join()
    assert checkpoint.is_file()
    assert not (tmp_path / "killed").exists()
    assert python(script, tmp_path / "killed").returncode == 0
    assert sha256_file(tmp_path / "killed" / WEIGHTS_FILE) == sha256_file(tmp_path / "whole" / WEIGHTS_FILE)


def test_a_picture_that_does_not_decode_ends_the_training(world: Path, micro: Preset, tmp_path: Path) -> None:
    data = shutil.copytree(world, tmp_path / "data")
    shard = data / "retain_real" / "00000.tar"
    (first, *_), content = index_tar(shard), bytearray(shard.read_bytes())
    span = first.members[first.picture_extension() or ""]
    content[span.offset : span.offset + span.size] = bytes(span.size)
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"--data: 1 of \d+ training pairs"):
        train("clean", data, tmp_path / "model", preset=micro, threads=1)
    assert not (tmp_path / "model").exists()


def test_a_record_that_is_none_is_refused(world: Path, micro: Preset, tmp_path: Path) -> None:
    write_json(tmp_path / "training.json", [])
    with pytest.raises(UserError, match="other settings"):
        train("clean", world, tmp_path, preset=micro, threads=1)


def test_a_folder_that_is_no_data_set_is_named(tmp_path: Path, micro: Preset) -> None:
    with pytest.raises(UserError, match="salmubench data build"):
        train("clean", tmp_path, tmp_path / "out", preset=dataclasses.replace(micro))
