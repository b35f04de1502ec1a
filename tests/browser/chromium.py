"""Headless Chromium, which opens the pages of a built site from their files."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["WIDTHS", "open_page", "resize", "started", "take_theme"]

WIDTHS = (390, 1920)  # of a phone, of a desktop
HEIGHT = 1000
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # which root, who builds in containers, cannot have
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-prefers-reduced-motion",
)


@contextmanager
def started() -> Iterator[Any]:
    """Start a browser that records its requests and its console."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, ["chromium", "google-chrome"])))
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options, service)
    try:
        driver.set_script_timeout(120)
        yield driver
    finally:
        driver.quit()


def open_page(driver: Any, address: str) -> None:
    """Load a page, and wait for its images, formulas and fonts."""
    driver.get(address)
    driver.execute_async_script(
        """
        const done = arguments[arguments.length - 1];
        const images = [...document.images].map((image) => {
          image.loading = "eager";
          return image.decode().catch(() => {}); // a missing one is found later
        });
        Promise.all([...images, window.MathJax?.startup?.promise, document.fonts.ready])
          .then(() => done());
        """
    )


def resize(driver: Any, width: int) -> None:
    size = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def take_theme(driver: Any, theme: str) -> None:
    wish = {"name": "prefers-color-scheme", "value": theme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [wish]})
