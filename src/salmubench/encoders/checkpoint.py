"""Checkpoints: load an encoder from a folder, a weights file or the hub; save a model as a folder.

A checkpoint folder holds ``open_clip_config.json`` (``{"model_cfg": ..., "preprocess_cfg": ...}``) and the weights. We
write safetensors only; pickles (``.bin``, ``.pt``, ``.pth``) are read with ``weights_only=True``: no file can run code.
"""

import difflib
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from salmubench.atomic import read_json, replacing, sha256_file, write_json
from salmubench.dataset.hub import MODEL_SCHEME, WEIGHTS_FILES, download_model
from salmubench.dataset.seal import require_open
from salmubench.encoders import huggingface
from salmubench.encoders.encoder import PRECISIONS, Encoder
from salmubench.encoders.weights import SUFFIXES, fit, read_state
from salmubench.errors import RunError, UserError

CONFIG_FILE = "open_clip_config.json"
RECORD_FILE = "record.json"
"""Lies beside a checkpoint that an unlearning run wrote."""
WEIGHTS_FILE = WEIGHTS_FILES[0]
FOLDER_PREFIX = "local-dir:"

_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
_CHOICES = {
    "interpolation": ("bicubic", "bilinear", "random"),
    "resize_mode": ("shortest", "longest", "squash"),
    "mode": ("RGB",),
}


@dataclass(frozen=True)
class _Source:
    name: str
    weights: Path
    config: dict[str, Any]  # model_cfg and preprocess_cfg
    architecture: str
    tokenizer: str | None  # what open_clip.get_tokenizer takes; None where the configuration alone tells it


def load_encoder(
    checkpoint: str | Path, *, arch: str | None = None, device: str | None = None, precision: str = "fp32"
) -> Encoder:
    """Loads a checkpoint for encoding.

    Args:
        checkpoint: an open_clip folder, a Hugging Face CLIP folder, a weights file (.safetensors, .bin, .pt, .pth) or
            ``hf-hub:OWNER/NAME[@REVISION]``.
        arch: open_clip's name of the architecture, e.g. ``ViT-B-16``, or the path of a JSON file with embed_dim,
            vision_cfg and text_cfg; needed where no configuration lies beside the weights, and then in its place.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; a GPU if there is one by default.
        precision: a key of ``PRECISIONS``.

    Raises:
        UserError: no such checkpoint, architecture, device or precision; a file that could run code; weights that do
            not fit the architecture or are not finite.
        RunError: the hub cannot be reached and the cache does not hold the model.
    """
    require_open(str(checkpoint))
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: there is no such precision; choose from {', '.join(PRECISIONS)}")
    target = _device(device)
    source = _locate(str(checkpoint), arch)
    model, preprocess, tokenizer = _build(source, target)
    return Encoder(
        name=source.name,
        architecture=source.architecture,
        weights_sha256=sha256_file(source.weights),
        config={"model_cfg": source.config["model_cfg"], "preprocess_cfg": model.visual.preprocess_cfg},
        precision=precision,
        device=target,
        model=model,
        tokenizer=tokenizer,
        preprocess=preprocess,
    )


def weights_sha256(checkpoint: str | Path, *, arch: str | None = None) -> str:
    """SHA-256 of a checkpoint's weights, by which ``load_encoder`` knows them too; nothing is loaded.

    Raises:
        UserError: no such checkpoint, or a weights file without ``arch``.
        RunError: the hub cannot be reached and the cache does not hold the model.
    """
    return sha256_file(_locate(str(checkpoint), arch).weights)


def checkpoint_config(folder: str | Path) -> dict[str, Any]:
    """The configuration of a checkpoint folder: ``{"model_cfg": ..., "preprocess_cfg": ...}``.

    Raises:
        UserError: the file is missing or holds no model configuration.
    """
    return _read_config(Path(str(folder).removeprefix(FOLDER_PREFIX)) / CONFIG_FILE)


