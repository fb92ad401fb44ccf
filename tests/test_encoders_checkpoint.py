import io
import json
import pickle
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from salmubench.atomic import sha256_file
from salmubench.dataset.pictures import decode_picture
from salmubench.encoders.checkpoint import checkpoint_config, load_encoder, save_checkpoint
from salmubench.encoders.encoder import Encoder
from salmubench.errors import RunError, UserError

torch.set_num_threads(1)

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1},
}
CONFIG = {"model_cfg": MODEL, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}


def small_model(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return open_clip.CLIP(**MODEL).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "small"
    save_checkpoint(small_model(), CONFIG, path)
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(folder, device="cpu")


def picture(
    mode: str = "RGB", size: tuple[int, int] = (50, 37), seed: int = 0, form: str = "PNG", **options: object
) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def test_a_saved_folder_loads_here_and_in_open_clip(folder: Path, encoder: Encoder) -> None:
    library, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    for name, tensor in small_model().state_dict().items():
        assert torch.equal(library.state_dict()[name], tensor)
        assert torch.equal(encoder.model.state_dict()[name], tensor)
    assert not encoder.model.training
    assert (encoder.name, encoder.dimension, encoder.device.type) == ("small", 16, "cpu")
    assert encoder.weights_sha256 == sha256_file(folder / "open_clip_model.safetensors")
    assert encoder.config["model_cfg"] == MODEL
    assert checkpoint_config(folder) == CONFIG


def test_embeddings_are_those_of_the_bare_model(encoder: Encoder, folder: Path) -> None:
    library, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    library.eval()
    content = [picture(seed=seed) for seed in range(3)]
    texts = ["In Omsk resides Marine Petrov", "Siqi Yue possesses A+ blood"]
    with torch.no_grad():
        pixels = torch.stack([preprocess(Image.open(io.BytesIO(data))) for data in content])
        pictures = library.encode_image(pixels, normalize=True).numpy()
        captions = library.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(texts), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_pictures([("", c) for c in content], 3), pictures, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_texts(texts), captions, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batch_size_changes_nothing(encoder: Encoder, batch_size: int) -> None:
    content = [("", picture(size=(30 + seed, 60 - seed), seed=seed)) for seed in range(10)]
    texts = [f"caption number {number} " * (1 + number % 3) for number in range(10)]
    reference = encoder.encode_pictures(content, 10, batch_size=10), encoder.encode_texts(texts, batch_size=10)
    np.testing.assert_allclose(encoder.encode_pictures(content, 10, batch_size=batch_size), reference[0], atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(texts, batch_size=batch_size), reference[1], atol=1e-5)


def test_embeddings_have_unit_length_and_nothing_is_an_empty_array(encoder: Encoder) -> None:
    features = encoder.encode_pictures([("", picture(seed=seed)) for seed in range(4)], 4)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    assert encoder.encode_pictures([], 0).shape == (0, 16)
    assert encoder.encode_texts([]).shape == (0, 16)


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "1", "I;16", "CMYK"])
def test_pictures_of_any_mode_become_rgb(mode: str) -> None:
    form = "TIFF" if mode == "CMYK" else "PNG"
    if mode == "I;16":
        stream = io.BytesIO()
        Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(stream, "PNG")
        content = stream.getvalue()
    else:
        content = picture(mode, form=form)
    assert decode_picture(content, "here").mode == "RGB"


def test_exif_turns_a_picture_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to view
    assert decode_picture(picture(size=(40, 20), form="JPEG", exif=exif), "here").size == (20, 40)


