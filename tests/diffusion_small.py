"""A tiny Stable Diffusion with IP-Adapter-FaceID Plus, of diffusers' and transformers' own classes, random weights.

Saved to disk as a user's models are; the adapter's file has the keys of ``ip-adapter-faceid-plusv2_sd15.bin``.
"""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

WIDTH = 64
"""Of the cross-attention; the adapter's resampler has heads of 64."""
IDENTITY, CLIP_WIDTH, RANK, TOKENS = 16, 16, 2, 4


def save_models(root: Path, identity: int = IDENTITY) -> dict[str, str]:
    """Writes base, adapter and image encoder; returns the options that name them."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=8, norm_num_groups=8, cross_attention_dim=WIDTH,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    StableDiffusionPipeline(
        unet=unet,
        vae=AutoencoderKL(
            block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=300
            )
        ),
        tokenizer=_tokenizer(root),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        requires_safety_checker=False,
    ).save_pretrained(root / "base")  # fmt: skip
    CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=CLIP_WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32,
            patch_size=8, projection_dim=8,
        )
    ).save_pretrained(root / "image_encoder")  # fmt: skip
    (root / "adapter").mkdir()
    torch.save(
        {"image_proj": _projection(identity), "ip_adapter": _attention(unet)}, root / "adapter" / "plusv2_tiny.bin"
    )
    return {
        "base": str(root / "base"),
        "adapter": str(root / "adapter"),
        "adapter_file": "plusv2_tiny.bin",
        "image_encoder": str(root / "image_encoder"),
    }


def _tokenizer(root: Path) -> CLIPTokenizer:
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (root / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (root / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(root / "vocab.json"), str(root / "merges.txt"), model_max_length=77)


def _projection(identity: int) -> dict[str, Tensor]:
    shapes = {
        "proj.0.weight": (2 * identity, identity), "proj.0.bias": (2 * identity,),
        "proj.2.weight": (TOKENS * WIDTH, 2 * identity), "proj.2.bias": (TOKENS * WIDTH,),
        "norm.weight": (WIDTH,), "norm.bias": (WIDTH,),
    }  # fmt: skip
    resampler = {
        "proj_in.weight": (WIDTH, CLIP_WIDTH), "proj_in.bias": (WIDTH,), "proj_out.weight": (WIDTH, WIDTH),
        "proj_out.bias": (WIDTH,), "norm_out.weight": (WIDTH,), "norm_out.bias": (WIDTH,),
    }  # fmt: skip
    for layer in range(4):
        attention, forward = f"layers.{layer}.0", f"layers.{layer}.1"
        resampler |= {f"{attention}.norm{n}.{part}": (WIDTH,) for n in (1, 2) for part in ("weight", "bias")}
        resampler |= {f"{attention}.to_q.weight": (64, WIDTH), f"{attention}.to_kv.weight": (128, WIDTH)}
        resampler |= {f"{attention}.to_out.weight": (WIDTH, 64)}
        resampler |= {f"{forward}.0.weight": (WIDTH,), f"{forward}.0.bias": (WIDTH,)}
        resampler |= {f"{forward}.1.weight": (4 * WIDTH, WIDTH), f"{forward}.3.weight": (WIDTH, 4 * WIDTH)}
    shapes |= {f"perceiver_resampler.{name}": shape for name, shape in resampler.items()}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def _attention(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """LoRA for each attention and the adapter's own keys and values for those that look at the prompt."""
    weights = {}
    modules = dict(unet.named_modules())
    for number, name in enumerate(unet.attn_processors):
        attention = modules[name.removesuffix(".processor")]
        layers = {"q": attention.to_q, "k": attention.to_k, "v": attention.to_v, "out": attention.to_out[0]}
        for part, layer in layers.items():
            weights[f"{number}.to_{part}_lora.down.weight"] = 0.1 * torch.randn(RANK, layer.in_features)
            weights[f"{number}.to_{part}_lora.up.weight"] = 0.1 * torch.randn(layer.out_features, RANK)
        if name.endswith("attn2.processor"):
            for part in ("k", "v"):
                weights[f"{number}.to_{part}_ip.weight"] = torch.randn(attention.to_k.out_features, WIDTH)
    return weights
