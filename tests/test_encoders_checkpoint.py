import io
import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from salmubench.atomic import sha256_file
from salmubench.dataset.pictures import decode_picture
from salmubench.encoders.checkpoint import _architecture, checkpoint_config, load_encoder, save_checkpoint
from salmubench.encoders.encoder import PRECISIONS, Encoder
from salmubench.encoders.weights import nearest_architecture
from salmubench.errors import RunError, UserError

torch.set_num_threads(1)

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 598600000\n"
MODEL: dict[str, Any] = {
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


@pytest.mark.parametrize("damage", [lambda data: b"junk", lambda data: data[: len(data) // 2], lambda data: b""])
def test_a_broken_picture_is_named(encoder: Encoder, damage) -> None:  # type: ignore[no-untyped-def]
    content = [("row 0", picture()), ("data/forget.parquet, row 1", damage(picture(form="JPEG")))]
    with pytest.raises(UserError, match=r"^data/forget\.parquet, row 1: .*; replace it or drop the row$"):
        encoder.encode_pictures(content, 2)


@pytest.mark.parametrize("precision", sorted(PRECISIONS.keys() - {"fp32"}))
def test_low_precision_stays_near(folder: Path, encoder: Encoder, precision: str) -> None:
    low = load_encoder(folder, device="cpu", precision=precision)
    content = [("", picture(seed=seed)) for seed in range(4)]
    exact, rough = encoder.encode_pictures(content, 4), low.encode_pictures(content, 4)
    assert rough.dtype == np.float32
    assert 0 < np.abs(exact - rough).max() < 0.05


def test_embeddings_that_are_not_finite_are_a_failed_run(folder: Path) -> None:
    encoder = load_encoder(folder, device="cpu")
    with torch.no_grad():
        encoder.model.token_embedding.weight.fill_(float("inf"))  # type: ignore[operator, union-attr]
    with pytest.raises(RunError, match="not finite"):
        encoder.encode_texts(["a caption"])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_weights_that_are_not_finite_are_refused_before_anything_is_encoded(tmp_path: Path, value: str) -> None:
    model = small_model()
    with torch.no_grad():
        model.ln_final.weight[3] = float(value)  # type: ignore[index, union-attr]
    save_checkpoint(model, CONFIG, tmp_path / "broken")
    with pytest.raises(UserError, match=r"open_clip_model\.safetensors: the tensor ln_final\.weight holds NaN or inf"):
        load_encoder(tmp_path / "broken", device="cpu")


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
    torch.save({"model": {f"_orig_mod.{name}": tensor for name, tensor in state.items()}}, tmp_path / "compiled.pth")
    for name in ("epoch_3.pt", "open_clip_pytorch_model.bin", "compiled.pth", "."):
        checkpoint = tmp_path / name
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


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth", ".pkl", ".ckpt", ".safetensors"])
def test_no_file_can_run_code(tmp_path: Path, suffix: str) -> None:
    checkpoint, trace = tmp_path / f"evil{suffix}", tmp_path / "ran"
    for save in (
        lambda value: checkpoint.write_bytes(pickle.dumps(value)),
        lambda value: torch.save(value, checkpoint),
    ):
        save({"logit_scale": Touch(trace)})
        with pytest.raises(UserError, match=r"evil.*; (download or )?save (it|them) ?(again)?") as caught:
            load_encoder(checkpoint, arch="RN50", device="cpu")
        assert not trace.exists()
    if suffix in (".pt", ".bin", ".pth"):
        assert "not plain weights (it asks to run io.open)" in str(caught.value)


SIGLIP_LIKE = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {"image_size": 64, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
    "text_cfg": {
        **MODEL["text_cfg"],
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    },
}
MOBILE_LIKE = {
    "embed_dim": 16,
    "custom_text": True,
    "vision_cfg": {"image_size": 32, "timm_model_name": "test_convnext", "timm_pool": "avg", "timm_proj": "linear"},
    "text_cfg": {**MODEL["text_cfg"], "no_causal_mask": True},
}
VISION_TRANSFORMER = MODEL | {"vision_cfg": {"image_size": 32, "patch_size": 8, "layers": 2, "width": 64}}


@pytest.mark.parametrize("model", [SIGLIP_LIKE, MOBILE_LIKE, VISION_TRANSFORMER, MODEL])
@pytest.mark.parametrize("whole", [True, False])
def test_an_architecture_of_ones_own_in_a_file(tmp_path: Path, model: dict[str, Any], whole: bool) -> None:
    torch.manual_seed(1)
    build = open_clip.CustomTextCLIP if "custom_text" in model else open_clip.CLIP
    library = build(**{key: value for key, value in model.items() if key != "custom_text"}).eval()
    torch.save({"state_dict": library.state_dict(), "epoch": 1}, tmp_path / "epoch_1.pt")
    preprocessing = {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "resize_mode": "squash"}
    config = {"model_cfg": model, "preprocess_cfg": preprocessing} if whole else model
    (tmp_path / "my model.json").write_text(json.dumps(config))

    encoder = load_encoder(tmp_path / "epoch_1.pt", arch=str(tmp_path / "my model.json"), device="cpu")

    content = picture()
    with torch.no_grad():
        pixels = encoder.preprocess(Image.open(io.BytesIO(content)))
        expected = library.encode_image(pixels[None], normalize=True).numpy()
        texts = library.encode_text(encoder.tokenizer(["a caption"]), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_pictures([("", content)], 1), expected, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(["a caption"]), texts, atol=1e-5)
    if whole:
        assert encoder.config["preprocess_cfg"]["mean"] == [0.1, 0.2, 0.3]
    save_checkpoint(encoder.model, encoder.config, tmp_path / "saved")
    again = load_encoder(tmp_path / "saved", device="cpu")
    np.testing.assert_allclose(again.encode_pictures([("", content)], 1), expected, atol=1e-5)


def test_a_tokenizer_beside_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SigLIP's way; without transformers, which reads it, the sentence says what to install."""
    torch.manual_seed(1)
    named = SIGLIP_LIKE | {"text_cfg": SIGLIP_LIKE["text_cfg"] | {"hf_tokenizer_name": "owner/name"}}
    library = open_clip.CustomTextCLIP(**{key: value for key, value in named.items() if key != "custom_text"})
    save_checkpoint(library, {"model_cfg": named, "preprocess_cfg": {}}, tmp_path / "siglip")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "transformers", None)
        with pytest.raises(UserError, match=r"open_clip cannot build .*; pip install transformers$"):
            load_encoder(tmp_path / "siglip", device="cpu")
    library_of_tokens = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"<unk>": 0, "<pad>": 1, "a": 2, "caption": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = library_of_tokens.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    wrapped.save_pretrained(tmp_path / "siglip")
    tokens = load_encoder(tmp_path / "siglip", device="cpu").tokenizer(["a caption a"])
    assert tokens.tolist() == [[2, 3, 2, *[1] * 21]]


@pytest.mark.parametrize(
    ("arch", "mean", "resize"),
    [
        ("ViT-B-16", [0.48145466, 0.4578275, 0.40821073], "shortest"),
        ("ViT-B-16-SigLIP", [0.5, 0.5, 0.5], "squash"),
        ("MobileCLIP-S1", [0, 0, 0], "shortest"),
        ("ViT-L-14", [], ""),  # its published weights differ: open_clip's default, not a guess
    ],
)
def test_an_architectures_pictures_are_prepared_as_its_published_weights_want(
    arch: str, mean: list[float], resize: str
) -> None:
    config, name, tokenizer = _architecture(arch)
    assert (name, tokenizer) == (arch, arch)
    assert (list(config["preprocess_cfg"].get("mean", [])), config["preprocess_cfg"].get("resize_mode", "")) == (
        mean,
        resize,
    )


def test_weights_of_another_architecture_are_told_apart(tmp_path: Path) -> None:
    """Both sizes of position embedding, which open_clip would interpolate without a word."""
    state = open_clip.CLIP(**VISION_TRANSFORMER).state_dict()
    torch.save(state, tmp_path / "weights.pt")
    larger = VISION_TRANSFORMER | {"vision_cfg": VISION_TRANSFORMER["vision_cfg"] | {"image_size": 64}}
    (tmp_path / "larger.json").write_text(json.dumps(larger))
    shape = r"the tensor visual\.positional_embedding has the shape \[17, 64\], not \[65, 64\]"
    with pytest.raises(UserError, match=rf"weights\.pt: not weights of ViT-2 width 64 at 64 px.*: {shape}"):
        load_encoder(tmp_path / "weights.pt", arch=str(tmp_path / "larger.json"), device="cpu")
    torch.save({**state, "head.weight": torch.zeros(2)}, tmp_path / "weights.pt")
    (tmp_path / "same.json").write_text(json.dumps(VISION_TRANSFORMER))
    with pytest.raises(UserError, match=r"it has no tensor head\.weight"):
        load_encoder(tmp_path / "weights.pt", arch=str(tmp_path / "same.json"), device="cpu")


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-32-256", "ViT-L-14"])
def test_the_nearest_architecture_is_known_by_its_sizes(name: str) -> None:
    with torch.device("meta"):
        config = open_clip.get_model_config(name)
        state = open_clip.CLIP(**config).state_dict()
    assert nearest_architecture(state) == name


def test_the_nearest_architecture_of_others_is_unknown() -> None:
    assert nearest_architecture(small_model().state_dict()) is None
    assert nearest_architecture(open_clip.CLIP(**VISION_TRANSFORMER).state_dict()) is None


def test_wrong_checkpoints_are_refused_in_one_sentence(tmp_path: Path, folder: Path) -> None:
    weights = folder / "open_clip_model.safetensors"
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "epoch_2.pt").touch()
    (tmp_path / "weightless").mkdir()
    (tmp_path / "weightless" / "open_clip_config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "open_clip_config.json").write_text(json.dumps({"vision": 1}))
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:1000])
    (tmp_path / "pointer.safetensors").write_text(POINTER)
    (tmp_path / "pointer.pth").write_text(POINTER)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "odd.json").write_text(json.dumps(MODEL | {"text_cfg": {"width": "wide"}}))
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save({"state_dict": {"logit_scale": 1.5}}, tmp_path / "number.pt")
    cases: list[tuple[tuple[Path, dict[str, str]], str]] = [
        ((tmp_path / "none", {}), "no such checkpoint"),
        ((weights, {}), "add --arch"),
        ((weights, {"arch": "RN50"}), "not weights of RN50: the tensor .* shape .*; check --arch"),
        ((tmp_path / "cut.safetensors", {"arch": "RN50"}), "cut.safetensors: not a whole safetensors file"),
        ((tmp_path / "pointer.safetensors", {"arch": "RN50"}), "pointer.safetensors: a git-lfs pointer"),
        ((tmp_path / "pointer.pth", {"arch": "RN50"}), "pointer.pth: a git-lfs pointer.*git lfs pull"),
        ((tmp_path / "list.pt", {"arch": "RN50"}), "list.pt: holds no state dict"),
        ((tmp_path / "number.pt", {"arch": "RN50"}), "number.pt: 'logit_scale' is no tensor"),
        ((folder, {"arch": "ViT-B16"}), "--arch ViT-B16: open_clip knows no such architecture; did you mean ViT-B-16"),
        ((weights, {"arch": "hf-hub:a/b"}), "--arch hf-hub:a/b: open_clip knows no such"),
        ((weights, {"arch": str(tmp_path / "gone.json")}), "gone.json: no such file"),
        ((weights, {"arch": str(tmp_path / "list.json")}), "list.json: no model_cfg with embed_dim"),
        ((weights, {"arch": str(tmp_path / "odd.json")}), "open_clip cannot build"),
        ((folder, {"precision": "fp8"}), "--precision fp8"),
        ((folder, {"device": "toaster"}), "--device toaster"),
        (
            (tmp_path / "empty", {}),
            "empty: holds no checkpoint; give a folder with open_clip_config.json and open_clip_m",
        ),
        ((tmp_path / "bare", {}), "bare: neither .* says the architecture of epoch_2.pt; add --arch"),
        ((tmp_path / "weightless", {}), "holds no weights"),
        ((tmp_path / "other", {}), "no model_cfg"),
    ]
    for (checkpoint, options), message in cases:
        with pytest.raises(UserError, match=message) as caught:
            load_encoder(checkpoint, **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("preprocessing", "words"),
    [
        ({"mean": "grey"}, r'mean in its preprocess_cfg must be three numbers, not "grey"'),
        ({"mean": [0.5, "x", 0.5]}, "mean .* must be three numbers"),
        ({"mean": [0.5, 0.5]}, "mean .* must be three numbers"),
        ({"std": [0.5, 0, 0.5]}, "std .* must be three positive numbers"),
        ({"interpolation": "magic"}, "interpolation .* must be one of bicubic, bilinear"),
        ({"resize_mode": 3}, "resize_mode .* must be one of shortest"),
        ("none", "preprocess_cfg must be a JSON object"),
    ],
)
def test_a_wrong_preprocessing_is_named(tmp_path: Path, folder: Path, preprocessing: object, words: str) -> None:
    shutil.copytree(folder, tmp_path / "small")
    (tmp_path / "small" / "open_clip_config.json").write_text(json.dumps(CONFIG | {"preprocess_cfg": preprocessing}))
    with pytest.raises(UserError, match=rf"open_clip_config\.json: .*{words}"):
        load_encoder(tmp_path / "small", device="cpu")


def test_hub_checkpoints_load_from_the_cache(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "a" * 40
    repository = tmp_path / "models--someone--clip"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name in ("hf-hub:someone/clip", f"hf-hub:someone/clip@{commit}"):
        encoder = load_encoder(name, device="cpu")
        assert encoder.name == "someone/clip"
        assert encoder.weights_sha256 == sha256_file(folder / "open_clip_model.safetensors")
    with pytest.raises(RunError, match=r"^hf-hub:someone/else: could not be downloaded"):
        load_encoder("hf-hub:someone/else", device="cpu")


def test_saving_keeps_other_files_and_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("kept")
    save_checkpoint(small_model(), CONFIG, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save_checkpoint(small_model(), CONFIG, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert sorted(first) == ["log.jsonl", "open_clip_config.json", "open_clip_model.safetensors"]
