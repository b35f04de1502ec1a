"""A built site, and a browser."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import chromium

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The directory that VAE_REF_SITE names, or else the pages, built now."""
    if "VAE_REF_SITE" in os.environ:
        return Path(os.environ["VAE_REF_SITE"]).resolve()
    built = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "sphinx", "-q", DOCS, built], check=True)
    return built


@pytest.fixture(scope="session")
def browser():
    with chromium.started() as driver:
        yield driver
