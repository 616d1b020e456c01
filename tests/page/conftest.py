"""A real browser for the tests of the page; skipped with a reason where there is none."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
#: as root Chromium has no sandbox; the rest keeps it from asking its maker's hosts
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
FLAGS += ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
_playwright: Any = None  # one for the process: two cannot run at once


@contextlib.contextmanager
def chromium(flags: list[str]) -> Iterator[Any]:
    """Headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make install)")
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip("there is no Chromium (make browser)")
    global _playwright
    _playwright = _playwright or api.sync_playwright().start()
    started = _playwright.chromium.launch(executable_path=found, args=flags)
    yield started
    started.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The browser of the tests."""
    with chromium(FLAGS) as started:
        yield started


class Window:
    """A page with what it logged and which requests it made."""

    def __init__(self, context: Any):
        self.page = context.new_page()
        self.page.set_default_timeout(10_000)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        context.on("request", lambda request: self.requests.append(request.url))

    def pixels(self, canvas: Any) -> str:
        """What a canvas shows."""
        return canvas.evaluate("canvas => canvas.toDataURL()")

    def plays(self, canvas: Any) -> bool:
        """Whether what a canvas shows changes within five seconds."""
        canvas.scroll_into_view_if_needed()
        before = self.pixels(canvas)
        for _ in range(50):
            self.page.wait_for_timeout(100)
            if self.pixels(canvas) != before:
                return True
        return False

    def fits(self) -> bool:
        """Whether nothing is wider than the window, nor than one of 390 and one of 1280 pixels."""
        fits = "document.documentElement.scrollWidth <= innerWidth"
        fit = [self.page.evaluate(fits)]
        for width in (390, 1280):
            self.page.set_viewport_size({"width": width, "height": 900})
            fit.append(self.page.evaluate(fits))
        return all(fit)


@pytest.fixture(scope="session")
def only_window(browser: Any) -> Iterator[Window]:
    """Opening a window takes a second, so the tests share one."""
    with contextlib.closing(browser.new_context()) as context:
        yield Window(context)


@pytest.fixture
def window(only_window: Window, request: pytest.FixtureRequest) -> Iterator[Window]:
    """An empty window of 1280 x 900, or as the test's parameter says: (width, colour scheme)."""
    width, scheme = getattr(request, "param", (1280, "light"))
    only_window.page.set_viewport_size({"width": width, "height": 900})
    only_window.page.emulate_media(color_scheme=scheme)
    only_window.errors.clear()
    only_window.requests.clear()
    yield only_window
    only_window.page.goto("about:blank")
