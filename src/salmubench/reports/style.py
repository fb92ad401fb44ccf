"""The one style of every figure: a colour-blind-safe palette in two themes, type sizes, and how a figure becomes bytes.

A figure is drawn once in the light palette. Inside the page each of its colours becomes a CSS variable, so that one SVG
suits a light and a dark screen; the files for a paper keep the light palette. Text stays text in the SVG.
"""

import base64
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from matplotlib.textpath import TextToPath
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from PIL import Image

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#5b6570",
    "line": "#d4dae1",
    "wash": "#f2f5f8",
    "clean": "#0072b2",
    "compromised": "#d55e00",
    "forgets": "#009e73",
    "ineffective": "#e69f00",
    "over": "#cc79a7",
}
"""Okabe and Ito's colours on white, with greys. Lower-case hex, each different: they are found again in the SVG."""

DARK = {
    "paper": "#14181d",
    "ink": "#e8ecf0",
    "muted": "#9ba7b3",
    "line": "#343c45",
    "wash": "#1d232a",
    "clean": "#56b4e9",
    "compromised": "#f5874a",
    "forgets": "#2fc79c",
    "ineffective": "#f0b429",
    "over": "#e09cc3",
}
"""The same hues, lifted for a dark screen."""

PAPER, INK, MUTED, LINE, WASH = (LIGHT[name] for name in ("paper", "ink", "muted", "line", "wash"))
CLEAN, COMPROMISED = LIGHT["clean"], LIGHT["compromised"]
VERDICTS: dict[str, tuple[str, str]] = {
    "forgets": (LIGHT["forgets"], "o"),
    "ineffective": (LIGHT["ineffective"], "^"),
    "catastrophic": (INK, "X"),
    "over-generalised": (LIGHT["over"], "D"),
}
"""Colour and marker of each verdict: told apart by shape as well."""
UNJUDGED = (MUTED, "s")

WIDE, NARROW = 760.0, 344.0
"""Width in points for a page or a slide, and for a telephone."""

MARGIN = 14.0
"""White in points around a figure in a file; the page cuts it off."""

FONTS = "Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"

_SETTINGS: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a name that holds dollar signs is a name, not a formula
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": PAPER,
    "lines.linewidth": 1.6,
    "patch.linewidth": 0.8,
    "image.composite_image": False,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Figure:
    """A figure for the page, for a paper and for a talk.

    Attributes:
        name: stem of its files and its anchor in the page.
        title: what it shows, as a heading.
        alt: the same for who cannot see it.
        caption: how to read it.
        draw: draws it at a width in points (``WIDE`` or ``NARROW``).
    """

    name: str
    title: str
    alt: str
    caption: str
    draw: Callable[[float], Canvas]


@dataclass(frozen=True)
class Omission:
    """A figure that this run cannot give, and why, as one sentence."""

    name: str
    title: str
    reason: str


@contextmanager
def style(salt: str) -> Iterator[None]:
    """Sets matplotlib up for one figure; ``salt`` makes its element ids its own, and the same each time."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # whatever the user's own matplotlibrc says
        matplotlib.rcParams.update(_SETTINGS | {"svg.hashsalt": salt})
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def sheet(width: float, height: float) -> tuple[Canvas, Axes]:
    """An empty drawing whose units are points, from the top left corner."""
    figure = Canvas(figsize=(width / 72, height / 72))
    return figure, overlay(figure)


def overlay(figure: Canvas) -> Axes:
    """A sheet over the whole of a figure: units are points from its top left corner."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, figure.get_figwidth() * 72)
    axes.set_ylim(figure.get_figheight() * 72, 0)
    axes.axis("off")
    return axes


def box(
    axes: Axes, x: float, y: float, width: float, height: float, *, radius: float = 6, **look: Any
) -> FancyBboxPatch:
    """A rectangle with round corners on a sheet; (x, y) is its top left corner."""
    look = {"facecolor": WASH, "edgecolor": "none"} | look
    patch = FancyBboxPatch((x, y), width, height, boxstyle=f"round,pad=0,rounding_size={radius}", **look)
    axes.add_patch(patch)
    return patch


def picture(axes: Axes, pixels: NDArray[Any], x: float, y: float, width: float, height: float) -> None:
    """A picture on a sheet, cut to fill the frame (x, y, width, height), with round corners."""
    limits = axes.get_xlim(), axes.get_ylim()
    rows, columns = pixels.shape[:2]
    scale = max(width / columns, height / rows)
    left, top = x - (columns * scale - width) / 2, y - (rows * scale - height) / 2
    frame = box(axes, x, y, width, height, facecolor="none", edgecolor=LINE, zorder=1.5)
    extent = (left, left + columns * scale, top + rows * scale, top)
    axes.imshow(pixels, extent=extent, interpolation="none", aspect="auto", clip_path=frame, zorder=1.4)
    axes.set(xlim=limits[0], ylim=limits[1])  # which imshow has moved


