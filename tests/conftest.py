import pytest

from vae_ref import ImageSet, glyphs


@pytest.fixture(scope="session")
def small() -> tuple[ImageSet, ImageSet]:
    """A training set with a short last batch, and a test set."""
    return glyphs(600), glyphs(200, seed=1)
