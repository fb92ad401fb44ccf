import io
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from torch import Tensor, nn

from encoders_world import benchmark_of, checkpoint, png
from salmubench.dataset.pictures import decode_picture
from salmubench.dataset.store import Benchmark
from salmubench.encoders import encoder as encoder_module
from salmubench.encoders.checkpoint import load_encoder
from salmubench.encoders.embeddings import embed
from salmubench.encoders.encoder import Encoder, ahead
from salmubench.encoders.texts import STEP, without_padding
from salmubench.errors import RunError, UserError

torch.set_num_threads(1)
COUNT = 40
TEXTS = [f"caption number {number} " * (1 + number % 4) for number in range(COUNT)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(checkpoint(tmp_path_factory.mktemp("checkpoint")), device="cpu")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> list[Encoder]:
    """One that prepares its pictures alike, and one that does not."""
    same = checkpoint(tmp_path_factory.mktemp("same"), 1)
    grey = checkpoint(tmp_path_factory.mktemp("grey"), 2, {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]})
    return [load_encoder(folder, device="cpu") for folder in (same, grey)]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return benchmark_of(tmp_path_factory.mktemp("pictures"), [png(seed) for seed in range(COUNT)])


def test_each_input_is_encoded_once_and_found_again(tmp_path: Path, encoder: Encoder) -> None:
    pictures = [png(seed) for seed in range(8)]
    index, texts = np.array([7, 2, 2, 5, 7]), ["b", "a", "b"]
    (embeddings,) = embed([encoder], benchmark_of(tmp_path, pictures), index, texts, batch_size=2)
    assert embeddings.index.tolist() == [2, 5, 7]
    assert list(embeddings.row) == ["b", "a"]
    direct = encoder.encode_pictures([("", pictures[number]) for number in index], 5)
    assert_allclose(embeddings.of_pictures(index), direct, atol=1e-6)
    assert_allclose(embeddings.of_texts(texts), encoder.encode_texts(texts), atol=1e-6)
    assert embeddings.of_pictures(index[:0]).shape == (0, 16)


@pytest.mark.parametrize("number", [0, 3, 8])
def test_what_was_not_encoded_is_not_found(tmp_path: Path, encoder: Encoder, number: int) -> None:
    (embeddings,) = embed([encoder], benchmark_of(tmp_path, [png(0)] * 8), np.array([1, 2, 4]), ["a"])
    with pytest.raises(KeyError):
        embeddings.of_pictures(np.array([1, number]))
    with pytest.raises(KeyError):
        embeddings.of_texts(["a", "b"])


def test_a_broken_picture_is_named_by_file_and_row(tmp_path: Path, encoder: Encoder) -> None:
    benchmark = benchmark_of(tmp_path, [png(0), png(1), png(2), png(3), b"junk"])
    with pytest.raises(UserError) as caught:
        embed([encoder], benchmark, np.arange(5), [])
    assert str(caught.value).startswith(benchmark.pictures.describe(4))


class Counting(nn.Module):
    """The model, with the rows of each pass written down; it runs out of memory above ``most``."""

    def __init__(self, model: nn.Module, most: int = 10**6) -> None:
        super().__init__()
        self.model, self.most = model, most
        self.rows: list[int] = []

    def encode_image(self, batch: Tensor) -> Any:
        return self._pass(self.model.encode_image, batch)

    def encode_text(self, batch: Tensor) -> Any:
        return self._pass(self.model.encode_text, batch)

    def _pass(self, encode: Any, batch: Tensor) -> Any:
        if len(batch) > self.most:
            raise torch.OutOfMemoryError(f"tried to allocate {len(batch)} pictures")
        self.rows.append(len(batch))
        return encode(batch)


def with_model(encoder: Encoder, model: nn.Module) -> Encoder:
    return Encoder(**{**vars(encoder), "model": model})


