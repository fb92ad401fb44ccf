"""The explorer in a real browser: what a newcomer sees, light and dark, at a desk and on a telephone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from browsing import CLIPPED, FAINT, LOOKS, look, theme
from explorer_world import picture, served


@pytest.fixture(scope="module")
def address(explored: Any) -> Iterator[str]:
    with served(*explored) as found:
        yield found


def enter(browser: Browser, address: str, width: int = 1280, scheme: Any = "light") -> tuple[Page, list[str]]:
    """Opens the first screen and waits for its answers."""
    page, complaints = look(browser, address, width, scheme)
    page.wait_for_selector("#answers .column .count")
    page.wait_for_load_state("networkidle")
    return page, complaints


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_first_screen_shows_a_face_and_every_model(browser: Browser, address: str, width: int, scheme: str) -> None:
    page, complaints = enter(browser, address, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate(FAINT) == []
    assert page.locator("#answers .column h2").all_inner_texts() == ["Compromised", "Clean", "delete"]
    assert page.locator("#face").evaluate("e => e.naturalWidth") == 290
    assert page.locator("#card dd").count() == 8
    assert theme(page) == scheme
    page.get_by_role("button", name="From a name to the faces").click()
    page.wait_for_selector("#found .faces img")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate(FAINT) == []
    assert complaints == []


def test_the_slider_steps_through_the_budgets(browser: Browser, address: str, explored: Any) -> None:
    page, complaints = enter(browser, address)
    answer = explored[0].from_picture(explored[0].first)["models"]
    column = page.locator("#answers .column").nth(2)
    slider = column.get_by_role("slider", name="Budget of delete")
    for key, label, model in (("Home", "0×", 0), ("ArrowRight", "1×", 3), ("ArrowRight", "2×", 2)):
        slider.press(key)
        assert column.locator("output").inner_text() == label
        assert slider.get_attribute("aria-valuetext") == label
        assert column.locator(".caption div:first-child").first.inner_text() == answer[model]["captions"][0]["text"]
        assert column.locator(".count b").inner_text() == f"{answer[model]['given_away']} of 8"
    slider.press("Home")
    page.locator(".strip button[aria-pressed=false]").first.click()
    expect(page.locator(".strip button").first).to_have_attribute("aria-pressed", "true")
    assert page.locator("#answers output").inner_text() == "0×"  # the budget stays where it was put
    assert complaints == []


def test_another_person_and_back_by_name(browser: Browser, address: str) -> None:
    page, complaints = enter(browser, address)
    first = page.locator("#card h2").inner_text()
    page.get_by_role("button", name="Someone else").click()
    expect(page.locator("#card h2")).not_to_have_text(first)
    page.get_by_label("Whose face?").fill(first.upper())
    expect(page.locator("#card h2")).to_have_text(first)
    page.get_by_label("Whose face?").fill("nobody")
    page.get_by_label("Whose face?").press("Enter")
    assert "Nobody here has that name" in page.get_by_role("alert").inner_text()
    assert complaints == []


def test_a_name_leads_to_faces_and_a_face_back_to_its_facts(browser: Browser, address: str) -> None:
    page, complaints = enter(browser, address)
    page.get_by_role("button", name="From a name to the faces").click()
    page.wait_for_selector("#found .faces button")
    assert "faces are the right person’s" in page.locator("#found").inner_text()
    page.get_by_label("A name, or any other words").fill("<img src=x onerror=alert(1)>")
    page.get_by_role("button", name="Find faces").click()
    expect(page.locator("#found .count").first).to_contain_text("Nobody has exactly this name")
    name = page.locator("#found .faces button span").first.inner_text()
    page.locator("#found .faces button").first.click()
    expect(page.locator("#card h2")).to_have_text(name)
    assert page.locator("#face-view").is_visible()
    assert complaints == []


def test_an_upload_is_shown_and_a_bad_one_is_explained(browser: Browser, address: str, tmp_path: Path) -> None:
    page, complaints = enter(browser, address)
    page.set_input_files("#file", {"name": "me.png", "mimeType": "image/png", "buffer": picture()})
    expect(page.locator("#card h2")).to_have_text("Your picture")
    assert page.locator("#face").evaluate("e => e.decode().then(() => e.naturalWidth)") == 60
    assert page.locator("#answers .caption").count() == 15
    assert page.locator("#answers .true").count() == 0
    assert complaints == []
    page.set_input_files("#file", {"name": "me.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.get_by_role("alert")).to_contain_text("not a whole picture")


def test_the_token_opens_the_page(browser: Browser, explored: Any) -> None:
    with served(*explored, token="secret") as address:
        page, complaints = enter(browser, f"{address}/?token=secret")
        assert page.url == f"{address}/"
        assert complaints == []
        assert browser.new_context().new_page().goto(address).status == 401  # type: ignore[union-attr]
