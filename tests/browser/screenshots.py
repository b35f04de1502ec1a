"""Write pictures of every page of a built site: `python -m tests.browser.screenshots SITE OUT`."""

import argparse
import base64
from pathlib import Path
from typing import Any

from tests.browser.chromium import WIDTHS, open_page, resize, started, take_theme
from tests.browser.reading import pages

TALLEST = 8000  # pixels of one picture; longer pages have several


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--theme", choices=["light", "dark"], default="light")
    parser.add_argument("pages", nargs="*", help="the default is all")
    given = parser.parse_args()
    site = given.site.resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    with started() as driver:
        take_theme(driver, given.theme)
        for page in given.pages or pages(site):
            open_page(driver, (site / page).as_uri())
            for width in WIDTHS:
                resize(driver, width)
                name = page.removesuffix(".html").replace("/", "-")
                _shoot(driver, width, given.out / f"{name}-{width}")


def _shoot(driver: Any, width: int, stem: Path) -> None:
    height = driver.execute_script("return document.documentElement.scrollHeight")
    for number, top in enumerate(range(0, height, TALLEST)):
        part = {"x": 0, "y": top, "width": width, "height": min(TALLEST, height - top), "scale": 1}
        shot = {"clip": part, "captureBeyondViewport": True}
        png = driver.execute_cdp_cmd("Page.captureScreenshot", shot)["data"]
        stem.with_name(f"{stem.name}-{number}.png").write_bytes(base64.b64decode(png))


if __name__ == "__main__":
    main()
