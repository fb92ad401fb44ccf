"""Pictures decoded once and captions tokenised once; each step only gathers and normalises."""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import Normalize, ToTensor

from salmubench.dataset.pictures import decode_picture
from salmubench.encoders.encoder import Encoder
from salmubench.jobs import cores
from salmubench.progress import Advance
from salmubench.unlearning.data import ForgetRetain, Pair, Rows

DECODE_CHUNK = 256
"""Encoded pictures held at a time while decoding."""


@dataclass(frozen=True)
class PixelTransform:
    """A model's evaluation preprocessing, cut where pixels become floats.

    Attributes:
        resize: an RGB picture to one of the model's input size (deterministic; no augmentation).
        mean: of each channel, shape (3,).
        std: of each channel, shape (3,).
    """

    resize: Callable[[Image.Image], Image.Image]
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, preprocess: Any) -> "PixelTransform":
        """Splits ``Encoder.preprocess``, open_clip's ``Compose([resize, crop, ..., to tensor, normalise])``."""
        steps = list(preprocess.transforms)
        cut = next(number for number, step in enumerate(steps) if isinstance(step, ToTensor))
        normalize = next(step for step in steps[cut:] if isinstance(step, Normalize))

        def resize(picture: Image.Image) -> Image.Image:
            for step in steps[:cut]:
                picture = step(picture)
            return picture

        return cls(resize, torch.as_tensor(normalize.mean).float(), torch.as_tensor(normalize.std).float())

    def pixels(self, pair: Pair) -> NDArray[np.uint8]:
        """A pair's picture at the model's input size, shape (h, w, 3)."""
        return np.asarray(self.resize(decode_picture(pair.image, pair.where)), dtype=np.uint8)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 pixels, shape (b, h, w, 3), to the model's input, shape (b, 3, h, w), float32."""
        mean, std = (value.to(pixels.device)[:, None, None] for value in (self.mean, self.std))
        return (pixels.permute(0, 3, 1, 2).float().div_(255) - mean) / std


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
    data: ForgetRetain, name: str, rows: Rows, encoder: Encoder, *, scratch: Path, advance: Advance
) -> Pairs:
    """Reads, decodes and tokenises pairs of one set.

    Args:
        data: the guarded data.
        name: forget or retain.
        rows: which pairs, ascending and distinct, shape (n,).
        encoder: whose preprocessing and tokenizer to use.
        scratch: folder for the pixels' unlinked file.
        advance: told how many pairs are done.

    Raises:
        UserError: a picture cannot be decoded; the message names file and row.
    """
    transform = PixelTransform.of(encoder.preprocess)
    pixels: NDArray[np.uint8] | None = None
    names: list[str] = []
    texts: list[str] = []
    with ThreadPoolExecutor(max_workers=min(16, cores())) as pool:
        for chunk in _chunks(data.read(name, rows)):
            decoded = np.stack(list(pool.map(transform.pixels, chunk)))
            if pixels is None:
                pixels = _scratch_array(scratch, (len(rows), *decoded.shape[1:]))
            pixels[len(names) : len(names) + len(chunk)] = decoded
            names += [pair.file_name for pair in chunk]
            texts += [pair.text for pair in chunk]
            advance(len(chunk))
    if pixels is None:
        raise ValueError(f"no rows of {name} were asked for")
    return Pairs(rows, tuple(names), tuple(texts), pixels, encoder.tokenizer(texts), transform)


def _chunks(pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
    while chunk := list(islice(pairs, DECODE_CHUNK)):
        yield chunk


def _scratch_array(folder: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    with tempfile.TemporaryFile(dir=folder) as file:  # unlinked: gone with the process, however that ends
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
