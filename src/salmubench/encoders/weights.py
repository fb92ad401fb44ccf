"""Weights files: read as plain tensors, never as code, and fitted into a model or refused with the reason."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from salmubench.dataset.hub import refuse_pointer
from salmubench.encoders.huggingface import to_open_clip
from salmubench.errors import UserError

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_NESTS = ("state_dict", "model_state_dict", "model")
"""Where a training checkpoint keeps its model; open_clip_train's has the first."""
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")
"""What DistributedDataParallel and torch.compile put before every name."""
_NO_TENSORS_OF_A_MODEL = ("input_resolution", "context_length", "vocab_size")
"""OpenAI's files keep these three numbers among the weights."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by open_clip's names: a bare state dict, or the one in a training checkpoint.

    Raises:
        UserError: the file is damaged, is a git-lfs pointer, holds anything but tensors, or a tensor is not finite.
    """
    refuse_pointer(path)
    content = _load(path)
    for key in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path}: holds no state dict; save the model's state_dict() as .safetensors")
    state: dict[str, Tensor] = {}
    for name, tensor in content.items():
        if name in _NO_TENSORS_OF_A_MODEL:
            continue
        if not isinstance(tensor, Tensor):
            raise UserError(f"{path}: {name!r} is no tensor; save the model's state_dict() alone as .safetensors")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"{path}: the tensor {name} holds NaN or infinite values; train or export the model again")
        state[_WRAPPERS.sub("", name)] = tensor
    return to_open_clip(state)


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{path}: not a whole safetensors file ({_reason(error)}); download or save it again"
            ) from error
    if not path.stat().st_size:
        raise UserError(f"{path}: is empty; download or save it again")
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip, OS and unpickler errors have no common class
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        unread = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
        what = f"it asks to run {foreign[1]}" if foreign else unread[1] if unread else _reason(error)
        raise UserError(f"{path}: not plain weights ({what}); save them again as .safetensors") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def fit(model: nn.Module, state: dict[str, Tensor], path: Path, architecture: str) -> None:
    """Loads the tensors into ``model``, all of them and no other.

    Nothing is resized on the way: open_clip would interpolate position embeddings of another picture size, and the
    report would speak of a model that nobody has trained.

    Raises:
        UserError: a tensor is missing, left over or of another shape; the message names one.
    """
    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    wanted = model.state_dict()
    state = {name: tensor for name, tensor in state.items() if name in wanted or not name.endswith("position_ids")}
    for name in ("logit_scale", "logit_bias"):  # a number, or a vector of one
        if name in state and name in wanted and state[name].numel() == wanted[name].numel():
            state[name] = state[name].reshape(wanted[name].shape)
    misfit = _misfit(wanted, state)
    if misfit is not None:
        like = nearest_architecture(state)
        advice = f"; it looks like {like}" if like else ""
        raise UserError(f"{path}: not weights of {architecture}: {misfit}{advice}; check --arch")
    model.load_state_dict(state)


def _misfit(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    for name, tensor in wanted.items():
        if name in state and state[name].shape != tensor.shape:
            return f"the tensor {name} has the shape {list(state[name].shape)}, not {list(tensor.shape)}"
    missing = next((name for name in wanted if name not in state), None)
    if missing is not None:
        return f"the tensor {missing} is missing"
    left = next((name for name in state if name not in wanted), None)
    return None if left is None else f"it has no tensor {left}"


def nearest_architecture(state: Mapping[str, Tensor]) -> str | None:
    """The name of open_clip's architecture whose main sizes a state dict has, or None; for towers of open_clip's own.

    Weights do not tell the activation: of two names that differ in nothing else the shorter is given.
    """
    text = "text." if "text.positional_embedding" in state else ""
    try:
        found = {
            "embed_dim": state["visual.proj"].shape[1],
            "width": state["visual.conv1.weight"].shape[0],
            "patch_size": state["visual.conv1.weight"].shape[-1],
            "layers": _layers(state, "visual.transformer.resblocks."),
            "positions": state["visual.positional_embedding"].shape[0],
            "text_width": state[f"{text}positional_embedding"].shape[1],
            "text_layers": _layers(state, f"{text}transformer.resblocks."),
        }
    except (KeyError, IndexError):
        return None
    if any(name.startswith("text_decoder.") for name in state):  # CoCa's third tower
        return None
    names = [name for name in open_clip.list_models() if _sizes(open_clip.get_model_config(name)) == found]
    return min(names, key=len, default=None)


def _layers(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def _sizes(config: dict[str, Any]) -> dict[str, int] | None:
    vision, text = config["vision_cfg"], config["text_cfg"]
    if not {"width", "patch_size", "layers", "image_size"} <= vision.keys() or not {"width", "layers"} <= text.keys():
        return None
    try:
        positions = (vision["image_size"] // vision["patch_size"]) ** 2 + 1
    except TypeError:  # not square
        return None
    return {
        "embed_dim": config["embed_dim"],
        "width": vision["width"],
        "patch_size": vision["patch_size"],
        "layers": vision["layers"],
        "positions": positions,
        "text_width": text["width"],
        "text_layers": text["layers"],
    }
