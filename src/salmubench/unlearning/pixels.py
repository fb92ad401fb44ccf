"""Pictures decoded once: as uint8 at the model's input size, and kept for the next run on them.

Decoding and resizing cost far more than all else that a step does with a picture. What is kept is found by the
picture's content and the model's preprocessing, so runs of other methods, seeds, budgets and learning rates share it,
and it is what live decoding gives, bit for bit.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import Normalize, ToTensor

from salmubench.dataset.pictures import decode_picture
from salmubench.encoders.cache import Cache, Shelf, cache_folder, content_key
from salmubench.encoders.encoder import Encoder, decoders
from salmubench.unlearning.data import SETS, Pair

FORMAT = 1
PACKAGES = ("torchvision", "open_clip_torch", "pillow", "numpy")
"""Another version of these may decode or resize otherwise."""
DEFAULT_GIGABYTES = 10.0
"""One pass over the official forget set with as many retain pairs, at 224 px, is 9 GB."""


class PixelCache(Cache):
    """Decoded pictures on disk.

    Args:
        folder: by default ``cache_folder()``.
        gigabytes: what they may take.
    """

    def __init__(self, folder: Path | None = None, *, gigabytes: float = DEFAULT_GIGABYTES) -> None:
        super().__init__((cache_folder() if folder is None else folder) / "pixels", gigabytes)


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

    @property
    def shape(self) -> tuple[int, ...]:
        """(h, w, 3) of what ``pixels`` gives."""
        return np.asarray(self.resize(Image.new("RGB", (8, 8)))).shape

    def pixels(self, pair: Pair) -> NDArray[np.uint8]:
        """A pair's picture at the model's input size, shape (h, w, 3)."""
        return np.asarray(self.resize(decode_picture(pair.image, pair.where)), dtype=np.uint8)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 pixels, shape (b, h, w, 3), to the model's input, shape (b, 3, h, w), float32."""
        mean, std = (value.to(pixels.device)[:, None, None] for value in (self.mean, self.std))
        return (pixels.permute(0, 3, 1, 2).float().div_(255) - mean) / std


@contextmanager
def decoding(
    encoder: Encoder, transform: PixelTransform, cache: PixelCache | None
) -> Iterator[Callable[[list[Pair]], NDArray[np.uint8]]]:
    """Yields a function from n pairs to their pixels, shape (n, h, w, 3); what is in the cache is not decoded.

    Raises:
        UserError: a picture cannot be decoded; the message names file and row.
    """
    with ThreadPoolExecutor(decoders(None)) as pool:
        if cache is None:
            yield lambda pairs: np.stack(list(pool.map(transform.pixels, pairs)))
            return
        with cache.open(_shelf_name(encoder), np.dtype(("u1", transform.shape))) as shelf:
            # A run that needs more than the cache holds would push out its own beginning, and find nothing next time.
            room = cache.bytes // len(SETS) // shelf.layout.itemsize
            yield _Cached(pool.map, transform, shelf, room)


class _Cached:
    """Pixels from a shelf, which gets the first ``room`` of those that it lacks."""

    def __init__(
        self, spread: Callable[..., Iterable[Any]], transform: PixelTransform, shelf: Shelf, room: int
    ) -> None:
        self.spread, self.transform, self.shelf, self.room = spread, transform, shelf, room

    def __call__(self, pairs: list[Pair]) -> NDArray[np.uint8]:
        found = np.empty((len(pairs), *self.transform.shape), np.uint8)
        keys = list(self.spread(content_key, [pair.image for pair in pairs]))
        kept = [self.shelf.get(key) for key in keys]
        lacking = [place for place, pixels in enumerate(kept) if pixels is None]
        decoded = iter(self.spread(self.transform.pixels, [pairs[place] for place in lacking]))
        for place, pixels in enumerate(kept):
            found[place] = next(decoded) if pixels is None else pixels
        new = lacking[: max(0, self.room - len(pairs) + len(lacking))]
        self.room -= len(pairs) - len(lacking) + len(new)
        self.shelf.put([keys[place] for place in new], found[new])
        return found


def _shelf_name(encoder: Encoder) -> str:
    """A hash over all that pixels depend on but the picture."""
    versions = [version(package) for package in PACKAGES]
    facts = {"format": FORMAT, "preprocessing": encoder.config["preprocess_cfg"], "versions": versions}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]
