"""The page in a real browser: light and dark, at a desk and on a telephone, without a network."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from browsing import CLIPPED, FAINT, LOOKS, look, theme
from reports_world import HOSTILE, make_world
from salmubench.atomic import read_json, write_json
from salmubench.reports.site import build_site

OVERLAPS = """() => [...document.querySelectorAll("figure svg[role=img]")].flatMap(svg => {
  const boxes = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()])
    .filter(([, box]) => box.width > 0);
  const frame = svg.getBoundingClientRect();
  const outside = boxes.filter(([, b]) => b.left < frame.left - 2 || b.right > frame.right + 2).map(([text]) => text);
  const over = boxes.flatMap(([one, a], i) => boxes.slice(i + 1)
    .filter(([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 &&
                       Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.45 * Math.min(a.height, b.height))
    .map(([other]) => `${one} / ${other}`));
  return [...outside, ...over];
})"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def site(world: tuple[Path, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(world[1], tmp_path_factory.mktemp("site"), data=world[0])


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_page_looks_right(browser: Browser, site: Path, width: int, scheme: str) -> None:
    page, complaints = look(browser, site.as_uri(), width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate(FAINT) == []
    assert page.evaluate(OVERLAPS) == []
    shown = page.evaluate("[...document.querySelectorAll('figure svg[role=img]')].filter(e => e.clientWidth).length")
    assert shown == 9
    assert theme(page) == scheme
    ink = page.evaluate("getComputedStyle(document.body).color")
    label = page.locator("#plane svg[role=img] text", has_text="ideal").locator("visible=true")
    assert label.evaluate("e => getComputedStyle(e).fill") == ink
    assert complaints == []


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_method_page_looks_right(browser: Browser, site: Path, width: int, scheme: str) -> None:
    for name, count in (("delete-2x", 2), ("finetuning-2x", 0)):
        page, complaints = look(browser, (site.parent / "methods" / f"{name}.html").as_uri(), width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(CLIPPED) == []
        assert page.evaluate(FAINT) == []
        assert page.evaluate(OVERLAPS) == []
        assert page.locator("figure svg[role=img]").locator("visible=true").count() == count
        assert page.locator(".leaks li").count() == (6 if count else 0)
        page.get_by_role("link", name="SALMUBench report").click()
        assert page.url.endswith("/index.html")
        assert complaints == []


def test_summary_leads_to_the_page_of_a_method(browser: Browser, site: Path) -> None:
    page, complaints = look(browser, site.as_uri())
    page.locator("#table").get_by_role("link", name="delete\u00a02×", exact=True).click()
    assert page.locator("h1").inner_text() == "delete\u00a02×"
    assert complaints == []


@pytest.mark.parametrize(("words", "file"), [("LaTeX", "table.tex"), ("Markdown", "table.md"), ("CSV", "table.csv")])
@pytest.mark.parametrize("modern", [True, False], ids=["clipboard", "without"])
def test_table_is_copied_as_text(browser: Browser, site: Path, words: str, file: str, modern: bool) -> None:
    page, complaints = look(browser, site.as_uri())
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    if not modern:  # as where a page from disk has no clipboard: the old command copies
        page.evaluate("Object.defineProperty(navigator.clipboard, 'writeText', {value: () => Promise.reject()})")
    page.get_by_role("button", name=f"Copy as {words}").click()
    page.locator(".said", has_text="Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == (site.parent / file).read_text()
    assert page.locator("textarea").locator("visible=true").count() == 0
    assert complaints == []


def test_figure_files_open_by_themselves(browser: Browser, site: Path) -> None:
    for path in sorted((site.parent / "figures").glob("*.svg")):
        page, complaints = look(browser, path.as_uri())
        assert page.evaluate("document.documentElement.tagName") == "svg"
        assert complaints == []


def test_table_sorts_both_ways_and_keeps_the_bounds_on_top(browser: Browser, site: Path) -> None:
    page, complaints = look(browser, site.as_uri())
    numbers = "[...document.querySelectorAll('#table tbody.methods tr')].map(r => Number(r.cells[2].dataset.value))"
    button = page.get_by_role("button", name="AssocStr")
    button.click()
    assert page.evaluate(numbers) == sorted(page.evaluate(numbers))
    assert button.locator("..").get_attribute("aria-sort") == "ascending"
    button.click()
    assert page.evaluate(numbers) == sorted(page.evaluate(numbers), reverse=True)
    page.get_by_role("button", name="Method").focus()
    page.keyboard.press("Enter")
    names = page.locator("#table tbody tr th").all_inner_texts()
    assert [name.split("\n")[0] for name in names[:3]] == ["Clean", "Compromised", "cliperase\u00a02×"]
    assert complaints == []


def test_table_scrolls_inside_its_box_on_a_telephone(browser: Browser, site: Path) -> None:
    page, _ = look(browser, site.as_uri(), 390)
    box = page.locator("#table .scroll")
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")
    box.evaluate("e => e.scrollLeft = e.scrollWidth")
    assert page.locator("#table tbody.methods th").first.bounding_box()["x"] < 40  # type: ignore[index]
    assert page.evaluate("window.scrollX") == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_hostile_report_runs_nothing(
    browser: Browser, world: tuple[Path, list[Path]], tmp_path: Path, width: int
) -> None:
    clean, compromised, method, *_ = world[1]
    base = read_json(method)
    paths = [clean, compromised]
    for place, text in enumerate(HOSTILE):
        paths.append(tmp_path / f"{place}.json")
        write_json(paths[-1], {**base, "name": text, "verdict": {**base["verdict"], "words": text}})
    page, complaints = look(browser, build_site(paths, tmp_path / "site").as_uri(), width)
    assert "owned" not in page.title()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.scripts.length") == 1
    assert complaints == []


def test_the_overlap_check_sees_an_overlap(browser: Browser, site: Path) -> None:
    page, _ = look(browser, site.as_uri())
    page.evaluate("(t => t.after(t.cloneNode(true)))(document.querySelector('#plane svg[role=img] text'))")
    assert len(page.evaluate(OVERLAPS)) == 1
