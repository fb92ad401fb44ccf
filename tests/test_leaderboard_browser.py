"""The leaderboard in a real browser: light and dark, at a desk and on a telephone, without a network, under attack."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from browsing import CLIPPED, FAINT, LOOKS, look, theme
from leaderboard_world import some_entries, some_reports
from reports_world import HOSTILE
from salmubench.atomic import read_json
from salmubench.reports.leaderboard.site import build
from test_leaderboard import FORMULAS, MARKDOWN, hostile


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine untuned entries, one tuned, the bounds and the paper's rows."""
    folder = tmp_path_factory.mktemp("board")
    entries = some_entries(folder / "entries", some_reports(folder / "reports"))
    content = read_json(entries / "delete-2x.json")
    content["settings"] = {"learning_rate": 1e-3}
    content["report"]["provenance"]["unlearning"]["learning_rate"] = 1e-3
    (entries / "tuned.json").write_text(json.dumps(content))
    return build(entries, folder / "site")[0]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_pages_look_right(browser: Browser, site: Path, width: int, scheme: str) -> None:
    for path in (site, next(site.parent.glob("entries/delete-2x-*.html"))):
        page, complaints = look(browser, path.as_uri(), width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(CLIPPED) == []
        assert page.evaluate(FAINT) == []
        assert theme(page) == scheme
        assert complaints == []


def test_filters_and_sorting_work_together(browser: Browser, site: Path) -> None:
    page, complaints = look(browser, site.as_uri())
    rows = "[...document.querySelectorAll('tbody.methods tr')].filter(row => row.offsetParent)"
    names, values = f"{rows}.map(row => row.cells[0].dataset.value)", f"{rows}.map(row => +row.cells[4].dataset.value)"
    count = page.locator(".filters output")
    assert count.inner_text() == "17 rows"
    page.get_by_label("Track").select_option("published")
    assert count.inner_text() == "7 rows"
    assert "VLUnlearn" in page.evaluate(names)
    page.get_by_label("Track").select_option("standard")
    page.get_by_label("Verdict").select_option("ineffective")
    assert set(page.evaluate(names)) == {"finetuning", "generic-captions", "descent-to-delete"}
    page.get_by_label("Settings").select_option("tuned")
    assert (page.evaluate(names), count.inner_text()) == ([], "0 rows")
    page.get_by_label("Verdict").select_option("")
    assert (page.evaluate(names), count.inner_text()) == (["delete"], "1 row")
    page.get_by_label("Settings").select_option("untuned")
    page.get_by_role("button", name="AssocStr").click()
    assert len(page.evaluate(values)) == 9
    assert page.evaluate(values) == sorted(page.evaluate(values))
    page.get_by_label("Checked").select_option("verified")
    assert page.evaluate(names) == []
    assert complaints == []


@pytest.mark.parametrize("width", [1280, 390])
def test_hostile_entries_run_nothing(browser: Browser, tmp_path: Path, width: int) -> None:
    entries = some_entries(tmp_path / "entries", some_reports(tmp_path / "reports"))
    base = json.dumps(read_json(entries / "delete-2x.json"))
    for place, text in enumerate((*HOSTILE, *FORMULAS, *MARKDOWN)):
        content = json.loads(base)
        hostile(text)(content)
        (entries / f"{place}.json").write_text(json.dumps(content))
    index, _ = build(entries, tmp_path / "site")
    page, complaints = look(browser, index.as_uri(), width)
    for path in (index, *sorted(index.parent.glob("entries/[0-9]*.html"))):
        page.goto(path.as_uri())
        assert page.title() == "SALMUBench leaderboard" or page.title().startswith("Entry: ")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("document.scripts.length") == (2 if path == index else 0)
    assert complaints == []
