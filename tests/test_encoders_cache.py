"""The cache of embeddings: what is found is what would be computed, whatever happens to the files."""

import math
import os
import resource
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from commands import started
from encoders_world import checkpoint, open_pictures, png, write_pictures
from salmubench.encoders import cache as module
from salmubench.encoders.cache import EmbeddingCache, cache_folder
from salmubench.encoders.checkpoint import load_encoder
from salmubench.encoders.embeddings import Embeddings, embed
from salmubench.encoders.encoder import Encoder

torch.set_num_threads(1)
COUNT = 40
TEXTS = [f"caption number {number}" for number in range(COUNT)]

PROGRAM = """
import os, signal, sys
import numpy as np
import torch
torch.set_num_threads(1)
from commands import started
from encoders_world import open_pictures
from salmubench.encoders import cache
from salmubench.encoders.checkpoint import load_encoder
from salmubench.encoders.embeddings import embed
from salmubench.encoders.encoder import Encoder

folder, model, data, out, passes = sys.argv[1:]
cache.SEGMENT_INPUTS = 8
forward, done = Encoder.forward, []

def dying(self, tower, batch):
    done.append(tower)
    if len(done) > int(passes):
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(self, tower, batch)

Encoder.forward = dying
encoder = load_encoder(model, device="cpu")
(found,) = embed([encoder], open_pictures(__import__("pathlib").Path(data)), np.arange(40),
                 [f"caption number {number}" for number in range(40)], batch_size=4, cache=cache.EmbeddingCache(folder))
np.savez(out, picture=found.picture, text=found.text)
"""


def start(folder: Path, model: Path, data: Path, out: Path, passes: int = 10**6) -> BaseProcess:
    return started(PROGRAM, folder, model, data, out, passes, outputs=[Path(os.devnull), out.with_suffix(".err")])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), [png(seed) for seed in range(COUNT)])


@pytest.fixture(scope="module")
def encoder(model: Path) -> Encoder:
    return load_encoder(model, device="cpu")


def embedded(encoder: Encoder, data: Path, folder: Path | None, batch_size: int = 4, **options: float) -> Embeddings:
    cache = None if folder is None else EmbeddingCache(folder, **options)
    (found,) = embed([encoder], open_pictures(data), np.arange(COUNT), TEXTS, cache=cache, batch_size=batch_size)
    return found


def hits(found: Embeddings) -> tuple[float, float]:
    return found.facts["cached_pictures"], found.facts["cached_captions"]


def assert_same(found: Embeddings, other: Embeddings) -> None:
    assert_array_equal(found.picture, other.picture)
    assert_array_equal(found.text, other.text)


def test_a_second_run_takes_everything_from_the_first_to_the_bit(encoder: Encoder, data: Path, tmp_path: Path) -> None:
    plain, first, second = (embedded(encoder, data, folder) for folder in (None, tmp_path, tmp_path))
    assert (hits(plain), hits(first), hits(second)) == ((0, 0), (0, 0), (COUNT, COUNT))
    assert_same(first, plain)
    assert_same(second, plain)


def test_only_what_is_missing_is_encoded(encoder: Encoder, data: Path, tmp_path: Path) -> None:
    (part,) = embed(
        [encoder],
        open_pictures(data),
        np.arange(0, COUNT, 3),
        TEXTS[::2],
        batch_size=4,
        cache=EmbeddingCache(tmp_path),
    )
    assert hits(part) == (0, 0)
    found = embedded(encoder, data, tmp_path)
    assert hits(found) == (14, 20)
    assert_same(found, embedded(encoder, data, None))


def test_other_weights_preprocessing_precision_or_batches_never_hit(
    encoder: Encoder, data: Path, tmp_path: Path
) -> None:
    embedded(encoder, data, tmp_path / "cache")
    grey = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    others = {
        "weights": load_encoder(checkpoint(tmp_path / "other", 1), device="cpu"),
        "precision": load_encoder(checkpoint(tmp_path / "half"), device="cpu", precision="bf16"),
    }
    for other in others.values():
        assert hits(embedded(other, data, tmp_path / "cache")) == (0, 0)
    assert hits(embedded(encoder, data, tmp_path / "cache", batch_size=8)) == (0, 0)
    prepared = load_encoder(checkpoint(tmp_path / "grey", 0, grey), device="cpu")
    assert prepared.weights_sha256 == encoder.weights_sha256
    found = embedded(prepared, data, tmp_path / "cache")
    assert hits(found) == (0, COUNT), "captions know no preprocessing of pictures"
    assert_same(found, embedded(prepared, data, None))


def test_a_killed_run_goes_on_where_it_was(encoder: Encoder, model: Path, data: Path, tmp_path: Path) -> None:
    killed = start(tmp_path / "cache", model, data, tmp_path / "out.npz", passes=7)
    killed.join(timeout=120)
    assert killed.exitcode == -signal.SIGKILL
    found = embedded(encoder, data, tmp_path / "cache")
    assert hits(found) == (24, 0), "seven passes of four, written eight at a time"
    assert_same(found, embedded(encoder, data, None))


