"""What every test may ask for; the suite runs in double precision unless a test says otherwise.

What takes seconds to import is imported where it is used: the process that only hands tests out to
others needs none of it.
"""

import gc
import os
import signal
from collections import Counter
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; set before torch is there
    os.environ.setdefault("OMP_NUM_THREADS", "1")

os.environ["LANGUAGE"] = "en"  # whatever the locale, the tests read what the command says

import hypothesis
import jaxtyping
import pytest

# Shapes and types are checked where shapes are annotated; mypy checks the types of the rest.
ANNOTATED = [
    "data",
    "exact",
    "gaussian",
    "likelihood",
    "model",
    "objective",
    "pca",
    "plan",
    "quadrature",
    "running",
]
jaxtyping.install_import_hook(
    [f"vae_ref.{name}" for name in ANNOTATED],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

CI = "CI" in os.environ
hypothesis.settings.register_profile(
    "vae_ref", deadline=None, derandomize=CI, max_examples=100 if CI else 50
)
hypothesis.settings.load_profile("vae_ref")

HERE = Path(__file__).parent
collect_ignore_glob = ["docs/examples/*"]  # programs, of which two have the same name


def pytest_xdist_auto_num_workers(config):
    """Take all cores for the whole suite, and this process for a few files or to measure time."""
    places = [Path(argument.partition("::")[0]) for argument in config.args]
    if any(place.suffix == ".py" or "benchmarks" in place.parts[:1] for place in places):
        return 0
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()


def pytest_addoption(parser):
    """Offer to run all of the large families of slow tests."""
    parser.addoption(
        "--whole",
        action="store_true",
        help="run all cases of slow tests that are marked as sampled, not another part of them "
        "with every commit",
    )


def pytest_collection_modifyitems(config, items):
    """Take the sample of this commit of the slow tests that are marked as sampled.

    Tests that were chosen by name or with -k are all taken.
    """
    from tests.sampling import is_due, revision

    chosen = any("::" in argument for argument in config.args) or config.option.keyword
    if config.option.whole or chosen or revision() is None:
        return
    kept, left, seen = [], [], Counter()
    for item in items:
        mark = item.get_closest_marker("sampled") if "slow" in item.keywords else None
        family = item.nodeid.partition("[")[0]
        due = mark is None or is_due(family, seen[family], mark.args[0], revision())
        seen[family] += mark is not None
        (kept if due else left).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def pytest_configure():
    """Let Ctrl-C interrupt also where a shell has started pytest in the background."""
    gc.disable()  # what is imported stays; looking for garbage in it takes 3 s
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Keep what is imported out of all later collections of garbage, which it would slow down."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def double_precision_from_the_start():
    """Fixtures of modules are made before any test's own."""
    import torch

    torch.set_default_dtype(torch.float64)


@pytest.fixture(autouse=True)
def double_precision(request):
    """Tests compute in float64; examples in the documentation as their reader would."""
    import torch

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


def pytest_generate_tests(metafunc):
    """Run what takes a device on each that there is."""
    import torch

    if "device" in metafunc.fixturenames:
        names = ["cpu"] + ["cuda"] * torch.cuda.is_available()
        metafunc.parametrize("device", [torch.device(name) for name in names], ids=names)


@pytest.fixture(scope="session")
def mnist_root():
    """The directory with MNIST. Where VAE_REF_DATA promises it, its absence is a failure."""
    from vae_ref.data import DataError, mnist

    root = Path(os.environ.get("VAE_REF_DATA", HERE / "data"))
    try:
        mnist(root, train=False)
    except DataError as error:
        if "VAE_REF_DATA" in os.environ:
            raise
        pytest.skip(f"MNIST is not at hand, and VAE_REF_DATA does not name it: {error}")
    return root


@pytest.fixture(scope="session")
def mnist_sets(mnist_root):
    """The training set and the test set."""
    from vae_ref.data import mnist

    return mnist(mnist_root, train=True), mnist(mnist_root, train=False)