def _read_config(path: Path) -> dict[str, Any]:
    """A file with a whole configuration, or with the ``model_cfg`` alone, as open_clip's own files have it."""
    config = read_json(path)
    whole = isinstance(config, dict) and "model_cfg" in config
    model = config["model_cfg"] if whole else config
    if not isinstance(model, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= model.keys():
        raise UserError(
            f"{path}: no model_cfg with embed_dim, vision_cfg and text_cfg in it; save the checkpoint again"
        )
    for key in ("vision_cfg", "text_cfg"):
        if not isinstance(model[key], dict):
            raise UserError(f"{path}: its {key} must be a JSON object; save the checkpoint again")
    preprocessing = (config.get("preprocess_cfg") if whole else None) or {}
    _check_preprocessing(path, preprocessing)
    return {"model_cfg": model, "preprocess_cfg": preprocessing}


def _check_preprocessing(path: Path, preprocessing: Any) -> None:
    if not isinstance(preprocessing, dict):
        raise UserError(f"{path}: its preprocess_cfg must be a JSON object; save the checkpoint again")
    for key, value in preprocessing.items():
        if key in ("mean", "std"):
            numbers = isinstance(value, list) and len(value) == 3 and all(_is_number(number) for number in value)
            right = numbers and (key == "mean" or min(value) > 0)
            wanted = f"three {'' if key == 'mean' else 'positive '}numbers"
        elif key in _CHOICES:
            right, wanted = value in _CHOICES[key], f"one of {', '.join(_CHOICES[key])}"
        else:
            continue
        if value is not None and not right:
            raise UserError(f"{path}: {key} in its preprocess_cfg must be {wanted}, not {json.dumps(value)}; mend it")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def save_checkpoint(model: nn.Module, config: dict[str, Any], folder: str | Path) -> None:
    """Writes an open_clip folder that ``load_encoder`` and ``local-dir:PATH`` take; other files in it stay.

    Args:
        model: the open_clip model.
        config: ``{"model_cfg": ..., "preprocess_cfg": ...}``, e.g. ``Encoder.config`` or ``checkpoint_config(...)``.
        folder: made if it is not there. The weights come first: a folder with a configuration is complete.

    Raises:
        RunError: the disk is full or fails.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    target = Path(folder) / WEIGHTS_FILE
    with replacing(target) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
        except SafetensorError as error:
            raise RunError(f"{target}: could not be written ({error}); free some space and run again") from error
    write_json(Path(folder) / CONFIG_FILE, config)


def default_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device(device: str | None) -> torch.device:
    if device is None:
        return torch.device(default_device())
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        usable = "cpu or cuda" if torch.cuda.is_available() else "cpu"
        raise UserError(f"--device {device}: this machine cannot use it ({reason}); choose {usable}") from error


def _locate(checkpoint: str, arch: str | None) -> _Source:
    if checkpoint.startswith(MODEL_SCHEME):
        folder = download_model(checkpoint)
        return _locate_folder(folder, checkpoint.removeprefix(MODEL_SCHEME).split("@")[0], arch)
    path = Path(checkpoint.removeprefix(FOLDER_PREFIX))
    if path.is_dir():
        return _locate_folder(path, path.resolve().name, arch)
    if not path.is_file():
        raise UserError(
            f"{path}: no such checkpoint; give an open_clip folder, a weights file or {MODEL_SCHEME}OWNER/NAME"
        )
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"{path}: not one of {', '.join(SUFFIXES)}, and other files may run code; save it as .safetensors"
        )
    if arch is None:
        raise UserError(f"{path}: a weights file does not say its architecture; add --arch, e.g. --arch ViT-B-16")
    return _Source(path.stem, path, *_architecture(arch))


def _locate_folder(folder: Path, name: str, arch: str | None) -> _Source:
    if arch is not None:
        return _Source(name, _weights_in(folder), *_architecture(arch))
    tokenizer = None
    if (folder / CONFIG_FILE).exists():
        config, tokenizer = checkpoint_config(folder), f"{FOLDER_PREFIX}{folder}"
    elif (folder / huggingface.CONFIG_FILE).exists():
        config = huggingface.read_config(folder)
    elif weights := _find_weights(folder):
        raise UserError(
            f"{folder}: neither {CONFIG_FILE} nor {huggingface.CONFIG_FILE} says the architecture of {weights.name}; "
            "add --arch, e.g. --arch ViT-B-16"
        )
    else:
        raise UserError(
            f"{folder}: holds no checkpoint; give a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, a Hugging Face CLIP "
            "folder, or a weights file with --arch"
        )
    return _Source(name, _weights_in(folder), config, _describe(config["model_cfg"]), tokenizer)


def _weights_in(folder: Path) -> Path:
    found = _find_weights(folder)
    if found is None:
        raise UserError(f"{folder}: holds no weights ({', '.join(SUFFIXES)}); put {WEIGHTS_FILE} there")
    return found


def _find_weights(folder: Path) -> Path | None:
    preferred = [folder / name for name in WEIGHTS_FILES]
    others = [path for suffix in SUFFIXES for path in sorted(folder.glob(f"*{suffix}"))]
    return next((path for path in (*preferred, *others) if path.is_file()), None)


def model_config(arch: str) -> dict[str, Any]:
    """open_clip's model configuration (embed_dim, vision_cfg, text_cfg) of a known name or of a JSON file.

    Raises:
        UserError: open_clip knows no such name, or the file is no such configuration.
    """
    config: dict[str, Any] = _architecture(arch)[0]["model_cfg"]
    return config


def _architecture(arch: str) -> tuple[dict[str, Any], str, str | None]:
    """Configuration, name and tokenizer of what ``--arch`` names."""
    if arch.endswith(".json"):
        config = _read_config(Path(arch))
        return config, _describe(config["model_cfg"]), None
    model = open_clip.get_model_config(arch) if ":" not in arch else None
    if model is None:
        near = difflib.get_close_matches(arch, open_clip.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see open_clip.list_models(), or give a JSON file"
        raise UserError(f"--arch {arch}: open_clip knows no such architecture; {hint}")
    return {"model_cfg": model, "preprocess_cfg": _published_preprocessing(arch)}, arch, arch


def _published_preprocessing(arch: str) -> dict[str, Any]:
    """What all published weights of an architecture agree on; SigLIP and MobileCLIP want other means than CLIP."""
    published = [get_pretrained_cfg(arch, tag) for tag in list_pretrained_tags_by_model(arch)]
    found = [{key: weights[key] for key in _PREPROCESSING if key in weights} for weights in published]
    return found[0] if found and all(entry == found[0] for entry in found) else {}


def _build(source: _Source, device: torch.device) -> tuple[Any, Callable[[Image.Image], Tensor], Any]:
    state = read_state(source.weights)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # open_clip would warn of random weights, which we replace at once
    try:
        with TemporaryDirectory() as folder:
            write_json(Path(folder) / CONFIG_FILE, source.config)
            name = f"{FOLDER_PREFIX}{folder}"
            model, _, preprocess = open_clip.create_model_and_transforms(
                name, load_weights=False, pretrained_text=False
            )
            tokenizer = open_clip.get_tokenizer(source.tokenizer or name)
    except Exception as error:  # whatever the library makes of a configuration that it cannot build
        reason = " ".join(str(error).split())[:200]
        needs = isinstance(error, ImportError) or "transformers" in reason
        mend = "pip install transformers" if needs else "check --arch or the configuration beside the weights"
        if isinstance(error, OSError) and not needs:  # transformers', of a tokenizer or text tower that lies elsewhere
            mend = "put its tokenizer files beside the weights or check the network"
        raise UserError(
            f"{source.weights}: open_clip cannot build {source.architecture} ({type(error).__name__}: {reason}); {mend}"
        ) from error
    finally:
        root.setLevel(level)
    fit(model, state, source.weights, source.architecture)
    # Channels-last convolutions take two thirds of the time on a CPU (measured with the mini ResNet).
    return model.to(device, memory_format=torch.channels_last).eval(), preprocess, tokenizer


def _describe(model_cfg: Mapping[str, Any]) -> str:
    """open_clip's name of an architecture, or a short description where it has none."""
    for path in sorted((Path(open_clip.__file__).parent / "model_configs").glob("*.json")):
        # Only names that open_clip ships: one that this process added means nothing to a reader of the report.
        if json.loads(path.read_text(encoding="utf-8")) == model_cfg:
            return path.stem
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if not {"layers", "width", "image_size"} <= vision.keys() or not {"layers", "width"} <= text.keys():
        return str(vision.get("timm_model_name", "custom"))
    layers = vision["layers"]
    tower = f"ResNet-{'.'.join(map(str, layers))}" if isinstance(layers, list) else f"ViT-{layers}"
    return f"{tower} width {vision['width']} at {vision['image_size']} px, text {text['layers']} x {text['width']}"
