"""Pictures of a running dashboard: `python -m tests.support.screenshots "ADDRESS/?period=30d" docs/images`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

_PICTURES = {"page": (1600, 1500, "light"), "page-dark": (1600, 1500, "dark"), "page-phone": (390, 1500, "light")}


def take(address: str, directory: Path) -> None:
    """Write `page.png`, `page-dark.png` and `page-phone.png`."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for name, (width, height, scheme) in _PICTURES.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            page.goto(address)
            expect(page.locator("#direction .figures")).to_be_visible()
            expect(page.locator('[aria-busy="true"]')).to_have_count(0)
            page.wait_for_timeout(500)  # charts are drawn in the next frames
            page.screenshot(path=directory / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    take(sys.argv[1], Path(sys.argv[2]))
