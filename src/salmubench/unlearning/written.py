"""Texts that a method made up, ready for the model: tokens, and where each shall be in the original's space."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from salmubench.encoders.encoder import Encoder
from salmubench.encoders.texts import encode_ends
from salmubench.progress import Progress
from salmubench.unlearning.author import Text
from salmubench.unlearning.method import TextFeatures

ORIGINAL_BATCH = 512
"""Texts a forward pass of the frozen original."""


@dataclass(frozen=True)
class Written:
    """All texts of a run.

    Attributes:
        tokens: shape (n, context), int64.
        target: L2-normalised, shape (n, d).
        held: shape (n,), bool.
    """

    tokens: Tensor
    target: Tensor
    held: Tensor

    def draw(self, model: nn.Module, count: int, chance: np.random.Generator) -> TextFeatures:
        """The model's features of ``count`` texts, two thirds of them held ones, as far as there are as many."""
        held = self.held.numpy()
        sizes = ((~held, count // 3), (held, count - count // 3))
        places = [chance.permutation(np.flatnonzero(side))[:size] for side, size in sizes]
        rows = torch.from_numpy(np.concatenate(places))
        device = self.target.device
        text = normalize(encode_ends(model, self.tokens[rows].to(device)).float(), dim=-1)
        return TextFeatures(text, self.target[rows.to(device)], self.held[rows].to(device))


@torch.no_grad()
def write_texts(written: Sequence[Text], encoder: Encoder, progress: Progress) -> Written:
    """Tokenises texts and encodes what they shall be like with the original."""
    groups = list(dict.fromkeys(text.like for text in written))
    place = {like: number for number, like in enumerate(groups)}
    like = list(dict.fromkeys(text for group in groups for text in group))
    row = {text: number for number, text in enumerate(like)}
    embeddings = []
    with progress("encoding made-up texts", len(like)) as advance:
        for start in range(0, len(like), ORIGINAL_BATCH):
            tokens = encoder.tokenizer(like[start : start + ORIGINAL_BATCH]).to(encoder.device)
            embeddings.append(normalize(encode_ends(encoder.model, tokens).float(), dim=-1))
            advance(len(tokens))
    original = torch.cat(embeddings)
    means = torch.stack([original[[row[text] for text in group]].mean(dim=0) for group in groups])
    target = normalize(means, dim=-1)[[place[text.like] for text in written]]
    held = torch.tensor([text.held for text in written])
    return Written(encoder.tokenizer([text.text for text in written]), target, held)
