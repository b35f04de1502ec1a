"""What is wrong with the pages of a built site, as Chromium shows them."""

import base64
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.browser.chromium import WIDTHS, open_page, resize, take_theme

__all__ = ["CHECKS", "look"]

CHECKS = {
    "request": "something that is not of the site was asked for",
    "console": "an error or a warning",
    "width": "a page is wider than the window",
    "cut": "a text or a picture leaves the window, or its frame, and cannot be scrolled to",
    "formula": "TeX that is not typeset",
    "picture": "an image is missing, or has no alternative text",
    "glare": "an image is a white box on a dark page",
    "contrast": "a text is too faint for WCAG 2, level AA",
    "names": "what screen readers need is missing",
}
NAMES = ["button-name", "document-title", "html-has-lang", "link-name", "svg-img-alt"]
WHITE, INSET = 240, 3  # of 255; pixels, because corners may be round

HERE = Path(__file__).parent
IN_PAGE = (HERE / "looking.js").read_text()
MARK_STYLES = (HERE / "styles.js").read_text()


def look(driver: Any, site: Path, page: str) -> Iterator[tuple[str, str]]:
    """Open a page once; yield (check, what and where) for all that is wrong, at all widths."""
    resize(driver, WIDTHS[0])
    take_theme(driver, "light")
    open_page(driver, (site / page).as_uri())
    for width in WIDTHS:
        resize(driver, width)
        for check, what in driver.execute_script(IN_PAGE):
            yield check, f"{page} at {width} px: {what}"
    for theme in ("light", "dark"):
        take_theme(driver, theme)
        for check, what in _by_axe(driver):
            yield check, f"{page}, {theme}: {what}"
    for address in _white_images(driver):
        yield "glare", f"{page}: {address}"
    for entry in driver.get_log("browser"):
        yield "console", f"{page}: {entry['message']}"
    for address in _requests(driver):
        if not address.startswith((f"{site.as_uri()}/", "data:", "blob:")):
            yield "request", f"{page}: {address}"


def _requests(driver: Any) -> Iterator[str]:
    for entry in driver.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            yield event["params"]["request"]["url"]


def _by_axe(driver: Any) -> Iterator[tuple[str, str]]:
    """Ask axe for the contrast of one text of each style; of all texts, it would take minutes."""
    from axe_core_python.selenium import Axe

    questions: list[tuple[str, Any, list[str]]] = [("names", None, NAMES)]
    if driver.execute_script(MARK_STYLES):  # axe never answers about nothing
        texts = {"include": [["[data-of-its-style]"]]}
        questions.append(("contrast", texts, ["color-contrast"]))
    for check, where, rules in questions:
        for violation in Axe().run(driver, where, {"runOnly": rules})["violations"]:
            for node in violation["nodes"]:
                yield check, f"{' '.join(node['target'])}: {node['failureSummary']}"


def _white_images(driver: Any) -> Iterator[str]:
    """Yield the addresses of images, icons aside, whose four corners are white."""
    from PIL import Image

    boxes = driver.execute_script(
        """
        const seen = [...document.images].filter((image) => image.checkVisibility());
        return seen.map((image) => [image.src, image.getBoundingClientRect()])
          .filter(([, box]) => box.width > 32)
          .map(([src, box]) => [src, box.x + scrollX, box.y + scrollY, box.width, box.height]);
        """
    )
    for address, *box in boxes:
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"scale": 1}
        shot = {"clip": clip, "captureBeyondViewport": True}
        png = driver.execute_cdp_cmd("Page.captureScreenshot", shot)["data"]
        image = Image.open(io.BytesIO(base64.b64decode(png))).convert("L")
        sides = [(INSET, length - 1 - INSET) for length in image.size]
        if all(image.getpixel(corner) > WHITE for corner in itertools.product(*sides)):
            yield address
