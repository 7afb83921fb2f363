"""Chromium without a network, as a reader uses it: what a page asks for and complains of."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
NO_CHROMIUM = "no chromium; apt-get install chromium"
SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, or a skip with the reason."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright")
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *SOFTWARE_WEBGL]
        )
        yield browser
        browser.close()


class Reader:
    """One page, and whatever went wrong on it.

    `requests` are those beyond the page's own file and data in it; `faults` the console's errors.
    """

    def __init__(self, browser: Any, width: int = 1280, height: int = 800) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, offline=True, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda said: self._note(said.type == "error", said.text))
        self.page.on("pageerror", lambda error: self._note(True, str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, file: Path) -> Any:
        """Open a file as by a double click; return the page."""
        self.page.goto(file.as_uri())
        self.requests.remove(file.as_uri())
        return self.page

    def _note(self, is_fault: bool, text: str) -> None:
        if is_fault:
            self.faults.append(text)
