"""What several test files share."""

import sys

import pytest

from tests import forks
from tests.conformance.strangers import MEAN_KL, SMALL, kl_that


@pytest.fixture(scope="session")
def small():
    """A training set with a short last batch, and a test set."""
    from vae_ref import glyphs

    return glyphs(600), glyphs(200, seed=1)


@pytest.fixture
def single_precision():
    """As in a program of one's own, with the same first weights every time."""
    import torch

    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def forking_commands():
    with forks.started() as directory:
        yield directory


@pytest.fixture
def forked(request, monkeypatch):
    """Let processes that a test starts begin with torch imported, where that can be."""
    if sys.platform == "linux":
        python = request.getfixturevalue("forking_commands") / "python"
        monkeypatch.setattr(sys, "executable", str(python))


@pytest.fixture
def vae_ref_command(monkeypatch, capsys, tmp_path, user):
    """Run the command, verify included, in this process, among files of strangers."""
    import torch

    from vae_ref import cli

    torch.set_default_dtype(torch.float32)
    monkeypatch.delenv("VAE_REF_TRACEBACK", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    for name, source in {
        "right_kl.py": kl_that("pass"),
        "wrong_kl.py": kl_that("logvar = 2 * logvar"),
        "raising_kl.py": kl_that("raise ValueError('no')"),
        "mean_kl.py": MEAN_KL,
        "small_vae.py": SMALL,
        "raising_file.py": "raise ValueError('first\\nsecond')",
        "exiting_file.py": "import sys; sys.exit(0)",
        "no_vae.py": "x = 1",
        "bad_syntax.py": "def f(:",
    }.items():
        (tmp_path / name).write_text(source)

    def run(*arguments: object, supervised: bool = False) -> tuple[int, str, str]:
        if arguments[:1] == ("verify",) and not supervised:
            arguments = ("verify", "--in-process", *arguments[1:])
        monkeypatch.setattr(sys, "argv", ["vae-ref", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output, errors = capsys.readouterr()
        assert "Traceback" not in output + errors
        return stop.value.code or 0, output, errors

    yield run
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