def test_processes_share_a_cache(encoder: Encoder, model: Path, data: Path, tmp_path: Path) -> None:
    running = [start(tmp_path / "cache", model, data, tmp_path / f"{number}.npz") for number in range(3)]
    plain = embedded(encoder, data, None)
    for number, process in enumerate(running):
        process.join(timeout=120)
        assert (process.exitcode, (tmp_path / f"{number}.err").read_text()) == (0, "")
        with np.load(tmp_path / f"{number}.npz") as found:
            assert_array_equal(found["picture"], plain.picture)
            assert_array_equal(found["text"], plain.text)
    after = embedded(encoder, data, tmp_path / "cache")
    assert hits(after) == (COUNT, COUNT)
    assert_same(after, plain)


@pytest.mark.parametrize("damage", ["cut", "flip", "junk", "empty", "pickle"])
def test_a_damaged_segment_is_dropped_with_a_note(
    encoder: Encoder, data: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    embedded(encoder, data, tmp_path)
    segments = sorted(tmp_path.rglob("*.npy"))
    assert len(segments) == 2
    for path in segments:
        content = path.read_bytes()
        harmed = {
            "cut": content[:-100],
            "flip": content[:-10] + bytes([content[-10] ^ 1]) + content[-9:],
            "junk": b"junk",
            "empty": b"",
            "pickle": b"\x80\x04cos\nsystem\n(S'false'\ntR.",
        }
        path.write_bytes(harmed[damage])
    found = embedded(encoder, data, tmp_path)
    assert hits(found) == (0, 0)
    assert_same(found, embedded(encoder, data, None))
    assert caplog.text.count("dropped from the cache") == 2
    assert hits(embedded(encoder, data, tmp_path)) == (COUNT, COUNT), "written anew"


def test_a_segment_that_is_whole_but_no_table_of_ours_is_dropped(encoder: Encoder, data: Path, tmp_path: Path) -> None:
    embedded(encoder, data, tmp_path)
    for path in tmp_path.rglob("*.npy"):
        content = b"\x80\x04cos\nsystem\n(S'touch ran'\ntR."
        path.with_name(f"{module.hashlib.sha256(content).hexdigest()}.npy").write_bytes(content)
    assert hits(embedded(encoder, data, tmp_path)) == (COUNT, COUNT)
    assert len(list(tmp_path.rglob("*.npy"))) == 2


def test_the_least_recently_used_go_first(
    encoder: Encoder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded(encoder, data, tmp_path)
    old = {path.name: path for path in tmp_path.rglob("*.npy")}
    size = sum(path.stat().st_size for path in old.values())
    other = load_encoder(checkpoint(tmp_path / "other", 1), device="cpu")
    for path in old.values():
        os.utime(path, (1, 1))
    pictures = [path for path in old.values() if "-image-" in path.parent.name]
    embed([encoder], open_pictures(data), np.arange(COUNT), [], batch_size=4, cache=EmbeddingCache(tmp_path))
    assert all(path.stat().st_mtime > 1 for path in pictures), "used again"
    embedded(other, data, tmp_path, gigabytes=1.6 * size / 1e9)
    left = {path.name for path in tmp_path.rglob("*.npy")}
    assert {path.name for path in pictures} <= left
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.npy")) <= 1.6 * size
    assert len(left) == 3
    assert hits(embedded(encoder, data, tmp_path, gigabytes=0)) == (COUNT, 0)
    assert not list(tmp_path.rglob("*.npy")), "no room for anything"
    assert hits(embedded(encoder, data, tmp_path, gigabytes=math.inf)) == (0, 0)
    assert len(list(tmp_path.rglob("*.npy"))) == 2


def test_a_cache_that_takes_nothing_costs_a_note_and_no_result(
    encoder: Encoder, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    found = embedded(encoder, data, tmp_path / "file")
    assert_same(found, embedded(encoder, data, None))
    assert caplog.text.count("embeddings are not kept for the next run") == 1


def test_a_disk_that_is_full_costs_a_note_and_no_result(
    encoder: Encoder, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        found = embedded(encoder, data, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_same(found, embedded(encoder, data, None))
    assert caplog.text.count("embeddings are not kept for the next run") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_is_read(
    encoder: Encoder, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    embed([encoder], open_pictures(data), np.arange(9), [], batch_size=4, cache=EmbeddingCache(tmp_path))
    for folder in [path for path in tmp_path.rglob("*") if path.is_dir()]:
        folder.chmod(0o500)
    assert hits(embedded(encoder, data, tmp_path)) == (9, 0)
    assert caplog.text.count("embeddings are not kept for the next run") == 1


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALMUBENCH_CACHE", "/here")
    assert cache_folder() == Path("/here")
    monkeypatch.delenv("SALMUBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert cache_folder() == Path("/there/salmubench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/salmubench")
