"""mkdocs hook: TeX formulas become SVG in the page, drawn by matplotlib: no script or font is fetched for them."""

import html
import re
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath

SIZE = 15.0
"""Pixels of a letter in running text."""
SPELT = {r"\lVert": r"\|", r"\rVert": r"\|", r"\tfrac12": r"\frac{1}{2}"}
"""What matplotlib's TeX lacks, in words that it has."""
_CODE_OR_FORMULA = re.compile(
    r"```.*?```|`[^`\n]*`|\$\$(?P<display>.+?)\$\$|\$(?P<inline>[^$\s](?:[^$\n]*[^$\s])?)\$", re.DOTALL
)
_LETTERS = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C"}


def svg(tex: str, *, display: bool = False) -> str:
    """A formula as an SVG element that takes the text's colour and stands on its line.

    Raises:
        ValueError: matplotlib cannot read the formula.
    """
    spelt = " ".join(tex.split())
    for lacking, known in SPELT.items():
        spelt = spelt.replace(lacking, known)
    if display:
        spelt = spelt.replace(r"\frac", r"\dfrac")
    size = SIZE * (1.15 if display else 1)
    font = FontProperties(family="DejaVu Sans", math_fontfamily="dejavuserif", size=size)
    width, height, depth, *_ = MathTextParser("path").parse(f"${spelt}$", dpi=72, prop=font)
    outline = TextPath((0, 0), f"${spelt}$", size=size, prop=font)
    steps = []
    for points, code in outline.iter_segments(curves=True, simplify=False):
        if code == Outline.CLOSEPOLY:
            steps.append("Z")
        else:
            steps.append(_LETTERS[code] + " ".join(f"{value:.2f}" for value in points * ([1, -1] * (len(points) // 2))))
    style = "" if display else f' style="vertical-align: {-depth:.2f}px"'
    kind, box = "formula display" if display else "formula", height + 1
    return (
        f'<svg class="{kind}" role="img" aria-label="{html.escape(tex.strip())}"{style} width="{width:.2f}" '
        f'height="{box:.2f}" viewBox="0 {depth - box:.2f} {width:.2f} {box:.2f}">'
        f'<path d="{"".join(steps)}"/></svg>'
    )


def on_page_markdown(markdown: str, **event: Any) -> str:
    """Draws the formulas of a page; code stays as it is."""

    def draw(found: re.Match[str]) -> str:
        if found["display"]:
            return f'\n\n<div class="formulas">{svg(found["display"], display=True)}</div>\n\n'
        return svg(found["inline"]) if found["inline"] else found[0]

    return _CODE_OR_FORMULA.sub(draw, markdown)
