"""Every metric has a page, and it is true: the example runs, the links resolve, head and options are the code's."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from salmubench.evaluation.metric import describe, metrics

DOCS = Path(__file__).parents[1] / "docs"
KEYS = [spec.key for spec in describe()]


def page(key: str) -> str:
    return (DOCS / "metrics" / f"{key}.md").read_text()


@pytest.mark.parametrize("key", KEYS)
def test_the_worked_example_gives_the_numbers_of_the_text(key: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", page(key), re.DOTALL)
    assert metrics[key].compute.__name__ in code
    assert code.splitlines()[-1].startswith("assert ")
    exec(compile(code, f"{key}.md", "exec"), {})


@pytest.mark.parametrize("key", KEYS)
def test_head_and_options_are_those_of_the_code(key: str) -> None:
    spec, text = metrics[key].spec, page(key)
    head = text.splitlines()[2]
    assert text.startswith(f"# {key}: ")
    assert f"Range {spec.limits[0]:.0f} to {spec.limits[1]:.0f}" in head
    assert f"target {spec.target.capitalize()} " in head
    assert f"set {spec.sets[0]} " in head
    options = text.split("## Options")[1]
    assert set(re.findall(rf"\b{key}\.(\w+)=", options)) == {field.name for field in fields(metrics[key].options)}
    for field in fields(metrics[key].options):
        assert f"{key}.{field.name}={field.default}" in options


def test_the_index_names_every_page_and_all_links_resolve() -> None:
    assert sorted(path.stem for path in (DOCS / "metrics").glob("*.md")) == sorted(KEYS)
    index = (DOCS / "metrics.md").read_text()
    for key in KEYS:
        assert f"[{key}](metrics/{key}.md)" in index
    for path in (DOCS / "metrics.md", *(DOCS / "metrics").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
    assert "docs/metrics.md" in (DOCS.parent / "README.md").read_text()
