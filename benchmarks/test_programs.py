"""Checkpoints, next to torch's own, and the command that verifies the reference."""

import subprocess
import sys

import pytest
import torch

from vae_ref import Recipe, Run, fit, glyphs


@pytest.fixture
def run(device):
    """A training of the textbook's size, with the moments of its optimiser."""
    started = Run.start(Recipe(), (28, 28), device=device)
    next(fit(started, glyphs(128), glyphs(1), epochs=1))
    return started


@pytest.fixture
def saved(run, tmp_path):
    run.save(tmp_path / "ours")
    torch.save((run.model.state_dict(), run.optimizer.state_dict()), tmp_path / "torch's")
    return tmp_path


@pytest.mark.parametrize("contestant", ["vae_ref", "torch"])
def test_checkpoint_save(measure, run, saved, contestant):
    """Ours is on the disk when the call returns, and replaces the old file in one step."""

    def torchs():
        state = run.model.state_dict(), run.optimizer.state_dict()
        torch.save(state, saved / "torch's")

    save = {"vae_ref": lambda: run.save(saved / "ours"), "torch": torchs}[contestant]
    measure("checkpoint, save", save)


@pytest.mark.parametrize("contestant", ["vae_ref", "torch"])
def test_checkpoint_load(measure, run, saved, device, contestant):
    def torchs():
        fresh = Run.start(run.recipe, run.size, device=device)
        model, optimizer = torch.load(saved / "torch's", weights_only=True)
        fresh.model.load_state_dict(model)
        fresh.optimizer.load_state_dict(optimizer)
        return fresh

    load = {"vae_ref": lambda: Run.load(saved / "ours", device=device), "torch": torchs}[
        contestant
    ]
    found = measure("checkpoint, load", load)
    pairs = zip(found.model.parameters(), run.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("device", [torch.device("cpu")], ids=["cpu"])
def test_verify(measure, device):
    command = [sys.executable, "-m", "vae_ref", "verify"]

    def verify():
        return subprocess.run(command, capture_output=True, check=True)

    assert measure("vae-ref verify", verify, rounds=1).stdout
