"""The data set's pictures as a page shows them: decoded, turned upright, cut to a frame and no larger than drawn."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from salmubench.dataset.store import Benchmark, PairSet
from salmubench.errors import UserError

PIXELS = 2.2
"""Pixels a point: enough for a sharp screen and a printed page."""
_LARGEST = 40_000_000


def portrait(benchmark: Benchmark, index: int, width: float, height: float) -> NDArray[np.uint8]:
    """A picture cut to fill a frame of so many points, shape (h, w, 3).

    Args:
        index: running number of the picture in the benchmark's store.

    Raises:
        UserError: the picture does not decode or is too large to be one.
    """
    try:
        with Image.open(io.BytesIO(benchmark.pictures.read(index))) as image:
            if image.width * image.height > _LARGEST:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{benchmark.root}, {benchmark.pictures.describe(index)}: not a picture that can be shown ({error}); "
            "mend or drop the row"
        ) from None
    shrink = min(1.0, PIXELS * width / upright.width, PIXELS * height / upright.height)
    size = (max(1, round(width * PIXELS)), max(1, round(height * PIXELS)))
    if shrink == 1.0:  # a small picture stays small: the page scales it
        ratio = min(upright.width / size[0], upright.height / size[1])
        size = (max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio)))
    return np.asarray(ImageOps.fit(upright, size, Image.Resampling.LANCZOS, centering=(0.5, 0.4)))


def rows_of(pairs: PairSet, identity: str) -> Sequence[int]:
    """The rows of a set that show one person, in the order of their file names."""
    rows = [row for row, who in enumerate(pairs.identity_id) if who == identity]
    return sorted(rows, key=lambda row: pairs.file_name[row])
