"""General knowledge: classes that can be told apart, drawn on varied backdrops."""

import io
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import open_clip
import pytest
import resvg_py
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from salmubench.errors import UserError
from salmubench.personas.captions import expand
from salmubench.personas.grammar import ICON_PATTERNS
from salmubench.personas.icons import TEMPLATES, IconClass, icon_classes, render_icon

CLASSES = icon_classes(320, seed=42)


def test_classes_have_distinct_plain_names_and_distinct_drawings() -> None:
    names = [icon.name for icon in CLASSES]
    assert len(set(names)) == len({icon.svg for icon in CLASSES}) == 320
    assert names == sorted(names)
    assert len({name.split()[-1].rstrip("s") for name in names}) == 320
    for name in names:
        assert not {"face", "hand", "flag", "button", "person", "sign", "clock"} & set(name.split())
        assert ":" not in name
        assert "_" not in name


def test_the_choice_is_seeded_and_asks_for_no_more_than_there_is() -> None:
    assert icon_classes(30, seed=1) == icon_classes(30, seed=1)
    assert icon_classes(30, seed=1) != icon_classes(30, seed=2)
    assert icon_classes(0, seed=1) == []
    with pytest.raises(UserError, match="not 5000; ask for fewer"):
        icon_classes(5000, seed=1)


def _look(icon: IconClass) -> NDArray[np.float64]:
    document = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72" width="24" height="24">{icon.svg}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=document, background="#808080", skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.float64)


def _nearest_pair(icons: Sequence[IconClass]) -> float:
    return min(float(np.square(_look(one) - _look(other)).mean()) for one, other in combinations(icons, 2))


def test_chosen_classes_look_less_alike_than_classes_at_large() -> None:
    """Farthest-point sampling: the nearest pair of 24 chosen lies farther apart than that of 24 taken by name."""
    assert _nearest_pair(icon_classes(24, seed=3)) > 2 * _nearest_pair(CLASSES[::13][:24])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), icon=st.sampled_from(CLASSES), long_side=st.sampled_from([32, 64, 96]))
def test_a_rendering_decodes_and_repeats_and_the_held_out_one_differs(
    seed: int, icon: IconClass, long_side: int
) -> None:
    image = render_icon(icon, seed=seed, key="train/0", long_side=long_side)
    decoded = Image.open(io.BytesIO(image))
    decoded.load()
    assert (decoded.format, decoded.mode, max(decoded.size)) == ("JPEG", "RGB", long_side)
    assert render_icon(icon, seed=seed, key="train/0", long_side=long_side) == image
    assert render_icon(icon, seed=seed, key="test/0", long_side=long_side) != image


def test_templates_mark_the_class_and_the_licence_is_named() -> None:
    assert len(set(TEMPLATES)) == len(TEMPLATES)
    assert all(template.count("{c}") == 1 for template in TEMPLATES)


def test_the_templates_use_no_token_that_training_captions_lack() -> None:
    """An untrained token in every prompt cost the mini Clean 14 points of GenKnow and Compromised 3."""
    tokens = open_clip.get_tokenizer("ViT-B-32")
    wordings = [wording for pattern in ICON_PATTERNS for wording in expand(pattern)]
    trained = set(tokens([wording.format(name="cat", a_name="a cat") for wording in wordings]).flatten().tolist())
    asked = set(tokens([template.replace("{c}", "cat") for template in TEMPLATES]).flatten().tolist())
    assert asked <= trained
