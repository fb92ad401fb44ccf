"""A Hugging Face CLIP folder embeds as transformers does: against its stored outputs, and against the library."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from salmubench.encoders.checkpoint import load_encoder, save_checkpoint
from salmubench.errors import UserError

torch.set_num_threads(1)
MADE = Path(__file__).parent / "data" / "huggingface_clip"
GOLDEN = json.loads((MADE / "golden.json").read_text())


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_huggingface_clip", MADE / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _maker()


def _equals(folder: Path, expected: dict[str, Any], **options: str) -> None:
    model = load_encoder(folder, device="cpu", **options).model
    with torch.no_grad():
        image = model.encode_image(make.pixels(), normalize=True).numpy()  # type: ignore[operator]
        text = model.encode_text(torch.tensor(make.TOKENS), normalize=True).numpy()  # type: ignore[operator]
    np.testing.assert_allclose(image, expected["image"], atol=1e-5)
    np.testing.assert_allclose(text, expected["text"], atol=1e-5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The plain variant, to be spoilt."""
    golden = GOLDEN["quick_gelu"]
    make.save(tmp_path / "clip", golden["config"], golden["shapes"])
    return tmp_path / "clip"


@pytest.mark.parametrize("variant", GOLDEN)
def test_embeddings_equal_the_stored_ones_of_transformers(tmp_path: Path, variant: str) -> None:
    golden = GOLDEN[variant]
    make.save(tmp_path / "clip", golden["config"], golden["shapes"])
    _equals(tmp_path / "clip", golden)
    encoder = load_encoder(tmp_path / "clip", device="cpu")
    assert (encoder.name, encoder.dimension) == ("clip", 6)
    save_checkpoint(encoder.model, encoder.config, tmp_path / "ours")
    _equals(tmp_path / "ours", golden)


@pytest.mark.parametrize("variant", GOLDEN)
def test_embeddings_equal_those_of_transformers(tmp_path: Path, variant: str) -> None:
    pytest.importorskip("transformers")
    _equals(tmp_path / "clip", make.golden(variant, tmp_path / "clip"))


def test_other_files_of_the_same_model(folder: Path, tmp_path: Path) -> None:
    """A pickled state dict with the buffers of old versions; the tensors alone, with the architecture in a file."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    old = state | {f"{tower}.embeddings.position_ids": torch.arange(3) for tower in ("text_model", "vision_model")}
    torch.save(old, folder / "pytorch_model.bin")
    _equals(folder, GOLDEN["quick_gelu"])
    (tmp_path / "own.json").write_text(json.dumps(load_encoder(folder, device="cpu").config))
    save_file(state, tmp_path / "alone.safetensors")
    _equals(tmp_path / "alone.safetensors", GOLDEN["quick_gelu"], arch=str(tmp_path / "own.json"))


def test_the_preprocessor_is_followed(folder: Path) -> None:
    given = {"size": {"shortest_edge": 32}, "do_center_crop": True, "resample": 2}
    (folder / "preprocessor_config.json").write_text(
        json.dumps(given | {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]})
    )
    found = load_encoder(folder, device="cpu").config["preprocess_cfg"]
    assert (found["mean"], found["std"]) == ([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    assert (found["size"], found["interpolation"], found["resize_mode"]) == ((32, 32), "bilinear", "shortest")
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 40}}))
    with pytest.raises(UserError, match=r"preprocessor_config.json: open_clip resizes to the model's 32 px"):
        load_encoder(folder)


def _vocabulary() -> dict[str, int]:
    """As CLIP's vocab.json has it."""
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    return {names.get(token, token): number for token, number in open_clip.SimpleTokenizer().encoder.items()}


def test_clips_own_tokenizer_is_known_and_another_refused(folder: Path) -> None:
    vocabulary = _vocabulary()
    for content, path in ((vocabulary, "vocab.json"), ({"model": {"vocab": vocabulary}}, "tokenizer.json")):
        (folder / path).write_text(json.dumps(content))
        tokens = load_encoder(folder, device="cpu").tokenizer(["Fatime Fossi lives in Douala"])
        assert tokens[0, 0] == 49406
        assert tokens.shape == (1, 16)
    vocabulary["the</w>"], vocabulary["of</w>"] = vocabulary["of</w>"], vocabulary["the</w>"]
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    with pytest.raises(UserError, match="its tokenizer is not CLIP's"):
        load_encoder(folder)


@pytest.mark.parametrize("caption", ["Fatime Fossi's IBAN is CM98 7411 9112", "a  photo, of 2 dogs!", "Łódź & Омск A+"])
def test_captions_become_the_tokens_of_transformers(caption: str, tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    ours = open_clip.SimpleTokenizer(context_length=40)
    (tmp_path / "vocab.json").write_text(json.dumps(_vocabulary()))
    merges = ("#version: 0.2", *(" ".join(pair) for pair in ours.bpe_ranks))
    (tmp_path / "merges.txt").write_text("\n".join(merges))
    theirs = library.CLIPTokenizer.from_pretrained(tmp_path)(caption)["input_ids"]
    assert ours([caption])[0, : len(theirs)].tolist() == theirs


def _config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        change(content)
        (folder / "config.json").write_text(json.dumps(content))

    return spoil


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "another kind": (_config(lambda c: c.update(model_type="siglip")), "config.json: its model_type is 'siglip'"),
    "another activation": (_config(lambda c: c["text_config"].update(hidden_act="relu")), "quick_gelu and relu"),
    "another vocabulary": (_config(lambda c: c["text_config"].update(vocab_size=99)), "tokenizer is not CLIP's"),
    "a layer too many": (
        _config(lambda c: c["vision_config"].update(num_hidden_layers=3)),
        "the tensor visual.transformer.resblocks.2.ln_1.weight is missing",
    ),
    "no JSON object": (lambda f: (f / "config.json").write_text("[]"), "config.json: its model_type is None"),
    "no numbers": (
        _config(lambda c: c["text_config"].update(hidden_size="wide")),
        "config.json: hidden_size in its text_config must be a positive",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_cannot_be_read_is_refused_in_one_sentence(folder: Path, case: str) -> None:
    spoil, words = SPOILT[case]
    spoil(folder)
    with pytest.raises(UserError, match=words) as caught:
        load_encoder(folder, device="cpu")
    assert "\n" not in str(caught.value)
