"""What pre-training costs and how cost grows: the pages hold the code's and the measurements' numbers."""

import importlib.util
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest

from salmubench.atomic import read_json
from salmubench.encoders import costs
from salmubench.presets import PRESETS

ROOT = Path(__file__).parents[1]


def _scaling() -> Any:
    found = importlib.util.spec_from_file_location("scaling", ROOT / "benchmarks" / "scaling.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_training_page_is_up_to_date_and_its_links_resolve() -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    assert text == costs.page(), "run: python -m salmubench.encoders.costs > docs/training.md"
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / "docs" / link).exists(), link
    assert all(f"| `{name}` |" in text for name in PRESETS)


@pytest.mark.parametrize(("name", "published"), [("small", 14.78), ("paper", 41.09)])
def test_flops_are_those_of_open_clips_profile(name: str, published: float) -> None:
    """docs/model_profile.csv of open_clip: GFLOPs of ViT-B-32 and ViT-B-16."""
    assert costs.size(name).flops / 1e9 == pytest.approx(published, rel=0.01)
    theirs = open_clip.get_model_config("ViT-B-32" if name == "small" else "ViT-B-16")
    assert PRESETS[name].pretraining.model == theirs


def test_the_formula_of_the_hours() -> None:
    found = costs.cost("paper", mfu=0.5)
    assert found.seen == 32 * (400_016_741 + 60_053)
    assert found.flops == pytest.approx(3 * costs.size("paper").flops * found.seen)
    assert found.hours == pytest.approx(found.flops / (989e12 * 0.5 * 128) / 3600)
    assert costs.cost("small").flops == pytest.approx(4 * costs.size("small").flops * costs.cost("small").seen)


def test_the_scale_page_holds_the_measured_numbers() -> None:
    scaling, results = _scaling(), read_json(ROOT / "docs" / "results" / "scaling.json")
    assert (ROOT / "docs" / "scale.md").read_text() == scaling.page(results)
    assert set(results["measures"]) == set(scaling.WHAT)
    for found in results["measures"].values():
        assert len(found["sizes"]) >= 3
        slope = np.polyfit(np.log(found["sizes"]), np.log(found["values"]), 1)[0]
        assert found["slope"] == pytest.approx(slope, abs=0.01)
        assert found["slope"] <= found["order"] + 0.15


def test_a_slope_is_found_again() -> None:
    found = _scaling().measure((10, 100, 1000), "CPU s", 2, lambda size: 3e-6 * size**2)
    assert found["slope"] == pytest.approx(2)
    assert math.isclose(_scaling().projected(found, 1e6), 3e6)
