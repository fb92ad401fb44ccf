"""Pictures from outside: bounded in bytes, pixels and proportions before anything is decoded; never written to disk."""

import io
from collections.abc import AsyncIterator

from PIL import Image, ImageOps

from salmubench.errors import UserError

FORMATS = ("JPEG", "PNG", "WEBP")
LARGEST_BYTES = 10_000_000
LARGEST_PIXELS = 25_000_000
ENOUGH = 1024
"""Pixels of a side beyond which no model looks; a picture that is not twice as large is decoded as it is."""
LONGEST_SHAPE = 8
"""Longer side over shorter: a model's transform scales by the shorter side, so a thin strip would grow to gigabytes."""


class TooLarge(UserError):
    """The upload has more bytes than we take."""


async def read_bounded(chunks: AsyncIterator[bytes], announced: str | None) -> bytes:
    """The body of a request, held in memory; reading ends at the bound, whatever its length was said to be.

    Raises:
        TooLarge: it is longer than ``LARGEST_BYTES``.
    """
    too_large = TooLarge(f"the file is larger than {LARGEST_BYTES / 1e6:g} MB; choose a smaller one")
    if announced is not None and announced.isdecimal() and int(announced[:20]) > LARGEST_BYTES:
        raise too_large
    content = bytearray()
    async for chunk in chunks:
        if len(content) + len(chunk) > LARGEST_BYTES:
            raise too_large
        content += chunk
    return bytes(content)


def decode_upload(content: bytes) -> Image.Image:
    """An upload as an upright RGB picture.

    Raises:
        UserError: no JPEG, PNG or WebP, too many pixels, too thin, or damaged.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            _require_bounded(*picture.size)
            picture.draft("RGB", (ENOUGH, ENOUGH))  # a large JPEG is decoded at a half or a quarter of its size
            return ImageOps.exif_transpose(picture).convert("RGB")
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(_TOO_MANY) from None
    except Exception:  # whatever a decoder makes of broken bytes: OSError, SyntaxError, struct.error, ...
        raise UserError(f"this is not a whole picture; choose one of {', '.join(FORMATS)}") from None


_TOO_MANY = f"the picture has more than {LARGEST_PIXELS / 1e6:g} million pixels; choose a smaller one"


def _require_bounded(width: int, height: int) -> None:
    if width * height > LARGEST_PIXELS:
        raise UserError(_TOO_MANY)
    if max(width, height) > LONGEST_SHAPE * min(width, height):
        raise UserError(f"the picture is more than {LONGEST_SHAPE} times as long as wide; cut it to the face")
