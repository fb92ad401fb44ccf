"""The figures of a card are drawn, whole pictures and real SVG."""

from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from salmubench.reports.sheets import draw_cards


def test_the_card_figures_are_drawn(world: Path, tmp_path: Path) -> None:
    drawn = draw_cards(world, tmp_path)
    assert [path.stem for path in drawn] == ["pipeline", "persona", "splits", "people", "retained"]
    for path in drawn:
        picture = Image.open(path)
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 50
        assert ElementTree.parse(path.with_suffix(".svg")).getroot().tag.endswith("svg")