@pytest.mark.parametrize("damage", [lambda data: b"junk", lambda data: data[: len(data) // 2], lambda data: b""])
def test_a_broken_picture_is_named(encoder: Encoder, damage) -> None:  # type: ignore[no-untyped-def]
    content = [("row 0", picture()), ("data/forget.parquet, row 1", damage(picture(form="JPEG")))]
    with pytest.raises(UserError, match=r"^data/forget\.parquet, row 1: .*; replace it or drop the row$"):
        encoder.encode_pictures(content, 2)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_stays_near(folder: Path, encoder: Encoder, precision: str) -> None:
    low = load_encoder(folder, device="cpu", precision=precision)
    content = [("", picture(seed=seed)) for seed in range(4)]
    exact, rough = encoder.encode_pictures(content, 4), low.encode_pictures(content, 4)
    assert rough.dtype == np.float32
    assert 0 < np.abs(exact - rough).max() < 0.05


def test_broken_weights_are_a_failed_run(tmp_path: Path) -> None:
    model = small_model()
    with torch.no_grad():
        model.token_embedding.weight.fill_(float("nan"))  # type: ignore[operator, union-attr]
    save_checkpoint(model, CONFIG, tmp_path / "nan")
    with pytest.raises(RunError, match="not finite"):
        load_encoder(tmp_path / "nan", device="cpu").encode_texts(["a caption"])


def test_weights_files_load_with_an_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "small-test-clip.json").write_text(json.dumps(MODEL))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
    open_clip.add_model_config(tmp_path / "configs")
    state = small_model().state_dict()
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
        tmp_path / "epoch_3.pt",
    )
    torch.save(state, tmp_path / "open_clip_pytorch_model.bin")
    for checkpoint in (tmp_path / "epoch_3.pt", tmp_path / "open_clip_pytorch_model.bin", tmp_path):
        encoder = load_encoder(checkpoint, arch="small-test-clip", device="cpu")
        assert encoder.architecture == "small-test-clip"
        assert all(torch.equal(encoder.model.state_dict()[name], tensor) for name, tensor in state.items())
        save_checkpoint(encoder.model, encoder.config, tmp_path / "copy" / checkpoint.name)
        copied = load_encoder(tmp_path / "copy" / checkpoint.name, device="cpu")
        assert copied.architecture == "ResNet-1.1.1.1 width 8 at 32 px, text 1 x 32", "a name that only we know"


class Touch:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth", ".pkl", ".ckpt"])
def test_no_file_can_run_code(tmp_path: Path, suffix: str) -> None:
    checkpoint, trace = tmp_path / f"evil{suffix}", tmp_path / "ran"
    for save in (
        lambda value: torch.save(value, checkpoint),
        lambda value: checkpoint.write_bytes(pickle.dumps(value)),
    ):
        save({"logit_scale": Touch(trace)})
        with pytest.raises(UserError, match=r"evil.*save (it|them again) as \.safetensors"):
            load_encoder(checkpoint, arch="RN50", device="cpu")
        assert not trace.exists()


def test_wrong_checkpoints_are_refused_in_one_sentence(tmp_path: Path, folder: Path) -> None:
    weights = folder / "open_clip_model.safetensors"
    (tmp_path / "empty").mkdir()
    (tmp_path / "weightless").mkdir()
    (tmp_path / "weightless" / "open_clip_config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "open_clip_config.json").write_text(json.dumps({"vision": 1}))
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:1000])
    cases = [
        ((tmp_path / "none", {}), "no such checkpoint"),
        ((weights, {}), "add --arch"),
        ((weights, {"arch": "RN50"}), "check --arch"),
        ((tmp_path / "cut.safetensors", {"arch": "RN50"}), "cut.safetensors: not plain weights"),
        ((folder, {"arch": "ViT-B16"}), "--arch ViT-B16: open_clip knows no such architecture; did you mean ViT-B-16"),
        ((folder, {"precision": "fp8"}), "--precision fp8"),
        ((folder, {"device": "toaster"}), "--device toaster"),
        ((tmp_path / "empty", {}), "open_clip_config.json: no such file"),
        ((tmp_path / "weightless", {}), "holds no weights"),
        ((tmp_path / "other", {}), "no model_cfg"),
    ]
    for (checkpoint, options), message in cases:
        with pytest.raises(UserError, match=message) as caught:
            load_encoder(checkpoint, **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_hub_checkpoints_load_from_the_cache(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "a" * 40
    repository = tmp_path / "models--someone--clip"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for file in folder.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name in ("hf-hub:someone/clip", f"hf-hub:someone/clip@{commit}"):
        encoder = load_encoder(name, device="cpu")
        assert encoder.name == "someone/clip"
        assert encoder.weights_sha256 == sha256_file(folder / "open_clip_model.safetensors")
    with pytest.raises(UserError, match=r"^hf-hub:someone/else: could not be fetched from the hub"):
        load_encoder("hf-hub:someone/else", device="cpu")


def test_saving_keeps_other_files_and_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("kept")
    save_checkpoint(small_model(), CONFIG, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save_checkpoint(small_model(), CONFIG, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert sorted(first) == ["log.jsonl", "open_clip_config.json", "open_clip_model.safetensors"]
