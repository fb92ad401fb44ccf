"""The docs site: it builds without a warning, every link leads somewhere, and nothing is loaded from elsewhere."""

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser

from browsing import look

ROOT = Path(__file__).parents[1]
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""Elements by which a page loads something, beside the links that a reader follows."""


class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in LOADED and LOADED[tag] in found and found.get("rel") not in ("canonical", "alternate"):
            self.loaded.append(found[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stdout + built.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / "hooks" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_link_leads_to_a_page_and_a_place_on_it(site: Path, pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links are the server's root's
            continue
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            if not (there.is_file() and there.is_relative_to(site)):
                broken.append(f"{path.relative_to(site)}: {link}")
            elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].anchors:
                broken.append(f"{path.relative_to(site)}: no place {link}")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    assert [link for page in pages.values() for link in page.loaded if urlsplit(link).netloc] == []
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import\s)[\"']?(?:https?:)?//[^)]*", sheet.read_text(encoding="utf-8"))


def test_the_search_works_from_disk(browser: Browser, site: Path) -> None:
    page, complaints = look(browser, (site / "metrics" / "RetFail.html").as_uri())
    page.get_by_role("textbox", name="Search").fill("relearning")
    found = page.locator(".md-search-result__item a[href*='attack.html']").first
    found.wait_for()
    found.click()
    page.wait_for_url("**/attack.html*")
    assert complaints == []


def test_the_reference_names_what_the_code_has(site: Path) -> None:
    from salmubench import __all__ as public
    from salmubench.cli import app
    from salmubench.evaluation.metric import describe

    cli = (site / "reference" / "cli.html").read_text()
    for command in app.registered_commands:
        verb = command.name or command.callback.__name__  # type: ignore[union-attr]
        assert f'id="salmubench-{verb}"' in cli
    python = (site / "reference" / "python.html").read_text()
    assert all(f'id="{name}"' in python for name in public)
    listed = (site / "reference" / "metrics.html").read_text()
    assert all(f'href="../metrics/{spec.key}.html"' in listed for spec in describe())
    assert (
        "InterIdSim"
        in (site / "source" / "src" / "salmubench" / "evaluation" / "metrics" / "interidsim.py.html").read_text()
    )


def test_formulas_are_drawn_and_code_is_left_alone(site: Path) -> None:
    page = (site / "metrics" / "RetFail.html").read_text()
    assert page.count('class="formula display"') >= 1
    assert "$$" not in page
    draw = hook("formulas").on_page_markdown
    assert draw("`$x$` and\n```\n$y$\n```\n it costs $5 and $ 6") == "`$x$` and\n```\n$y$\n```\n it costs $5 and $ 6"
    drawn = draw(r"so $\frac{a}{b} < c$ holds")
    assert re.fullmatch(r'so <svg [^>]*aria-label="[^"]*&lt; c"[^>]*><path d="M[-MLQCZ\d. ]+"/></svg> holds', drawn)
    with pytest.raises(ValueError, match="nonsense"):
        draw(r"$\nonsense{x}$")


def test_docstrings_become_lists() -> None:
    made = hook("generate").docstring(
        "Does it.\n\nMore ``words``.\n\nArgs:\n    data: where it\n        lies.\n    out: goes.\n\n"
        "Raises:\n    UserError: it is gone.\n"
    )
    assert "**Args**\n\n- `data`: where it\n    lies.\n- `out`: goes." in made
    assert "- `UserError`: it is gone." in made
    assert "`words`" in made
