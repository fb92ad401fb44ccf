"""What stands around a subject in a picture: the frame's shape, the backdrop, the light, the JPEG.

Portraits and icons share this file. A picture is drawn as one SVG (backdrop, then subject), rasterised by resvg, lit by
a lookup table and encoded; each step is a function of its arguments, so the same draw gives the same bytes.
"""

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import resvg_py
from PIL import Image

COLORS: dict[str, tuple[str, ...]] = {
    "red": ("#d9483b", "#e4675c", "#b83227"),
    "orange": ("#ee8a2e", "#f3a557", "#dd7113"),
    "yellow": ("#f3d13c", "#f7e07a", "#e2bb12"),
    "green": ("#4fa35a", "#7cc285", "#2f7d3c"),
    "turquoise": ("#35b0a5", "#6dcbc2", "#1f8a81"),
    "blue": ("#3f7fd0", "#6fa3e2", "#2a5fa8"),
    "purple": ("#8657b8", "#a885cf", "#673c97"),
    "pink": ("#ea80ae", "#f3a9c8", "#da5c92"),
    "brown": ("#8f6544", "#ad8464", "#704b2e"),
    "grey": ("#8f969c", "#b3b9be", "#6c7379"),
    "black": ("#23272b", "#33393f", "#15181b"),
    "white": ("#f6f6f3", "#ffffff", "#ebebe6"),
}
"""Plain colour names with the shades that a backdrop may have of them."""

RATIO_SHARES: dict[float, float] = {1.00: 0.31, 1.33: 0.095, 1.50: 0.07, 1.78: 0.04, 0.75: 0.035, 0.67: 0.03}
"""Published shares of the aspect ratios w/h (benchmark.md section 2); the rest is a long tail."""
RATIO_LIMITS = (0.33, 3.0)
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Frame:
    """A picture's size in pixels; ``short`` is the side of the square that a centre crop keeps."""

    width: int
    height: int

    @property
    def short(self) -> int:
        return min(self.width, self.height)

    @property
    def ratio(self) -> float:
        return self.width / self.height


def draw_frame(rng: np.random.Generator, long_side: int) -> Frame:
    """A frame whose aspect ratio follows the published spread, with the tail log-triangular between the limits."""
    ratios, shares = np.array(list(RATIO_SHARES)), np.cumsum(list(RATIO_SHARES.values()))
    place = int(np.searchsorted(shares, rng.random(), side="right"))
    low, high = RATIO_LIMITS
    tail = math.exp(rng.triangular(math.log(low), 0.0, math.log(high)))
    ratio = float(ratios[place]) if place < len(ratios) else tail
    if ratio >= 1:
        return Frame(long_side, max(round(long_side / ratio), math.ceil(long_side / high)))
    return Frame(max(round(long_side * ratio), math.ceil(long_side * low)), long_side)


@dataclass(frozen=True)
class Backdrop:
    """An SVG fragment that fills the frame, and the plain words for it ("a red background with white dots")."""

    svg: str
    phrase: str


def _rows(frame: Frame, base: str, other: str, step: float, angle: float, stroke: str, shift: float = 0.0) -> str:
    """Parallel strokes ``step`` apart over the whole frame, every other one moved by ``shift``.

    Strokes, where an SVG pattern would be plainer: resvg takes ten times as long for a pattern.
    """
    reach = math.ceil(math.hypot(frame.width, frame.height) / 2 / step) + 1
    lines = "".join(
        f"M{-reach * step + shift * (row % 2):.2f},{row * step:.2f}H{reach * step:.2f}"
        for row in range(-reach, reach + 1)
    )
    turned = f"translate({frame.width / 2:.1f} {frame.height / 2:.1f}) rotate({angle:.1f})"
    return (
        f'<rect width="100%" height="100%" fill="{base}"/><path d="{lines}" transform="{turned}" fill="none" '
        f'stroke="{other}" {stroke}/>'
    )


def _plain(rng: np.random.Generator, frame: Frame, base: str, other: str) -> str:
    return f'<rect width="100%" height="100%" fill="{base}"/>'


def _fading(rng: np.random.Generator, frame: Frame, base: str, other: str) -> str:
    angle = rng.uniform(0, 360)
    return (
        f'<defs><linearGradient id="fade" gradientTransform="rotate({angle:.1f} 0.5 0.5)"><stop offset="0.1" '
        f'stop-color="{base}"/><stop offset="0.9" stop-color="{other}"/></linearGradient></defs>'
        '<rect width="100%" height="100%" fill="url(#fade)"/>'
    )


