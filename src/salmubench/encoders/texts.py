"""Captions without their padding: most of a context of 77 tokens lies behind a caption's end and changes nothing.

A causal text tower looks from the end token backwards, so that what comes behind it cannot reach the embedding. A
caption is cut to the next multiple of ``STEP`` tokens: a length of its own, whatever captions stand around it.
"""

from collections.abc import Sequence

import open_clip
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
