"""The pages in a real browser, as wide as a screen and as a phone; build/screenshots keeps what it shows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lt_hpc.report.page import render
from tests.report.pages import decode, report, runs

OUT_OF_REACH = """[...document.querySelectorAll('td, p, svg')].filter(
    one => one.getBoundingClientRect().right > innerWidth && !one.closest('.wide, .one')
).map(one => one.textContent)"""
SMALLEST_CHART = "Math.min(...[...document.querySelectorAll('svg')].map(one => one.clientWidth))"
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: tools/setup.sh dev installs it on Debian"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # Its own sandbox needs user namespaces, which containers forbid; it only sees our page.
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def a_report() -> str:
    return render([("em", report(), decode)])


def a_comparison() -> str:
    """The report of each run in it has no charts: they are those of a report alone."""
    beside = runs("em", "raw")
    plain = [(one.label, replace(one.report, iterations=[], work=[], drift=[]), decode) for one in beside]
    return render(plain, beside)


@pytest.mark.parametrize("make", [a_report, a_comparison])
def test_a_page_fits_its_window_asks_for_nothing_and_complains_of_nothing(
    browser: Any, tmp_path: Path, make: Callable[[], str]
) -> None:
    file = tmp_path / "page.html"
    file.write_text(make())
    page, complaints, requests = browser.new_page(), [], []
    page.set_default_timeout(120_000)  # of a busy machine
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    for width, scheme in ((1200, "light"), (420, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=SCREENSHOTS / f"{make.__name__}-{width}-{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        assert page.evaluate(OUT_OF_REACH) == [], "what is too wide scrolls in a box of its own"
        assert page.evaluate(SMALLEST_CHART) > 200, "labels of a smaller chart can't be read"
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert (complaints, requests) == ([], [file.as_uri()])
    page.close()
