"""What every test may ask for; the suite runs in double precision unless a test says otherwise."""

import os
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
import torch

from vae_ref.data import DataError, ImageSet, mnist

hypothesis.settings.register_profile("vae_ref", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("vae_ref")

HERE = Path(__file__).parent


@pytest.fixture(autouse=True, scope="session")
def double_precision_from_the_start():
    """Fixtures of modules are made before any test's own."""
    torch.set_default_dtype(torch.float64)


@pytest.fixture(autouse=True)
def double_precision(request):
    """Tests compute in float64; examples in the documentation as their reader would."""
    is_example = isinstance(request.node, pytest.DoctestItem)
    torch.set_default_dtype(torch.float32 if is_example else torch.float64)
    yield
    torch.set_default_dtype(torch.float64)  # for what the next test's fixtures compute


@pytest.fixture
def user():
    """Call functions as users do: without the type checker, which would object first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(params=["cpu"] + ["cuda"] * torch.cuda.is_available())
def device(request):
    return torch.device(request.param)


@pytest.fixture(scope="session")
def mnist_root():
    """The directory with MNIST. Where VAE_REF_DATA promises it, its absence is a failure."""
    root = Path(os.environ.get("VAE_REF_DATA", HERE / "data"))
    try:
        mnist(root, train=False)
    except DataError as error:
        if "VAE_REF_DATA" in os.environ:
            raise
        pytest.skip(f"MNIST is not at hand, and VAE_REF_DATA does not name it: {error}")
    return root


@pytest.fixture(scope="session")
def mnist_sets(mnist_root) -> tuple[ImageSet, ImageSet]:
    return mnist(mnist_root, train=True), mnist(mnist_root, train=False)
