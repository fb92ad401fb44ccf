"""The data set's pictures as a page shows them: decoded, turned upright, cut to a frame and as large as drawn."""

import io
import math
import re
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
    size = (round(width * PIXELS), round(height * PIXELS))
    return np.asarray(ImageOps.fit(upright, size, Image.Resampling.BICUBIC, centering=(0.5, 0.4)))


def squarest(pairs: PairSet, rows: Sequence[int]) -> int:
    """The row whose picture is nearest to a square by its file name, so that little is cut away."""

    def away(row: int) -> float:
        ratio = re.search(r"_ar-(\d+\.\d+)", pairs.file_name[row])
        return abs(math.log(max(float(ratio[1]), 0.01))) if ratio else 9.0

    return min(rows, key=away)


def rows_of(pairs: PairSet, identity: str) -> Sequence[int]:
    """The rows of a set that show one person, in the order of their file names."""
    rows = [row for row, who in enumerate(pairs.identity_id) if who == identity]
    return sorted(rows, key=lambda row: pairs.file_name[row])