@lru_cache(maxsize=8192)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of a line in points, with the 2 % that hinting on a screen may add."""
    width, _, _ = TextToPath().get_text_width_height_descent(
        text, FontProperties(family="DejaVu Sans", size=size, weight=weight), ismath=False
    )
    return 1.02 * float(width)


def wrap(text: str, width: float, size: float, *, weight: str = "normal", lines: int = 4) -> list[str]:
    """Breaks a text into at most so many lines of at most ``width`` points; an ellipsis marks what is cut."""
    done: list[str] = []
    line = ""
    for word in _pieces(text, width, size, weight):
        longer = f"{line} {word}".strip()
        if line and text_width(longer, size, weight) > width:
            done.append(line)
            line = word
        else:
            line = longer
    done.append(line)
    if len(done) > lines:
        last = done[lines - 1]
        while last and text_width(last + "…", size, weight) > width:
            last = last[:-1]
        done = [*done[: lines - 1], last + "…"]
    return done


def _pieces(text: str, width: float, size: float, weight: str) -> Iterator[str]:
    for word in text.split():
        while text_width(word, size, weight) > width and len(word) > 1:
            cut = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or text_width(word[:n], size, weight) <= width)
            yield word[:cut]
            word = word[cut:]
        yield word


def fit(text: str, width: float, size: float, *, smallest: float = 7.5) -> tuple[str, float]:
    """A line and the type size at which it fits; where even the smallest does not, its middle becomes an ellipsis."""
    size = max(smallest, min(size, size * width / max(1.0, text_width(text, size))))
    kept = len(text)
    line = text
    while text_width(line, size) > width + 0.5 and kept > 4:
        kept -= 1
        line = f"{text[: kept - 3]}…{text[-3:]}"
    return line, size


def say(axes: Axes, x: float, y: float, text: str, *, size: float = 9.5, width: float | None = None, lines: int = 4,
        leading: float = 1.35, weight: str = "normal", **look: Any) -> float:  # fmt: skip
    """Writes a text on a sheet, its top at ``y``, wrapped to ``width``. Returns where the next line goes."""
    rows = wrap(text, width, size, weight=weight, lines=lines) if width else [text]
    for row in rows:
        axes.text(x, y + size * 0.95, row, fontsize=size, fontweight=weight, va="baseline", **look)
        y += size * leading
    return y


def to_png(figure: Canvas, *, dpi: int = 200) -> bytes:
    """The figure as PNG in the light palette, without dates or versions: the same figure gives the same bytes."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=dpi, bbox_inches=_with_margin(figure), metadata={"Software": None})
    return stream.getvalue()


def _with_margin(figure: Canvas) -> Bbox:
    width, height = figure.get_size_inches()
    return Bbox.from_extents(-MARGIN / 72, -MARGIN / 72, width + MARGIN / 72, height + MARGIN / 72)


def to_svg(figure: Canvas, *, alt: str, title: str) -> str:
    """The figure as an SVG file with real text and a title and description for screen readers."""
    stream = io.StringIO()
    FigureCanvasSVG(figure)
    metadata = {"Date": None, "Creator": None, "Title": title, "Description": alt}
    figure.savefig(stream, format="svg", bbox_inches=_with_margin(figure), metadata=metadata)
    svg = re.sub(r"'DejaVu Sans'(?=[;\"])", FONTS, stream.getvalue())
    svg = svg.replace(' style="image-rendering:crisp-edges;image-rendering:pixelated"', "")
    return re.sub(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)", _as_jpeg, svg)


def _as_jpeg(match: re.Match[str]) -> str:
    """A photograph inside an SVG as JPEG, a fifth of matplotlib's PNG."""
    stream = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(match[1]))) as image:
        image.convert("RGB").save(stream, "JPEG", quality=88, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def inline(svg: str, alt: str) -> str:
    """An SVG file's picture for inside an HTML page: sized by the page, its colours and font by the page's theme.

    Only tags are touched, never the text between them; of matplotlib's ids those stay that something refers to.
    """
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    names = {colour: name for name, colour in LIGHT.items()}
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))

    def themed(match: re.Match[str]) -> str:
        return f"{match[1]}: var(--{names[match[2]]})" if match[2] in names else match[0]

    def adapt(tag: re.Match[str]) -> str:
        text = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", tag[0])
        return re.sub(r"(fill|stroke): (#[0-9a-f]{6})", themed, text).replace(FONTS, "var(--font)")

    opening, rest = re.sub(r"<[^<>]+>", adapt, body).split(">", 1)
    opening = re.sub(r' (?:width|height)="[^"]*"', "", opening)
    opening = re.sub(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', _without_margin, opening)
    return f'{opening} role="img" aria-label="{_attribute(alt)}">{rest}'


def _without_margin(match: re.Match[str]) -> str:
    width, height = float(match[1]) - 2 * MARGIN, float(match[2]) - 2 * MARGIN
    return f'viewBox="{MARGIN:g} {MARGIN:g} {width:g} {height:g}"'


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
