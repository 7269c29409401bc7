"""Retake the tutorial's pictures: a private service, a real browser, and a real job.

``python -m scripts.pictures`` writes ``docs/pictures`` anew, which takes a few minutes; look at
each one before you commit it. ``python -m scripts.pictures dark DIRECTORY`` takes the same pages
in dark. It needs a Chromium, as the tests of pages do.
"""

import argparse
import io
import re
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from planish import embedded
from tests.e2e.browser import NAMES, found

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
WIDTH = 1100
_COLOURS = 128
"""Of a picture: it takes a third of the bytes of all colours, and looks the same."""
_INSPECTED_MS, _FINISHED_MS = 180_000, 600_000


def main() -> None:
    """Go through the tutorial, and keep a picture of each of its pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scheme", nargs="?", choices=["light", "dark"], default="light")
    parser.add_argument("directory", nargs="?", type=Path, default=PICTURES)
    chosen = parser.parse_args()
    program = found()
    if program is None:
        sys.exit(f"None of {', '.join(NAMES)} is on this machine: install one of them.")
    chosen.directory.mkdir(parents=True, exist_ok=True)
    with embedded.running() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(base_url=url, color_scheme=chosen.scheme)
        _tour(page, chosen.directory)
        browser.close()


def _tour(page: Page, directory: Path) -> None:
    def keep(name: str, height: int) -> None:
        page.set_viewport_size({"width": WIDTH, "height": height})
        taken = Image.open(io.BytesIO(page.screenshot()))
        taken.quantize(_COLOURS).save(directory / f"{name}.png", optimize=True)

    page.goto("/")
    page.get_by_role("button", name="Try it with an example").click()
    page.wait_for_url(re.compile(r"/jobs/new\?"), timeout=_INSPECTED_MS)
    model = page.locator("select[name=model]").input_value()
    dataset = page.locator("select[name=dataset]").input_value()

    for kind, uploaded, height in (("model", model, 1100), ("dataset", dataset, 760)):
        page.goto(f"/{kind}s/{uploaded}")
        page.locator("h1 .badge", has_text="ready").wait_for(timeout=_INSPECTED_MS)
        page.wait_for_load_state("networkidle")
        keep(kind, height)

    page.goto(f"/jobs/new?model={model}&dataset={dataset}&goal=faster")
    page.get_by_label("Name", exact=True).fill("Eight bits, calibrated")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.get_by_text("This will run.").wait_for()
    page.wait_for_load_state("networkidle")
    keep("new-job", 980)
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(r"/jobs/job_\w+$"))
    page.get_by_role("heading", name="Before and after").wait_for(timeout=_FINISHED_MS)
    keep("job", 1180)
    page.goto("/")
    keep("start", 900)


if __name__ == "__main__":
    main()