def test_equal_pictures_of_two_rows_go_through_the_model_once(tmp_path: Path, encoder: Encoder) -> None:
    benchmark = benchmark_of(tmp_path, [png(0), png(1), png(0), png(0), png(1)])
    model = Counting(encoder.model)
    (embeddings,) = embed([with_model(encoder, model)], benchmark, np.arange(5), [], batch_size=1)
    assert model.rows == [1, 1]
    (plain,) = embed([encoder], benchmark, np.arange(2), [], batch_size=1)
    assert_array_equal(embeddings.picture, plain.picture[[0, 1, 0, 0, 1]])


def test_memory_that_runs_out_halves_the_batch(benchmark: Benchmark, encoder: Encoder) -> None:
    model = Counting(encoder.model, most=5)
    scarce = with_model(encoder, model)
    (found,) = embed([scarce], benchmark, np.arange(COUNT), TEXTS)
    assert set(model.rows) == {4}
    (plain,) = embed([encoder], benchmark, np.arange(COUNT), TEXTS)
    assert_allclose(found.picture, plain.picture, atol=1e-6)
    assert_allclose(found.text, plain.text, atol=1e-6)
    with pytest.raises(UserError, match=r"^--batch-size 8: does not fit into the memory of cpu .*; choose a smaller"):
        embed([scarce], benchmark, np.arange(COUNT), TEXTS, batch_size=8)
    with pytest.raises(RunError, match="not one input fits into the memory"):
        embed([with_model(encoder, Counting(encoder.model, most=0))], benchmark, np.arange(COUNT), [])


@pytest.mark.parametrize("wrong", [0, -3, "many"])
def test_a_batch_size_that_is_none_is_refused(benchmark: Benchmark, encoder: Encoder, wrong: Any) -> None:
    with pytest.raises(UserError, match=f"--batch-size {wrong}"):
        embed([encoder], benchmark, np.arange(2), [], batch_size=wrong)
    with pytest.raises(UserError, match="--workers 0"):
        embed([encoder], benchmark, np.arange(2), [], workers=0)


def test_several_encoders_get_what_each_gets_alone(
    benchmark: Benchmark, encoder: Encoder, others: list[Encoder]
) -> None:
    together = embed([encoder, *others], benchmark, np.arange(COUNT), TEXTS)
    for each, found in zip([encoder, *others], together, strict=True):
        (alone,) = embed([each], benchmark, np.arange(COUNT), TEXTS)
        assert_array_equal(found.picture, alone.picture)
        assert_array_equal(found.text, alone.text)


def test_each_picture_is_prepared_once_for_encoders_that_prepare_alike(
    benchmark: Benchmark, encoder: Encoder, others: list[Encoder]
) -> None:
    prepared: list[int] = []

    def counted(number: int, each: Encoder) -> Encoder:
        return Encoder(
            **{**vars(each), "preprocess": lambda picture: (prepared.append(number), each.preprocess(picture))[1]}
        )

    embed([counted(n, each) for n, each in enumerate([encoder, *others])], benchmark, np.arange(COUNT), [])
    assert sorted(prepared) == [0] * COUNT + [2] * COUNT


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.sampled_from([1, 3, 16, 64, "auto"]),
    workers=st.none() | st.integers(1, 5),
    order=st.permutations(range(COUNT)),
    count=st.integers(1, COUNT),
)
def test_no_number_depends_on_batches_threads_or_order(
    benchmark: Benchmark, encoder: Encoder, batch_size: Any, workers: int | None, order: list[int], count: int
) -> None:
    (whole,) = embed([encoder], benchmark, np.arange(COUNT), TEXTS)
    part = order[:count]
    texts = [TEXTS[number] for number in part]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder_module, "cores", lambda: 1)  # where no number of threads is told, none is ahead
        (found,) = embed([encoder], benchmark, np.array(part), texts, batch_size=batch_size, workers=workers)
    assert_allclose(found.of_pictures(np.array(part)), whole.of_pictures(np.array(part)), atol=1e-6)
    assert_allclose(found.of_texts(texts), whole.of_texts(texts), atol=1e-6)
    if batch_size == "auto" and encoder.batch_size("auto", count) == encoder.batch_size("auto", COUNT):
        assert_array_equal(found.of_pictures(np.array(part)), whole.of_pictures(np.array(part)))
        assert_array_equal(found.of_texts(texts), whole.of_texts(texts))


