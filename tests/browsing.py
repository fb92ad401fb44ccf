"""A real browser (Debian's chromium) for the tests of pages: how it is started, and what it looks for."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
CLIPPED = """() => [...document.querySelectorAll("body *")]
  .filter(e => !e.closest("svg") && !e.matches(".scroll, .columns, input, img"))
  .filter(e => e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1)
  .map(e => `${e.tagName} ${e.className} ${e.textContent.trim().slice(0, 40)}`)"""


@contextmanager
def started() -> Iterator[Browser]:
    """The browser; where there is none the test is skipped, but fails in CI."""
    chromium = shutil.which("chromium")
    if not chromium and not os.environ.get("CI"):
        pytest.skip("chromium is missing: as root `make browser` installs it, else apt-get install chromium")
    assert chromium, "chromium is missing in CI: `make browser` installs it"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield opened
        opened.close()


def look(browser: Browser, address: str, width: int = 1280, scheme: Any = "light") -> tuple[Page, list[str]]:
    """Opens a page; the list fills with what the browser complains of and with requests that go elsewhere.

    A page from disk has no network.
    """
    offline = address.startswith("file:")
    own = ("file:" if offline else address.split("?")[0], "data:", "blob:")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=offline)
    page, complaints = context.new_page(), list[str]()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(own) else complaints.append(request.url))
    page.goto(address)
    return page, complaints


def theme(page: Page) -> str:
    """``dark`` where the text is lighter than what it stands on."""
    ink, paper = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    bright = [sum(map(int, colour[4:-1].split(","))) for colour in (ink, paper)]
    return "dark" if bright[0] > bright[1] else "light"
