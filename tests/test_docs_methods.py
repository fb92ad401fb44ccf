"""The methods' page and list are the code's: formula, source and options of each, variants under their method."""

import re
from pathlib import Path

import pytest

from commands import salmubench
from salmubench.unlearning import page
from salmubench.unlearning.method import methods

ROOT = Path(__file__).parents[1]


def test_the_page_is_up_to_date_and_its_links_resolve() -> None:
    text = (ROOT / "docs" / "methods.md").read_text()
    assert text == page.page(), "run: python -m salmubench.unlearning.page > docs/methods.md"
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / "docs" / link).exists(), link
    assert "docs/methods.md" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", list(methods))
def test_each_method_has_its_paper_formula_and_options(name: str) -> None:
    entry = methods[name]
    assert re.search(r"arXiv \d{4}\.\d{5}", entry.citation)
    (section,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", page.page(), re.DOTALL | re.MULTILINE)
    assert f"Source: {entry.citation}" in section
    assert re.search(r"Minimises|Steps along|<-", section)
    for option, text in entry.option_help().items():
        assert f"| `{option}` | {text.split(': ', 1)[0]} |" in section


def test_the_command_line_lists_variants_under_their_method() -> None:
    shown = salmubench("methods", COLUMNS="260")
    found = re.findall(r"^│ (└ )?([a-z-]+) +│", shown.stdout, re.MULTILINE)
    assert [name for _, name in found] == list(methods)
    for before, (mark, name) in zip([("", ""), *found], found, strict=False):
        assert bool(mark) == (methods[name].variant_of is not None)
        assert not mark or methods[name].variant_of in (before[1], methods[before[1]].variant_of)
