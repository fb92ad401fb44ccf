"""Checkpoints: load an encoder from a folder, a weights file or the hub; save a model as a folder.

A checkpoint folder holds ``open_clip_config.json`` (``{"model_cfg": ..., "preprocess_cfg": ...}``) and the weights. We
write safetensors only; ``.bin`` and ``.pt`` are read with ``weights_only=True``, so that no file can run code.
"""

import difflib
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import hf_hub_download
from open_clip.pretrained import download_pretrained_from_hf
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from salmubench.atomic import read_json, replacing, sha256_file, write_json
from salmubench.encoders.encoder import PRECISIONS, Encoder
from salmubench.errors import RunError, UserError

CONFIG_FILE = "open_clip_config.json"
RECORD_FILE = "record.json"
"""Lies beside a checkpoint that an unlearning run wrote."""
WEIGHTS_FILE = "open_clip_model.safetensors"
WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pt")
HUB_PREFIX = "hf-hub:"
FOLDER_PREFIX = "local-dir:"


@dataclass(frozen=True)
class _Source:
    name: str
    weights: Path
    model: str  # what open_clip calls the configuration: a built-in name or "local-dir:PATH"
    tokenizer: str


def load_encoder(
    checkpoint: str | Path, *, arch: str | None = None, device: str | None = None, precision: str = "fp32"
) -> Encoder:
    """Loads a checkpoint for encoding.

    Args:
        checkpoint: an open_clip folder, a weights file (.safetensors, .bin, .pt) or ``hf-hub:OWNER/NAME[@REVISION]``.
        arch: open_clip's name of the architecture, e.g. ``ViT-B-16``; needed where no configuration lies beside the
            weights, and then in its place.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; a GPU if there is one by default.
        precision: ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        UserError: no such checkpoint, architecture, device or precision; a file that could run code; weights that do
            not fit the architecture.
    """
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: there is no such precision; choose from {', '.join(PRECISIONS)}")
    if arch is not None and open_clip.get_model_config(arch) is None:
        near = difflib.get_close_matches(arch, open_clip.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see open_clip.list_models()"
        raise UserError(f"--arch {arch}: open_clip knows no such architecture; {hint}")
    target = _device(device)
    source = _locate(str(checkpoint), arch)
    model, preprocess = _build(source, target)
    config = {"model_cfg": open_clip.get_model_config(source.model), "preprocess_cfg": model.visual.preprocess_cfg}
    return Encoder(
        name=source.name,
        architecture=_architecture(source.model, config["model_cfg"]),
        weights_sha256=sha256_file(source.weights),
        config=config,
        precision=precision,
        device=target,
        model=model,
        tokenizer=open_clip.get_tokenizer(source.tokenizer),
        preprocess=preprocess,
    )


def checkpoint_config(folder: str | Path) -> dict[str, Any]:
    """The configuration of a checkpoint folder: ``{"model_cfg": ..., "preprocess_cfg": ...}``.

    Raises:
        UserError: the file is missing or holds no model configuration.
    """
    path = Path(str(folder).removeprefix(FOLDER_PREFIX)) / CONFIG_FILE
    config = read_json(path)
    model = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= model.keys():
        raise UserError(
            f"{path}: no model_cfg with embed_dim, vision_cfg and text_cfg in it; save the checkpoint again"
        )
    return {"model_cfg": model, "preprocess_cfg": config.get("preprocess_cfg") or {}}


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


def _device(device: str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {device}: this machine cannot use it ({reason}); choose cpu or cuda") from error


def _locate(checkpoint: str, arch: str | None) -> _Source:
    if checkpoint.startswith(HUB_PREFIX):
        return _locate_on_hub(checkpoint.removeprefix(HUB_PREFIX), arch)
    path = Path(checkpoint.removeprefix(FOLDER_PREFIX))
    if path.is_dir():
        model = arch or f"{FOLDER_PREFIX}{path}"
        if arch is None:
            checkpoint_config(path)  # says what is wrong with it in one sentence
        return _Source(path.resolve().name, _weights_in(path), model, model)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; give an open_clip folder, a weights file or hf-hub:OWNER/NAME")
    if path.suffix not in WEIGHTS_SUFFIXES:
        raise UserError(
            f"{path}: not one of {', '.join(WEIGHTS_SUFFIXES)}, and other files may run code; save it as .safetensors"
        )
    if arch is None:
        raise UserError(f"{path}: a weights file does not say its architecture; add --arch, e.g. --arch ViT-B-16")
    return _Source(path.stem, path, arch, arch)


def _weights_in(folder: Path) -> Path:
    preferred = [folder / WEIGHTS_FILE, folder / "open_clip_pytorch_model.bin"]
    others = [path for suffix in WEIGHTS_SUFFIXES for path in sorted(folder.glob(f"*{suffix}"))]
    for path in (*preferred, *others):
        if path.is_file():
            return path
    raise UserError(f"{folder}: holds no weights ({', '.join(WEIGHTS_SUFFIXES)}); put {WEIGHTS_FILE} there")


def _locate_on_hub(identifier: str, arch: str | None) -> _Source:
    repository, _, revision = identifier.partition("@")
    try:
        weights = Path(download_pretrained_from_hf(repository, revision=revision or None))
        if arch is not None:
            return _Source(repository, weights, arch, arch)
        config = Path(hf_hub_download(repository, CONFIG_FILE, revision=revision or None))
    except Exception as error:  # the hub client raises two dozen kinds: offline, gated, no such file, bad name
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{HUB_PREFIX}{identifier}: could not be fetched from the hub ({reason}); check the name and the network"
        ) from error
    return _Source(repository, weights, f"{FOLDER_PREFIX}{config.parent}", f"{HUB_PREFIX}{repository}")


def _build(source: _Source, device: torch.device) -> tuple[Any, Callable[[Image.Image], Tensor]]:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # open_clip would warn of random weights, which we replace at once
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(source.model, load_weights=False)
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols
            open_clip.load_checkpoint(model, str(source.weights), weights_only=True)
    except Exception as error:  # safetensors, pickle, zip and state-dict errors have no common class
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{source.weights}: not plain weights of this architecture ({type(error).__name__}: {reason}); "
            "check --arch or save them again as .safetensors"
        ) from error
    finally:
        root.setLevel(level)
    # Channels-last convolutions take two thirds of the time on a CPU (measured with the mini ResNet).
    return model.to(device, memory_format=torch.channels_last).eval(), preprocess


def _architecture(model: str, model_cfg: dict[str, Any]) -> str:
    if not model.startswith(FOLDER_PREFIX):
        return model
    for path in sorted((Path(open_clip.__file__).parent / "model_configs").glob("*.json")):
        # Only names that open_clip ships: one that this process added means nothing to a reader of the report.
        if json.loads(path.read_text(encoding="utf-8")) == model_cfg:
            return path.stem
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if not {"layers", "width", "image_size"} <= vision.keys() or not {"layers", "width"} <= text.keys():
        return "custom"
    layers = vision["layers"]
    tower = f"ResNet-{'.'.join(map(str, layers))}" if isinstance(layers, list) else f"ViT-{layers}"
    return f"{tower} width {vision['width']} at {vision['image_size']} px, text {text['layers']} x {text['width']}"