def test_a_caption_over_the_context_length_keeps_its_end_token(encoder: Encoder) -> None:
    long, longer = "a very long caption " * 10, "a very long caption " * 20
    tokens = encoder.tokenizer([long, "short"])
    assert tokens.shape == (2, 24)
    assert tokens[0, -1] == tokens[1].max() == 49407, "the end token"
    assert_array_equal(*(encoder.encode_texts([text]) for text in (long, longer)))


def test_padding_is_left_out_and_changes_nothing(encoder: Encoder) -> None:
    texts = [" ".join(["word"] * count) for count in range(1, 40)]
    tokens = encoder.tokenizer(texts)
    cut = without_padding(encoder.model, tokens)
    ends = tokens.argmax(dim=1)
    for row, short, end in zip(tokens, cut, ends, strict=True):
        assert len(short) % STEP == 0
        assert int(end) < len(short) <= int(end) + STEP
        assert_array_equal(short, row[: len(short)])
    with torch.inference_mode():
        whole = nn.functional.normalize(encoder.model.encode_text(tokens), dim=-1).numpy()
    together = encoder.encode_texts(texts)
    assert_allclose(together, whole, atol=1e-6)
    assert_array_equal(encoder.encode_texts(texts[::-1])[::-1], together)


def test_a_text_tower_that_sees_padding_keeps_it(encoder: Encoder) -> None:
    tokens = encoder.tokenizer(["short"])
    model = open_clip.CustomTextCLIP(**encoder.config["model_cfg"]).eval()
    assert without_padding(model, tokens)[0].shape == tokens[0].shape


@pytest.mark.parametrize(("mode", "form"), [("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("CMYK", "TIFF")])
def test_every_mode_becomes_rgb_before_all_else(encoder: Encoder, mode: str, form: str) -> None:
    """Transparency is dropped, not blended, and dropped before a resize could blend it."""
    pixels = Image.open(io.BytesIO(png(3))).convert("RGBA")
    pixels.putalpha(Image.linear_gradient("L").resize(pixels.size))
    shown, plain = io.BytesIO(), io.BytesIO()
    pixels.convert(mode).save(shown, form)
    Image.open(shown).convert("RGB").save(plain, "PNG")
    pictures = [("", content.getvalue()) for content in (shown, plain)]
    assert_array_equal(*encoder.encode_pictures(pictures, 2))


def test_of_an_animated_picture_the_first_frame_counts(encoder: Encoder) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    pictures = []
    for kept in (frames, frames[:1]):
        stream = io.BytesIO()
        kept[0].save(stream, "PNG", save_all=True, append_images=kept[1:])
        pictures.append(("", stream.getvalue()))
    assert pictures[0] != pictures[1]
    assert_array_equal(*encoder.encode_pictures(pictures, 2))


def test_threads_work_ahead_in_order_and_hand_errors_on() -> None:
    drawn: list[int] = []

    def source() -> Any:
        for number in range(100):
            drawn.append(number)
            yield number

    results = ahead(source(), lambda number: number * number, 3, 5)
    assert next(results) == 0
    assert len(drawn) < 12
    assert list(results) == [number * number for number in range(1, 100)]

    def broken(number: int) -> int:
        if number == 7:
            raise UserError("seven")
        return number

    seen: list[int] = []
    with pytest.raises(UserError, match="seven"):
        seen.extend(ahead(iter(range(100)), broken, 4, 6))
    unfinished = ahead(source(), lambda number: number, 2, 4)
    next(unfinished)
    unfinished.close()
    assert drawn[-1] < 20


def test_exif_turns_a_picture_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to view
    stream = io.BytesIO()
    Image.new("RGB", (40, 20)).save(stream, "JPEG", exif=exif)
    assert decode_picture(stream.getvalue(), "here").size == (20, 40)
