"""Robust losses are recognised, and nothing else is; a VAE with one is not accused."""

import pytest
import torch
import torch.nn.functional as F
from steps import Textbook, images

from vae_ref.conformance import Subject, audit_step, verify
from vae_ref.conformance.answers.oracles import FAMILIES
from vae_ref.conformance.answers.robust import robust_loss
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.mutants.specimen import kl, sample

ROBUST = {
    "a Huber loss": lambda o, x: F.smooth_l1_loss(o, x, reduction="sum"),
    "the likelihood of a Student distribution": (
        lambda o, x: -torch.distributions.StudentT(4.0, o, 0.5).log_prob(x).sum()
    ),
    "the logarithm of a cosh": lambda o, x: 3 * (o - x).cosh().log().sum(),
    "a Charbonnier loss": lambda o, x: ((o - x) ** 2 + 1e-2).sqrt().mean(),
}


def draw(name, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(name)))


@pytest.mark.parametrize("name", ROBUST)
def test_a_robust_loss_is_recognised(name, user):
    assert robust_loss(ROBUST[name], draw, 7) == name


@pytest.mark.parametrize("name", FAMILIES)
def test_a_likelihood_that_is_known_is_none(name, user):
    assert robust_loss(FAMILIES[name].nll, draw, 7) == ""


@pytest.mark.parametrize("name", [n for n, mutant in BANK.items() if mutant.slot == "nll"])
def test_a_bug_is_none(name, user):
    assert robust_loss(BANK[name].subject().nll, draw, 7) == ""


def test_a_term_on_which_outputs_have_no_effect_is_none(user):
    assert robust_loss(lambda outputs, x: 0 * outputs.sum(), draw, 7) == ""


@pytest.mark.parametrize("name", ROBUST)
def test_a_vae_with_one_is_not_accused(name, user):
    report = verify(
        Subject(name="robust", kl=kl, reparameterize=sample, nll=ROBUST[name]), only="[kol]*"
    )
    assert report.failures == ()
    left = {r.claim.id: r.message for r in report.results}
    assert name in left["likelihood/named"]
    assert name in left["likelihood/value"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROBUST)
def test_the_audit_of_one_accuses_nobody(name, user):
    net = Textbook()

    def step():
        mu, logvar = net.encoder(images()).chunk(2, dim=-1)
        return ROBUST[name](net.decoder(net.sample(mu, logvar)), images()) + net.kl(mu, logvar)

    found = audit_step(step)
    assert found.reason == f"the reconstruction is {name}, which is not judged"
    assert found.report.failures == ()
    assert found.report.counts["pass"] > 30
