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

FAINT = """() => {
  const context = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
    .getContext("2d", {willReadFrequently: true});
  const known = new Map();
  const rgba = colour => {
    if (!known.has(colour)) {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
      known.set(colour, [...context.getImageData(0, 0, 1, 1).data]);
    }
    return known.get(colour);
  };
  const over = (top, below) => top.map((value, i) => i < 3 ? (value * top[3] + below[i] * (255 - top[3])) / 255 : 255);
  const white = [255, 255, 255, 255];
  const ground = e => e ? over(rgba(getComputedStyle(e).backgroundColor), ground(e.parentElement)) : white;
  const light = colour => colour.slice(0, 3).map(value => value / 255)
    .map(value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4)
    .reduce((sum, value, i) => sum + value * [.2126, .7152, .0722][i], 0);
  return [...document.querySelectorAll("body *")]
    .filter(e => !e.closest("svg, noscript") && e.getClientRects().length)
    .filter(e => [...e.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
    .map(e => {
      const below = ground(e);
      const [a, b] = [light(over(rgba(getComputedStyle(e).color), below)), light(below)].sort((x, y) => y - x);
      return [(a + .05) / (b + .05), e.tagName, e.className, e.textContent.trim().slice(0, 30)];
    })
    .filter(([contrast]) => contrast < 4.5).map(each => each.join(" "));
}"""
"""Texts that stand out from their ground by less than 4.5 to 1 (WCAG 2, AA)."""


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
