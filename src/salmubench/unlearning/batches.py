"""Pictures decoded once and captions tokenised once; each step only gathers and normalises."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salmubench.encoders.encoder import Encoder, batched
from salmubench.progress import Advance
from salmubench.unlearning.data import ForgetRetain, Rows
from salmubench.unlearning.pixels import PixelCache, PixelTransform, decoding

DECODE_CHUNK = 256
"""Encoded pictures held at a time while decoding."""


@dataclass(frozen=True)
class Pairs:
    """A set's pairs that a run needs, ready for the model.

    Attributes:
        rows: their numbers in the set, shape (n,), ascending.
        file_name: the pictures' names.
        text: the captions.
        pixels: shape (n, h, w, 3), uint8, a memory map on an unlinked file: memory does not grow with n.
        tokens: the captions, shape (n, context), int64.
        transform: from pixels to the model's input.
    """

    rows: Rows
    file_name: tuple[str, ...]
    text: tuple[str, ...]
    pixels: NDArray[np.uint8]
    tokens: Tensor
    transform: PixelTransform

    def positions(self, rows: Rows) -> Rows:
        """Where ``rows`` of the set lie in the arrays."""
        return np.searchsorted(self.rows, rows)

    def pictures(self, positions: Rows, device: torch.device) -> Tensor:
        """The model's picture input at ``positions``, shape (b, 3, h, w)."""
        return self.transform.normalise(torch.from_numpy(self.pixels[positions]).to(device))


def load_pairs(
    data: ForgetRetain,
    name: str,
    rows: Rows,
    encoder: Encoder,
    *,
    scratch: Path,
    cache: PixelCache | None,
    advance: Advance,
) -> Pairs:
    """Reads, decodes and tokenises pairs of one set.

    Args:
        data: the guarded data.
        name: forget or retain.
        rows: which pairs, ascending and distinct, shape (n,).
        encoder: whose preprocessing and tokenizer to use.
        scratch: folder for the pixels' unlinked file.
        cache: of pixels, if any.
        advance: told how many pairs are done.

    Raises:
        UserError: a picture cannot be decoded; the message names file and row.
    """
    transform = PixelTransform.of(encoder.preprocess)
    pixels = _scratch_array(scratch, (len(rows), *transform.shape))
    names: list[str] = []
    texts: list[str] = []
    with decoding(encoder, transform, cache) as decoded:
        for chunk in batched(data.read(name, rows), DECODE_CHUNK):
            pixels[len(names) : len(names) + len(chunk)] = decoded(chunk)
            names += [pair.file_name for pair in chunk]
            texts += [pair.text for pair in chunk]
            advance(len(chunk))
    return Pairs(rows, tuple(names), tuple(texts), pixels, encoder.tokenizer(texts), transform)


def _scratch_array(folder: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    with tempfile.TemporaryFile(dir=folder) as file:  # unlinked: gone with the process, however that ends
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
