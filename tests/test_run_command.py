"""``vae-ref run``: the step of a script is audited, without touching the script."""

import json

import pytest

SCRIPT = """
import sys, torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
heads, out = nn.Linear(12, 6), nn.Linear(3, 12)
optimizer = torch.optim.Adam([*heads.parameters(), *{held}], 1e-3)
for epoch in range(int(sys.argv[1])):
    {seed}
    x = torch.rand(5, 12)
    mu, logvar = heads(x).chunk(2, 1)
    z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).{reduction}()
    loss = F.binary_cross_entropy_with_logits(out(z), x, reduction="sum") + kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
open("trained", "w").close()
"""
RIGHT = {"held": "out.parameters()", "seed": "pass", "reduction": "sum"}


@pytest.fixture
def run(vae_ref_command, forked, tmp_path):
    def run(*arguments, **changes):
        (tmp_path / "train.py").write_text(SCRIPT.format(**RIGHT | changes))
        status, output, errors = vae_ref_command("run", *arguments)
        return status, " ".join((output + errors).split())

    return run


def test_a_right_script_holds_and_is_stopped(run, tmp_path):
    status, text = run("--json", "report.json", "train.py", "50")
    assert (status, "no bug found: " in text) == (0, True), text
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["subject"], report["verdict"]) == ("train.py", "partial")
    assert not (tmp_path / "trained").exists()


@pytest.mark.slow
def test_a_page_with_a_drawing_is_written(run, tmp_path):
    status, _ = run("--html", "page.html", "train.py", "50")
    assert status == 0
    page = (tmp_path / "page.html").read_text()
    assert "The VAE as found" in page
    assert "train.py:12" in page


@pytest.mark.parametrize("option", ["--html", "--json"])
@pytest.mark.parametrize("file", ["train.py", "missing/page.html"])
def test_a_file_that_cannot_be_written_is_said_first(run, tmp_path, option, file):
    status, text = run(option, file, "train.py", "50")
    assert (status, "Traceback" in text) == (2, False)
    assert "import sys, torch" in (tmp_path / "train.py").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"reduction": "mean"}, "objective/beta"),
        ({"held": "[]"}, "training/every-weight-learns"),
        ({"seed": "torch.manual_seed(0)"}, "training/fresh-noise"),
    ],
)
def test_what_is_wrong_is_found(run, changes, claim):
    status, text = run("train.py", "50", **changes)
    assert (status, f"VIOLATED {claim}" in text) == (1, True), text


@pytest.mark.slow
def test_a_script_may_audit_itself(run):
    """Which is not taken for what the script computes."""
    own = "import vae_ref; a = vae_ref.audit(); a.__enter__(); heads(torch.rand(1, 12))"
    assert run("train.py", "50", seed=f"{own}; a.__exit__(None, None, None)")[0] == 0


@pytest.mark.slow
def test_a_script_may_go_on(run, tmp_path):
    assert run("--continue", "train.py", "50")[0] == 0
    assert (tmp_path / "trained").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no.py",), "SCRIPT must be a file; got no.py."),
        (("train.py", "0"), "It differentiated 0 losses, and two are needed"),
        (("train.py", "many"), "SCRIPT must run to its first steps; got train.py."),
    ],
)
def test_what_cannot_be_watched_is_said(run, arguments, message):
    status, text = run(*arguments)
    assert (status, message in text) == (2, True), text
