"""Makes golden.json with the real transformers: run `python tests/data/huggingface_clip/make.py` where it is installed.

golden.json was made with transformers 5.24.0 and torch 2.14.1.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
TOWER = {"num_hidden_layers": 2, "num_attention_heads": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "quick_gelu": {
        "projection_dim": 6,
        "text_config": {**TOWER, "hidden_size": 8, "intermediate_size": 32, "max_position_embeddings": 16},
        "vision_config": {**TOWER, "hidden_size": 16, "intermediate_size": 64, "image_size": 32, "patch_size": 8},
    },
    "gelu": {
        "projection_dim": 6,
        "text_config": {
            **TOWER, "hidden_size": 8, "intermediate_size": 24, "max_position_embeddings": 16, "hidden_act": "gelu",
            "eos_token_id": 400, "layer_norm_eps": 1e-3,
        },
        "vision_config": {
            **TOWER, "hidden_size": 16, "intermediate_size": 24, "image_size": 32, "patch_size": 8,
            "hidden_act": "gelu", "num_attention_heads": 4, "layer_norm_eps": 1e-3,
        },
    },
    "first_eos": {
        "projection_dim": 6,
        "text_config": {
            **TOWER, "hidden_size": 8, "intermediate_size": 32, "max_position_embeddings": 16, "eos_token_id": 2,
        },
        "vision_config": {**TOWER, "hidden_size": 16, "intermediate_size": 64, "image_size": 32, "patch_size": 8},
    },
}  # fmt: skip
TOKENS = [[49406, 320, 400, 539, 320, 2368, 49407, *[0] * 9], [49406, 2, 400, 7, 49407, *[0] * 11]]
"""Two captions; 400 and 2 stand in both places where an end of text may be looked for."""


def tensor(name: str, shape: list[int]) -> torch.Tensor:
    """A tensor that its name determines, so that golden.json need not hold the weights."""
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.3, shape)
    return torch.from_numpy(values.astype(np.float32))


def pixels() -> torch.Tensor:
    """Two pictures as a model takes them, (2, 3, 32, 32)."""
    return tensor("pixels", [2, 3, 32, 32])


def save(folder: Path, config: dict[str, Any], shapes: dict[str, list[int]]) -> None:
    """A folder as `CLIPModel.save_pretrained` leaves it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    state = {name: tensor(name, shape) for name, shape in shapes.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def golden(variant: str, folder: Path) -> dict[str, Any]:
    """Builds, fills and saves a CLIPModel; its configuration, the shapes of its tensors, and its embeddings."""
    from transformers import CLIPConfig, CLIPModel

    model = CLIPModel(CLIPConfig(**VARIANTS[variant])).eval()
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict({name: tensor(name, shape) for name, shape in shapes.items()})
    model.save_pretrained(folder)
    tokens = torch.tensor(TOKENS)
    with torch.no_grad():
        output = model(input_ids=tokens, pixel_values=pixels(), attention_mask=(tokens != 0).long())
    return {
        "config": json.loads((folder / "config.json").read_text()),
        "shapes": shapes,
        "image": output.image_embeds.tolist(),
        "text": output.text_embeds.tolist(),
    }


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as made:
        content = {variant: golden(variant, Path(made) / variant) for variant in VARIANTS}
    (HERE / "golden.json").write_text(json.dumps(content) + "\n")
