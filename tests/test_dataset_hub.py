"""Data sets and models from a hub on loopback: pinned, resumed, offline, and every refusal in one sentence."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from dataset_small import build_small
from hub_server import COMMIT, Hub, files_of, serving
from salmubench.atomic import sha256_file
from salmubench.dataset.store import load_benchmark
from salmubench.encoders.checkpoint import save_checkpoint
from salmubench.evaluation.report import read_report

DATA, MODEL, GATED = "datasets/owner/name", "someone/clip", "datasets/owner/gated"
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1},
}
FETCH = """
import sys
import huggingface_hub.constants
from salmubench.dataset.hub import download, download_model
from salmubench.errors import explain
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1024  # as small beside our files as its own beside real ones
try:
    print(*download(sys.argv[1]) if sys.argv[1].startswith("hf://") else (download_model(sys.argv[1]),))
except Exception as error:
    words, code = explain(error)
    print(words)
    sys.exit(code)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_small(tmp_path_factory.mktemp("data")) / "salmubench"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "clip"
    torch.manual_seed(0)
    save_checkpoint(open_clip.CLIP(**CONFIG), {"model_cfg": CONFIG, "preprocess_cfg": {}}, folder)
    return folder


@pytest.fixture
def hub(data: Path, model: Path) -> Iterator[Hub]:
    """A data set with more than an evaluation needs, a gated one, a model in two forms, one without weights."""
    official = files_of(data) | {
        "data/forget_target-00000-of-00001.parquet": b"not needed",
        "data/extra.parquet": b"not needed",
        "images.json": b"{}",
    }
    weights = files_of(model)
    clip = weights | {"open_clip_pytorch_model.bin": b"not needed", "README.md": b"a card"}
    bare = {"open_clip_config.json": weights["open_clip_config.json"]}
    with serving(Hub({DATA: official, GATED: official, MODEL: clip, "someone/bare": bare}, gated={GATED})) as served:
        yield served


def run(hub: Hub, cache: Path, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    return subprocess.run(
        [sys.executable, *command], env=kept | settings | environment, capture_output=True, text=True, check=False
    )


def fetch(hub: Hub, cache: Path, address: str, **environment: str) -> tuple[int, str]:
    done = run(hub, cache, "-c", FETCH, address, **environment)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize("address", ["hf://owner/name", "hf://datasets/owner/name@v1", f"hf://owner/name@{COMMIT}"])
def test_a_data_set_is_fetched_once_and_pinned(hub: Hub, data: Path, tmp_path: Path, address: str) -> None:
    code, words = fetch(hub, tmp_path, address)
    assert code == 0, words
    folder, revision = words.split()
    assert revision == f"hf://owner/name@{COMMIT}"
    assert files_of(Path(folder)) == {name: content for name, content in files_of(data).items() if name != "README.md"}
    assert load_benchmark(folder).sets.keys() == load_benchmark(data).sets.keys()
    sent = dict(hub.sent)
    assert fetch(hub, tmp_path, address, HF_HUB_OFFLINE="1") == (code, words)
    assert fetch(hub, tmp_path, address) == (code, words)
    assert dict(hub.sent) == sent, "a second run downloads nothing"


def largest(hub: Hub) -> tuple[str, int]:
    return max(((name, len(content)) for name, content in hub.repositories[DATA].items()), key=lambda entry: entry[1])


def test_a_dropped_connection_is_taken_up_where_it_was(hub: Hub, tmp_path: Path) -> None:
    name, size = largest(hub)
    hub.cut[name] = [4096, 8192]
    code, words = fetch(hub, tmp_path, "hf://owner/name")
    assert code == 0, words
    assert hub.sent[name] == size, "no byte twice"


def test_a_download_that_failed_goes_on_with_what_is_missing(hub: Hub, tmp_path: Path) -> None:
    name, size = largest(hub)
    hub.cut[name] = [4096] * 100
    code, words = fetch(hub, tmp_path, "hf://owner/name")
    assert code == 1
    assert words.startswith("hf://owner/name: could not be downloaded (")
    assert words.endswith("; check the network and run again")
    code, words = fetch(hub, tmp_path, "hf://owner/name", HF_HUB_OFFLINE="1")
    assert code == 1, "a part of a data set is none"
    hub.cut.clear()
    others = {file: sent for file, sent in hub.sent.items() if file != name}
    code, words = fetch(hub, tmp_path, "hf://owner/name")
    assert code == 0, words
    assert hub.sent.keys() >= others.keys()
    assert all(hub.sent[file] == len(hub.repositories[DATA][file]) for file in others)
    assert hub.sent[name] == size + 4096


@pytest.mark.parametrize(
    ("address", "environment", "code", "words"),
    [
        ("hf://owner/gated", {}, 2, "hf://owner/gated: gated; accept its terms on the hub and set HF_TOKEN"),
        ("hf://owner/none", {}, 2, "hf://owner/none: no such repository, or a private one; check the name or set"),
        ("hf://owner/name@v9", {}, 2, "hf://owner/name@v9: the repository has no such revision; check what follows"),
        ("hf://owner/name", {"HF_HUB_OFFLINE": "1"}, 1, "hf://owner/name: could not be downloaded (Cannot find"),
        ("hf://owner/name", {"HF_ENDPOINT": "http://127.0.0.1:9"}, 1, "hf://owner/name: could not be downloaded ("),
        ("hf://name", {}, 2, "hf://name: not an address on the hub; write hf://owner/name"),
        ("hf://owner/name@", {}, 2, "hf://owner/name@: not an address on the hub"),
        ("hf-hub:someone/none", {}, 2, "hf-hub:someone/none: no such repository"),
        ("hf-hub:someone/clip@v9", {}, 2, "hf-hub:someone/clip@v9: the repository has no such revision"),
        ("hf-hub:someone/bare", {}, 2, "hf-hub:someone/bare: the repository holds no weights (open_clip_model"),
        ("hf-hub:someone/clip", {"HF_HUB_OFFLINE": "1"}, 1, "hf-hub:someone/clip: could not be downloaded ("),
    ],
)
def test_refusals(hub: Hub, tmp_path: Path, address: str, environment: dict[str, str], code: int, words: str) -> None:
    found = fetch(hub, tmp_path, address, **environment)
    assert (found[0], found[1][: len(words)]) == (code, words)
    assert "\n" not in found[1]


def test_a_token_opens_a_gated_data_set(hub: Hub, tmp_path: Path) -> None:
    code, words = fetch(hub, tmp_path, "hf://owner/gated", HF_TOKEN="secret")
    assert (code, words.split()[1]) == (0, f"hf://owner/gated@{COMMIT}")


def test_an_evaluation_from_the_hub_alone(hub: Hub, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    command = ("evaluate", "hf-hub:someone/clip@v1", "--data", "hf://owner/name", "--out", str(out), "--device", "cpu")
    done = run(hub, tmp_path / "cache", "-m", "salmubench", *command)
    assert done.returncode == 0, done.stderr
    report: Any = read_report(out)
    assert report.name == "someone/clip"
    assert report.provenance.data_revision == f"hf://owner/name@{COMMIT}"
    assert report.provenance.weights_sha256 == sha256_file(model / "open_clip_model.safetensors")
    assert not {"open_clip_pytorch_model.bin", "README.md", "data/extra.parquet"} & hub.sent.keys()
    again = run(hub, tmp_path / "cache", "-m", "salmubench", *command, HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert read_report(out).comparable() == report.comparable()
