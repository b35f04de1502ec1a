"""What the kit infers and reports beside its verdicts."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from vae_ref.conformance import Conventions, Subject, verify
from vae_ref.conformance.claims.likelihood import _measured_jitter
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.mutants.specimen import kl, nll
from vae_ref.conformance.runner import probe_of

pytestmark = pytest.mark.usefixtures("user")


def losing(reconstruction, weight=1.0, **conventions):
    def loss(outputs, x, mu, logvar):
        return reconstruction(outputs, x) + weight * kl(mu, logvar).sum()

    return Subject(name="loss", loss=loss, conventions=Conventions(**conventions))


def squared(outputs, x):
    return ((outputs - x) ** 2).sum()


def absolute(outputs, x):
    return (outputs - x).abs().sum()


def statuses(report):
    return {result.claim.id: result.status for result in report.results}


def test_the_variance_that_a_squared_error_implies():
    """SSE + KL is the ELBO of a Gaussian likelihood with variance 1/2."""
    report = verify(losing(squared))
    assert not report.failures
    assert report.facts["likelihood"] == "gaussian"
    assert report.facts["implied variance"] == "0.5"
    assert report.facts["constant of the likelihood"] == "dropped"


def test_a_constant_that_is_kept_is_reported():
    def whole(outputs, x):
        return (0.5 * (outputs - x) ** 2 + 0.5 * math.log(2 * math.pi)).sum()

    report = verify(losing(whole))
    assert not report.failures
    assert report.facts["constant of the likelihood"] == "0.918939 nats per pixel"


def test_the_scale_that_an_absolute_error_implies():
    report = verify(losing(absolute, weight=2.0))
    assert not report.failures
    assert report.facts["implied scale b"] == "2"


@pytest.mark.parametrize(("declared", "fails"), [(0.5, False), (1.0, True)])
def test_a_declared_variance_is_held_to(declared, fails):
    report = verify(losing(squared, variance=declared))
    assert ("objective/beta" in {r.claim.id for r in report.failures}) == fails


@pytest.mark.slow
def test_a_loss_that_is_scaled_as_a_whole_says_so():
    def loss(outputs, x, mu, logvar):
        return (nll(outputs, x).sum() + kl(mu, logvar).sum()) / 100

    report = verify(Subject(name="scaled", loss=loss))
    assert not report.failures
    assert report.facts["scale of the loss"] == "0.01 of nats per batch"
    assert "scale of the loss" not in verify(losing(lambda o, x: nll(o, x).sum())).facts


@pytest.mark.parametrize(
    ("reconstruction", "likelihood", "fact"),
    [
        (
            lambda o, x: F.binary_cross_entropy(o, x, reduction="sum"),
            "bernoulli",
            "off by more than 1 % from a wrong-side logit of 15",
        ),
        (
            lambda o, x: F.binary_cross_entropy_with_logits(o, x, reduction="sum"),
            "bernoulli-logits",
            "exact for wrong-side logits up to 100",
        ),
    ],
)
def test_the_dead_zone_of_probabilities_is_found(reconstruction, likelihood, fact):
    report = verify(losing(reconstruction), only="likelihood/*")
    assert report.facts["likelihood"] == likelihood
    assert report.facts["reconstruction in float32"] == fact


@pytest.mark.slow
def test_a_number_of_pixels_that_is_fixed_is_said_to_be():
    def fixed(outputs, x):
        return F.binary_cross_entropy(outputs, x.view(-1, 784), reduction="sum")

    report = verify(losing(fixed))
    assert not report.failures
    assert statuses(report)["likelihood/sum-over-pixels"] == "not-applicable"
    assert statuses(verify(losing(squared)))["likelihood/sum-over-pixels"] == "pass"


@pytest.mark.parametrize(
    ("reduce", "fact"),
    [(torch.sum, "summed over the batch"), (lambda t: t.sum() / len(t), "averaged")],
    ids=["sum", "mean"],
)
def test_the_reduction_is_found(reduce, fact):
    def own(mu, logvar):
        return reduce(kl(mu, logvar))

    report = verify(Subject(name="kl", kl=own))
    assert not report.failures
    assert fact in report.facts["KL"]


def test_a_message_gives_the_figure_that_was_found():
    report = verify(BANK["z-truncated-noise"].subject(), only="*/tails")
    assert report.results[0].message.startswith("0.000 % of the noise lies beyond 3 sigma")


def test_what_a_declaration_changes_is_reported():
    subject = losing(squared)
    declared = dataclasses.replace(subject.conventions, beta=1.0, spread="sigma")
    report = verify(dataclasses.replace(subject, conventions=declared), only="likelihood/*")
    assert report.declared == {"spread": "sigma"}


def jittered(jitter):
    return lambda o, x: -((o + jitter(o)).log() * x + (1 - o).log() * (1 - x)).sum()


@pytest.mark.parametrize("added", [1e-10, 5e-13])
def test_a_small_number_in_a_logarithm_is_measured(added):
    probe = probe_of(Subject(name="jitter", nll=jittered(lambda o: added)))
    assert _measured_jitter(probe) == pytest.approx(added, rel=1e-3, abs=0)


@pytest.mark.parametrize(
    "jitter",
    [
        lambda o: 0,
        lambda o: 1e-8,  # it does harm
        lambda o: 1e-9 * o,
        lambda o: 1e-10 * (1 + o / 4),
        lambda o: 1e-13 * (1 + 2 * o),
    ],
)
def test_what_is_added_to_a_probability_is_no_jitter(jitter):
    assert _measured_jitter(probe_of(Subject(name="other", nll=jittered(jitter)))) == 0


def test_a_small_constant_of_a_likelihood_is_reported():
    report = verify(losing(lambda o, x: squared(o, x) + 2e-8 * x.numel()), only="likelihood/*")
    assert report.facts["constant of the likelihood"] == "1e-08 nats per pixel"


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.log_s = torch.nn.Parameter(torch.tensor(-0.7))


@pytest.mark.parametrize(("power", "fails"), [(2, False), (1, True), (1.9, True)])
def test_the_normaliser_of_a_learned_scale_is_held_to_the_batch_mean(power, fails):
    module = Scaled()

    def loss(outputs, x, mu, logvar):
        distance = squared(outputs, x) / (2 * torch.exp(power * module.log_s))
        return (distance + x.numel() * module.log_s + kl(mu, logvar).sum()) / len(x)

    report = verify(Subject(name="scale", loss=loss, module=module), only="objective/*")
    assert {r.claim.id for r in report.failures} == ({"objective/beta"} if fails else set())
    assert report.facts["loss"] == "averaged over the batch"
