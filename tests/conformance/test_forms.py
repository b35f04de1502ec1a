"""Bugs in the forms that training steps have: found, named, and no right step accused."""

import pytest

from tests.conformance.forms import FORMS, alike, audited, bugs, said
from vae_ref.conformance.mutants import BANK

pytestmark = pytest.mark.usefixtures("user", "single_precision")


MISSED = {"model-unregistered-layer"}  # the audit does not know what a module should have
"""Bugs that no audit accuses yet, in some form."""


def some(form, every):
    """Every some of the bugs that a form shows with the slow tests."""
    return [(form, bug.id) for bug in bugs(form)[::every] if bug.id not in MISSED]


@pytest.mark.parametrize("form", [pytest.param(f, marks=[pytest.mark.slow]) for f in FORMS])
@pytest.mark.parametrize("seed", range(3))
def test_no_right_step_is_accused(form, seed):
    found = audited(form, None, seed)
    left = {"fail", "error", "timeout", "inconclusive"} & found.report.counts.keys()
    assert not left, [(r.claim.id, r.message) for r in found.report.failures]
    assert found.report.counts["pass"] >= 55


NAMED = [
    ("conditional", "kl-mean-over-latents"),
    ("textbook", "nll-mean-over-pixels"),
    ("textbook", "kl-first-latent-only"),
    ("textbook", "z-half-exp-logvar"),
    ("conditional", "z-mu-scaled"),
    ("textbook", "nll-half-of-bce"),
    ("textbook", "model-tanh-on-logvar"),
    ("conditional", "model-half-the-pixels"),
    ("conditional", "loss-sum-plus-batch-mean"),
    ("lightning", "nll-mean-over-everything"),
    ("textbook", "loss-free-bits"),
    ("textbook", "loss-kl-detached"),
    ("lightning", "nll-first-example-only"),
    ("conditional", "kl-batch-mean-of-mu"),
    ("lightning", "model-decoder-ignores-code"),
    ("textbook", "loss-nominal-batch-size"),
]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("form", "bug"),
    [
        pytest.param(form, bug, marks=[pytest.mark.slow] * (index % 16 > 0))
        for index, (form, bug) in enumerate(NAMED)
    ],
)
def test_a_bug_is_named(form, bug):
    found = audited(form, BANK[bug])
    names = {f.diagnosis.bug for f in found.report.failures if f.diagnosis}
    assert alike(form, BANK[bug]) & names, [(r.claim.id, r.message) for r in found.report.failures]


@pytest.mark.sampled(4)
@pytest.mark.slow
@pytest.mark.parametrize(("form", "bug"), [pair for f in FORMS for pair in some(f, 24)])
def test_a_bug_is_found_or_said_not_to_be_judged(form, bug):
    found = audited(form, BANK[bug])
    assert found.reason or said(found) or found.report.failures, "it is silently accepted"


def test_an_effective_weight_is_said_with_its_sizes_and_lines():
    found = audited("conditional", BANK["loss-kl-mean-over-latents"])
    (failure,) = found.report.failures
    assert failure.claim.id == "objective/beta"
    said = failure.diagnosis.explanation
    assert "your KL is averaged over the latents (4 for each example): sum over the" in said
    assert (
        "At 12 pixels and 4 latents you train with beta 0.25: the KL is 4 times too weak" in said
    )
    assert "objective.py:" in said
