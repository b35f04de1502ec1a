"""The command verify where it trains, or scores what was trained."""

import json
from importlib import resources

import jsonschema
import pytest
import torch

from vae_ref.bridge.reference import reference
from vae_ref.conformance import verify

QUICK = ["--only", "training/why-*"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["right_kl.py", "--train", "glyphs"],
            "TARGET must have a module to train; got of a file",
        ),
        (["--train", "mnist", "--data", "."], "MNIST is not in . (no MNIST/raw). Name a torch"),
        (["--checkpoint", "no.pt", "--train", "glyphs"], "--checkpoint must be a file; got no.pt"),
        (
            ["--checkpoint", "small_vae.py", "--train", "glyphs"],
            "--checkpoint must be a state dict",
        ),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(vae_ref_command, arguments, message):
    status, _, errors = vae_ref_command("verify", *arguments)
    assert status == 2
    assert message in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    "target",
    [pytest.param([], marks=pytest.mark.slow), ["small_vae.py", "--train", "glyphs"]],
)
def test_the_trained_level_is_that_of_the_reference_and_of_train(vae_ref_command, target):
    status, output, _ = vae_ref_command("verify", *target, *QUICK)
    assert status == 0, output
    assert "training  2 of 2 hold" in output


def test_a_second_head_that_happens_to_be_positive_is_not_accused():
    """As of few latents, whose first weights are random."""
    subject = reference()
    with torch.no_grad():
        subject.module.logvar.bias += 5
    report = verify(subject, only="training/why-logvar", level="trained")
    assert report.counts == {"pass": 1}, report.failures


def test_a_stranger_that_is_not_trained_has_no_such_claims(vae_ref_command):
    status, _, errors = vae_ref_command("verify", "small_vae.py", *QUICK)
    assert status == 2
    assert "but at the level trained" in errors


def test_weights_that_were_not_trained_are_told_from_trained_ones(vae_ref_command, tmp_path):
    """And the report says by how much, on the terminal and as data."""
    torch.save(reference(seed=1).module.state_dict(), tmp_path / "new.pt")
    arguments = ("--checkpoint", "new.pt", "--train", "glyphs", "--measures", "--json", "r.json")
    status, output, _ = vae_ref_command("verify", *arguments, "--only", "training/loss")
    assert status == 1
    assert "VIOLATED training/loss" in output
    assert "of the reference on glyphs" in " ".join(output.split())
    assert "\nmeasured\n  training/loss: test reconstruction after 6 " in output
    report = json.loads((tmp_path / "r.json").read_text())
    schema = resources.files("vae_ref.conformance") / "report.schema.json"
    jsonschema.validate(report, json.loads(schema.read_text()))
    found = report["measured"]["training/loss: test loss after 6"]
    assert found["value"] > found["high"] > found["low"] > 100


@pytest.mark.slow
def test_of_finished_weights_nothing_is_trained(vae_ref_command, tmp_path):
    torch.save(reference().module.state_dict(), tmp_path / "vae.pt")
    claims = ("--only", "training/[bers]*")
    arguments = ("--checkpoint", "vae.pt", "--train", "glyphs", "--json", "r.json")
    vae_ref_command("verify", *arguments, *claims)
    report = json.loads((tmp_path / "r.json").read_text())
    status = {claim["id"]: claim["status"] for claim in report["claims"]}
    assert status["training/every-weight-learns"] == "not-applicable"
    assert status["training/rate-distortion"] == "not-applicable"
    assert status["training/reported-loss"] == "not-applicable"
    assert status["training/beats-the-mean-image"] == "fail"
