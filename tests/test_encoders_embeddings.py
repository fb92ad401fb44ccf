import io
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from salmubench.dataset.schema import Row
from salmubench.dataset.store import Benchmark, load_split, write_split
from salmubench.encoders.checkpoint import load_encoder, save_checkpoint
from salmubench.encoders.embeddings import embed
from salmubench.encoders.encoder import Encoder
from salmubench.errors import UserError

torch.set_num_threads(1)

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    save_checkpoint(open_clip.CLIP(**MODEL), {"model_cfg": MODEL, "preprocess_cfg": {}}, folder)
    return load_encoder(folder, device="cpu")


def benchmark_of(folder: Path, pictures: list[bytes]) -> Benchmark:
    rows = [Row(image, f"caption {number}", None, f"{number}.png") for number, image in enumerate(pictures)]
    write_split(folder, "retain_synth", rows, rows_per_file=3)
    pairs, store = load_split(folder, "retain_synth")
    return Benchmark(folder, "sha256:0", None, store, {"retain_synth": pairs}, {}, {}, {}, None)


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def test_each_input_is_encoded_once_and_found_again(tmp_path: Path, encoder: Encoder) -> None:
    pictures = [png(seed) for seed in range(8)]
    benchmark = benchmark_of(tmp_path, pictures)
    index, texts = np.array([7, 2, 2, 5, 7]), ["b", "a", "b"]
    embeddings = embed(encoder, benchmark, index, texts, batch_size=2)
    assert embeddings.index.tolist() == [2, 5, 7]
    assert list(embeddings.row) == ["b", "a"]
    direct = encoder.encode_pictures([("", pictures[number]) for number in index], 5)
    np.testing.assert_allclose(embeddings.of_pictures(index), direct, atol=1e-6)
    np.testing.assert_allclose(embeddings.of_texts(texts), encoder.encode_texts(texts), atol=1e-6)
    assert embeddings.of_pictures(index[:0]).shape == (0, 16)


@pytest.mark.parametrize("number", [0, 3, 8])
def test_what_was_not_encoded_is_not_found(tmp_path: Path, encoder: Encoder, number: int) -> None:
    embeddings = embed(encoder, benchmark_of(tmp_path, [png(0)] * 8), np.array([1, 2, 4]), ["a"])
    with pytest.raises(KeyError):
        embeddings.of_pictures(np.array([1, number]))
    with pytest.raises(KeyError):
        embeddings.of_texts(["a", "b"])


def test_a_broken_picture_is_named_by_file_and_row(tmp_path: Path, encoder: Encoder) -> None:
    benchmark = benchmark_of(tmp_path, [png(0), png(1), png(2), png(3), b"junk"])
    with pytest.raises(UserError) as caught:
        embed(encoder, benchmark, np.arange(5), [])
    assert str(caught.value).startswith(benchmark.pictures.describe(4))
