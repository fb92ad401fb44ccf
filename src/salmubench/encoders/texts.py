"""Captions without their padding: most of a context of 77 tokens lies behind a caption's end and changes nothing.

A causal text tower looks from the end token backwards, so that what comes behind it cannot reach the embedding. A
caption is cut to the next multiple of ``STEP`` tokens: a length of its own, whatever captions stand around it.
"""

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.func import functional_call

STEP = 8


class _TextTower(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        embeddings: Tensor = self.model.encode_text(tokens)  # type: ignore[operator]
        return embeddings


def without_padding(model: nn.Module, tokens: Tensor) -> Sequence[Tensor]:
    """Each text's tokens, (n, context), cut behind its end token where the text tower is CLIP's causal one."""
    # The exact class: towers of other models see padding, or read their embedding elsewhere.
    if type(model) is not open_clip.CLIP or model.attn_mask is None or model.text_pool_type != "argmax":
        return list(tokens)
    ends = tokens.argmax(dim=1).tolist()  # the end token has the largest number
    return [row[: -(-(end + 1) // STEP) * STEP] for row, end in zip(tokens, ends, strict=True)]


def encode_text(model: nn.Module, tokens: Tensor) -> Tensor:
    """The model's own ``encode_text`` for texts of any length up to its context, (b, length): (b, d)."""
    length = tokens.shape[1]
    place = getattr(model, "positional_embedding", None)
    tower = _TextTower(model)
    if not isinstance(place, Tensor) or length == len(place):
        return tower(tokens)  # type: ignore[no-any-return]
    shorter = {"model.positional_embedding": place[:length], "model.attn_mask": model.attn_mask[:length, :length]}  # type: ignore[index]
    return functional_call(tower, shorter, (tokens,))  # type: ignore[no-any-return]


def encode_ends(model: Any, tokens: Tensor) -> Tensor:
    """``encode_text`` up to rounding, (b, context) to (b, d), quicker for training on many texts.

    CLIP's text tower is read at the end token alone, so its last block is computed there alone: keys meet the one query
    and values are projected after they are pooled. Of a tower of one block that is nearly everything. Other towers are
    run as they are.
    """
    if not _is_read_at_end(model):
        return encode_text(model, tokens)
    ends = tokens.argmax(dim=1)
    tokens = tokens[:, : int(ends.max()) + 1]
    length, rows = tokens.shape[1], torch.arange(len(tokens), device=tokens.device)
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    *blocks, last = model.transformer.resblocks
    for block in blocks:
        x = block(x, attn_mask=model.attn_mask[:length, :length])
    attention = last.attn
    heads, width = attention.num_heads, x.shape[-1]
    query, key, value = attention.in_proj_weight.view(3, heads, width // heads, width)
    query_bias, _, value_bias = attention.in_proj_bias.view(3, heads, width // heads)  # softmax drops the keys' bias
    h = last.ln_1(x)
    asked = torch.einsum("bd,hkd->bhk", h[rows, ends], query) + query_bias
    scores = torch.einsum("bhk,hkd->bhd", asked, key) @ h.transpose(1, 2) / (width // heads) ** 0.5
    behind = torch.arange(length, device=tokens.device) > ends[:, None]
    pooled = scores.masked_fill(behind[:, None], float("-inf")).softmax(dim=-1) @ h
    values = torch.einsum("bhd,hkd->bhk", pooled, value) + value_bias
    x = x[rows, ends] + last.ls_1(attention.out_proj(values.flatten(1)))
    x = model.ln_final(x + last.ls_2(last.mlp(last.ln_2(x))))
    projection = model.text_projection
    embeddings: Tensor = projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return embeddings


def _is_read_at_end(model: Any) -> bool:
    if type(model) is not open_clip.CLIP or model.attn_mask is None or model.text_pool_type != "argmax":
        return False
    last = model.transformer.resblocks[-1]
    return type(last) is ResidualAttentionBlock and model.text_projection is not None
