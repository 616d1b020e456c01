"""Take the pictures of docs/page.md: of a report, and of a server at ADDRESS that has an index and results.

python docs/make_page_pictures.py ADDRESS REPORT.html POSE
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def save(page: Page, name: str, height: int = 900) -> None:
    """A screenshot in 128 colours, without what is below `height`."""
    page.wait_for_timeout(1500)
    page.set_viewport_size({"width": 1280, "height": height})
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(128).save(HERE / name, optimize=True)


def main(address: str, report: str, pose: str) -> None:
    """Take all pictures."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(Path(report).resolve().as_uri())
        save(page, "report.png", 1560)
        page.goto(address)
        page.locator("input[type=file]").wait_for()
        page.set_input_files("input[type=file]", pose)
        page.locator(".ranked .prompt").first.wait_for()
        save(page, "page_try.png", 860)
        page.goto(f"{address}/#search")
        page.get_by_label("Words").fill("Fingerspell the letter Y.")
        page.keyboard.press("Enter")
        page.locator(".hits canvas").nth(11).wait_for()
        save(page, "page_search.png", 1180)


if __name__ == "__main__":
    main(*sys.argv[1:])
