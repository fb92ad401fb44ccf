"""A Hugging Face CLIP folder in open_clip's terms: configuration, tokenizer, tensors by open_clip's names."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from open_clip import SimpleTokenizer
from torch import Tensor

from salmubench.atomic import read_json
from salmubench.errors import UserError

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"

_TOWERS = {"text_model": "", "vision_model": "visual."}
_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_OTHERS = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # transformers spells it so
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
_PROJECTIONS = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_BLOCK = re.compile(r"(text_model|vision_model)\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_TOWER_DEFAULTS = (
    (
        "text_config",
        {
            "vocab_size": 49408,
            "eos_token_id": 49407,
            "max_position_embeddings": 77,
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
    ),
    (
        "vision_config",
        {
            "image_size": 224,
            "patch_size": 32,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
    ),
)
"""The defaults of transformers: its files leave out what does not differ from them."""
_RESAMPLE = {2: "bilinear", 3: "bicubic"}
_FIRST_EOS = 2
"""What early configurations wrote for eos_token_id; transformers then pools at the highest token, as open_clip does."""


def to_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a Hugging Face CLIP by open_clip's names; any other state dict comes back as it is.

    A block's three projections q, k, v become one; open_clip keeps the output projections transposed.
    """
    if "vision_model.embeddings.patch_embedding.weight" not in state:
        return dict(state)
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        block = _BLOCK.fullmatch(name)
        if name in _PROJECTIONS:
            named[_PROJECTIONS[name]] = tensor.T.contiguous()
        elif block is None:
            named[_OTHERS.get(name, name)] = tensor
        elif block[3] == "self_attn.q_proj":
            parts = [state.get(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
            key = f"{_TOWERS[block[1]]}transformer.resblocks.{block[2]}.attn.in_proj_{block[4]}"
            named[key] = torch.cat([part for part in parts if part is not None])
        elif block[3] not in ("self_attn.k_proj", "self_attn.v_proj"):
            inner = _LAYER.get(block[3], block[3])
            named[f"{_TOWERS[block[1]]}transformer.resblocks.{block[2]}.{inner}.{block[4]}"] = tensor
    return named


def read_config(folder: Path) -> dict[str, Any]:
    """``{"model_cfg": ..., "preprocess_cfg": ...}`` from ``config.json`` and ``preprocessor_config.json``.

    Raises:
        UserError: not a CLIP, or one that open_clip cannot build or whose tokenizer is not CLIP's.
    """
    path = folder / CONFIG_FILE
    config = read_json(path)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clip":
        raise UserError(
            f"{path}: its model_type is {kind!r}, and of Hugging Face models only `clip` can be read; "
            "export the model in open_clip's format"
        )
    text, vision = (_tower(path, config, *defaults) for defaults in _TOWER_DEFAULTS)
    activations = {tower["hidden_act"] for tower in (text, vision)}
    if activations not in ({"quick_gelu"}, {"gelu"}):
        raise UserError(
            f"{path}: its hidden_act is {' and '.join(sorted(map(str, activations)))}, where open_clip has "
            "quick_gelu or gelu for both towers; export the model in open_clip's format"
        )
    _require_clip_tokenizer(folder, text["vocab_size"])
    end = text["eos_token_id"]
    at_the_highest = end in (_FIRST_EOS, text["vocab_size"] - 1)
    model = {
        "embed_dim": config.get("projection_dim", 512),
        "quick_gelu": activations == {"quick_gelu"},
        "vision_cfg": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            **_shared(vision),
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "heads": text["num_attention_heads"],
            **_shared(text),
            **({} if at_the_highest else {"pool_type": "eos", "eos_id": end}),
        },
    }
    return {"model_cfg": model, "preprocess_cfg": _preprocessing(folder, vision["image_size"])}


def _tower(path: Path, config: Mapping[str, Any], key: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    given = config.get(key) or {}
    if not isinstance(given, dict):
        raise UserError(f"{path}: its {key} must be a JSON object; download or save it again")
    tower = {**defaults, **given}
    for name, default in defaults.items():
        if isinstance(default, int) and not (isinstance(tower[name], int) and tower[name] > 0):
            raise UserError(f"{path}: {name} in its {key} must be a positive integer, not {tower[name]!r}; mend it")
    return tower


def _shared(tower: Mapping[str, Any]) -> dict[str, Any]:
    """What both towers of open_clip have; its defaults are left out, so that a known architecture is known."""
    ratio = tower["intermediate_size"] / tower["hidden_size"]
    return {
        "width": tower["hidden_size"],
        "layers": tower["num_hidden_layers"],
        **({} if ratio == 4 else {"mlp_ratio": ratio}),
        **({} if tower["layer_norm_eps"] == 1e-5 else {"norm_kwargs": {"eps": tower["layer_norm_eps"]}}),
    }


def _preprocessing(folder: Path, image_size: int) -> dict[str, Any]:
    """open_clip's spelling of the preprocessor: resize, crop to the model's size, normalise."""
    path = folder / PREPROCESSOR_FILE
    if not path.exists():
        return {}
    given = read_json(path)
    size, crop = given.get("size", image_size), given.get("do_center_crop", True)
    edges = set(size.values()) if isinstance(size, dict) else {size}
    resample = given.get("resample", 3)
    if edges != {image_size} or resample not in _RESAMPLE:
        raise UserError(
            f"{path}: open_clip resizes to the model's {image_size} px, bicubic or bilinear, not to {size} "
            f"with resample {resample}; export the model in open_clip's format"
        )
    found = {
        "mean": given.get("image_mean"),
        "std": given.get("image_std"),
        "interpolation": _RESAMPLE[resample],
        "resize_mode": "shortest" if crop else "squash",
    }
    return {key: value for key, value in found.items() if value is not None}


@cache
def _clip_tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


def _require_clip_tokenizer(folder: Path, vocabulary: int) -> None:
    """open_clip's own tokenizer stands in for the folder's: they must give every token the same number."""
    ours = _clip_tokenizer()
    theirs: Any = None
    for name in ("tokenizer.json", "vocab.json"):
        if theirs is None and (folder / name).exists():
            content = read_json(folder / name)
            theirs = content.get("model", {}).get("vocab") if name == "tokenizer.json" else content
    same = vocabulary == ours.vocab_size
    if isinstance(theirs, dict):
        plain = {token: number for token, number in ours.encoder.items() if number not in ours.all_special_ids}
        same = all(theirs.get(token) == number for token, number in plain.items())
    if not same:
        raise UserError(
            f"{folder}: its tokenizer is not CLIP's, the only one that can be read from a Hugging Face folder; "
            "export the model in open_clip's format"
        )
