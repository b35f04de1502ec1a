"""Learned priors, and several codes: what is right holds, what is wrong is found."""

import pytest
import torch
from richer_steps import (
    RIGHT,
    SAID,
    WRONG,
    importance_weighted,
    over_time,
    with_a_prior_for_each_label,
    with_draws_side_by_side,
    with_the_average_of_several_draws,
    with_the_largest_weight,
)
from steps import B, L
from test_audit import named

from vae_ref.conformance import audit_step

pytestmark = pytest.mark.usefixtures("user", "single_precision")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("make", named(RIGHT, quick=len(RIGHT)))
def test_no_right_step_is_accused(make):
    found = audit_step(make())
    assert found.reason == ""
    assert found.report.verdict == "partial", found.report.failures
    assert found.report.counts["pass"] > 45


@pytest.mark.sampled(4)
@pytest.mark.parametrize("make", named(WRONG, quick=len(WRONG)))
def test_what_is_wrong_is_found(make):
    found = audit_step(make())
    assert any(r.claim.id.startswith(WRONG[make]) for r in found.report.failures)


@pytest.mark.parametrize("make", named(SAID, quick=1))
def test_what_is_not_judged_is_said(make):
    assert SAID[make] in audit_step(make()).reason


def test_the_prior_is_said_to_be_learned():
    prior = audit_step(with_a_prior_for_each_label()).found["prior"]
    assert prior.startswith("a Gaussian that is learned")


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (with_the_average_of_several_draws, "averaged"),
        (with_draws_side_by_side, "averaged"),
        (importance_weighted, "in the importance-weighted bound"),
        (
            with_the_largest_weight,
            "combined as neither an average nor the importance-weighted bound",
        ),
    ],
)
def test_how_draws_are_combined_is_said(make, how):
    assert audit_step(make()).found["draws"] == f"4 for each example, {how}"


def test_draws_of_one_noise_are_said_to_be():
    def noise(mu):
        return torch.randn(B, L).expand_as(mu)

    found = audit_step(with_the_average_of_several_draws(noise=noise)).found
    assert found["draws"] == "4 for each example, all with the same noise, averaged"


@pytest.mark.slow
def test_the_first_codes_of_a_sequence_are_judged():
    found = audit_step(over_time()).found
    assert found["judged"] == "the first 3 of 4 codes"
    assert found["weights"] == "1 of the reconstruction, 1 of the KL"
