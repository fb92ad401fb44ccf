"""The cheap markup of an avatar shows what python_avatars' own markup shows."""

import io
import re

import numpy as np
import pytest
import resvg_py
from PIL import Image

from salmubench.personas import portraits
from salmubench.personas.anchors import make_anchors
from salmubench.personas.markup import cheap


def drawn(svg: str) -> np.ndarray:
    document = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 264 280" width="264" height="280"><rect width="264" height="280" fill="#888"/>{svg}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=document, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_cheap_markup_shows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    people = make_anchors(24, seed=1, purpose="set")
    looks = [portraits.render_portrait(person, seed=1, picture=1, long_side=64)._look for person in people]
    monkeypatch.setattr(portraits, "cheap", lambda svg: svg)
    original = [portraits._drawing(person, look) for person, look in zip(people, looks, strict=True)]
    assert sum(svg.count("<mask") for svg in original) > 60
    for svg in original:
        lean = cheap(svg)
        assert lean.count("mask=") <= 1
        difference = np.abs(drawn(re.sub(r' filter="[^"]*"', "", svg)) - drawn(lean)).max(axis=2)
        assert (difference > 24).mean() < 0.002