def _striped(rng: np.random.Generator, frame: Frame, base: str, other: str) -> str:
    size = frame.short * rng.uniform(0.14, 0.34)
    return _rows(frame, base, other, size, rng.uniform(0, 180), f'stroke-width="{size / 2:.2f}"')


def _dotted(rng: np.random.Generator, frame: Frame, base: str, other: str) -> str:
    size = frame.short * rng.uniform(0.12, 0.3)
    angle, across = rng.uniform(0, 90), 2 * size * rng.uniform(0.18, 0.32)
    dots = f'stroke-width="{across:.2f}" stroke-linecap="round" stroke-dasharray="0 {size:.2f}"'
    return _rows(frame, base, other, size, angle, dots)


def _checked(rng: np.random.Generator, frame: Frame, base: str, other: str) -> str:
    half = frame.short * rng.uniform(0.16, 0.4) / 2
    squares = f'stroke-width="{half:.2f}" stroke-dasharray="{half:.2f}"'
    return _rows(frame, base, other, half, rng.uniform(0, 90), squares, shift=half)


def _blotched(rng: np.random.Generator, frame: Frame, base: str, other: str) -> str:
    parts = [_plain(rng, frame, base, other)]
    for _ in range(int(rng.integers(7, 13))):
        x, y = rng.uniform(0, frame.width), rng.uniform(0, frame.height)
        across, down = frame.short * rng.uniform(0.08, 0.28, 2)
        parts.append(f'<ellipse cx="{x:.1f}" cy="{y:.1f}" rx="{across:.1f}" ry="{down:.1f}" fill="{other}"/>')
    return "".join(parts)


def _ringed(rng: np.random.Generator, frame: Frame, base: str, other: str) -> str:
    x, y = frame.width * rng.uniform(0, 1), frame.height * rng.uniform(0, 1)
    step = frame.short * rng.uniform(0.12, 0.25)
    count = math.ceil(math.hypot(frame.width, frame.height) / step)
    rings = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{step * (k + 0.5):.1f}"/>' for k in range(count))
    return (
        _plain(rng, frame, base, other) + f'<g fill="none" stroke="{other}" stroke-width="{step / 2:.2f}">{rings}</g>'
    )


Draw = Callable[[np.random.Generator, Frame, str, str], str]
_BACKDROPS: tuple[tuple[str, Draw, float], ...] = (
    ("a plain {base} background", _plain, 0.28),
    ("a background fading from {base} to {other}", _fading, 0.22),
    ("a background with {base} and {other} stripes", _striped, 0.13),
    ("a {base} background with {other} dots", _dotted, 0.12),
    ("a {base} and {other} checked background", _checked, 0.08),
    ("a {base} background with {other} blotches", _blotched, 0.1),
    ("a {base} background with {other} rings", _ringed, 0.07),
)


def with_articles(phrase: str) -> str:
    """Says "an" where "a" stands before a vowel: "an orange background"."""
    return re.sub(r"\ba (?=[aeio])", "an ", phrase)


def draw_backdrop(rng: np.random.Generator, frame: Frame) -> Backdrop:
    """A backdrop of one of seven kinds in one or two differently named colours."""
    kind = int(rng.choice(len(_BACKDROPS), p=[share for _, _, share in _BACKDROPS]))
    phrase, draw, _ = _BACKDROPS[kind]
    base, other = (str(name) for name in rng.choice(list(COLORS), size=2, replace=False))
    shades = (str(rng.choice(COLORS[base])), str(rng.choice(COLORS[other])))
    return Backdrop(draw(rng, frame, *shades), with_articles(phrase.format(base=base, other=other)))


def draw_light(rng: np.random.Generator) -> list[int]:
    """A lookup table for three channels (768 entries): brightness, contrast and colour cast, each mild."""
    brightness = 1 + rng.uniform(-0.14, 0.09)
    contrast = 1 + rng.uniform(-0.16, 0.1)
    cast = 1 + rng.uniform(-0.04, 0.04, 3)
    levels = np.arange(256)[None, :] * brightness * cast[:, None]
    table: list[int] = np.clip(np.rint((levels - 128) * contrast + 128), 0, 255).astype(int).ravel().tolist()
    return table


def rasterise(svg: str, frame: Frame) -> Image.Image:
    """SVG markup in a frame's own pixels to an RGB picture."""
    document = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{frame.width}" height="{frame.height}">{svg}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=document, skip_system_fonts=True)
    return Image.open(io.BytesIO(png)).convert("RGB")


def develop(svg: str, frame: Frame, light: list[int]) -> bytes:
    """Rasterises, lights and encodes a picture as JPEG."""
    stream = io.BytesIO()
    rasterise(svg, frame).point(light).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()
