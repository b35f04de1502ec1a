"""Robust and weighed losses are recognised, and nothing else is; no VAE is accused of them."""

import pytest
import torch
import torch.nn.functional as F
from steps import Textbook, images
from torch import nn

from vae_ref.conformance import Subject, audit_step, verify
from vae_ref.conformance.answers.multinomial import multinomial
from vae_ref.conformance.answers.oracles import FAMILIES
from vae_ref.conformance.answers.robust import robust_loss
from vae_ref.conformance.answers.weighed import weighed_loss
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


def foreground(o, x):
    return ((1 + 4 * (x > 0.5)) * F.binary_cross_entropy(o, x, reduction="none")).sum()


def balanced(o, x):
    share = (len(x.flatten()) - x.sum()) / x.sum()
    return F.binary_cross_entropy_with_logits(o, x, pos_weight=share)


def focal(o, x, gamma=2.0, alpha=0.25):
    p = torch.sigmoid(o)
    p_x = p * x + (1 - p) * (1 - x)
    weight = alpha * x + (1 - alpha) * (1 - x)
    bce = F.binary_cross_entropy_with_logits(o, x, reduction="none")
    return (weight * (1 - p_x) ** gamma * bce).sum(1).mean()


def focal_of_probabilities(p, x):
    black = -(p**3) * torch.log1p(-p)
    return torch.where(x > 0.5, -((1 - p) ** 3) * p.log(), black).sum()


WEIGHED = {
    "a cross-entropy that is weighed by the data": [foreground],
    "a cross-entropy of logits that is weighed by the data": [balanced],
    "a squared error that is weighed by the data": [lambda o, x: ((1 + x) * (o - x) ** 2).sum()],
    "a focal loss with gamma 2": [focal],
    "a focal loss with gamma 3": [focal_of_probabilities],
}
MEANT = [(name, nll) for name, nll in ROBUST.items()]
MEANT += [(name, nll) for name, terms in WEIGHED.items() for nll in terms]
MEANT += [
    ("the likelihood of a multinomial distribution", nll)
    for nll in (
        lambda o, x: -(F.log_softmax(o, 1) * x).sum(),
        lambda o, x: -(F.log_softmax(o, 1) * x).sum(1).mean(),
    )
]


def recognised(nll):
    return robust_loss(nll, draw, 7) or weighed_loss(nll, draw, 7) or multinomial(nll, draw, 7)


def draw(name, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(name)))


@pytest.mark.parametrize(("name", "nll"), MEANT)
def test_a_loss_is_recognised(name, nll, user):
    assert recognised(nll) == name


@pytest.mark.parametrize("name", FAMILIES)
def test_a_likelihood_that_is_known_is_none(name, user):
    assert recognised(FAMILIES[name].nll) == ""


@pytest.mark.parametrize("name", [n for n, mutant in BANK.items() if mutant.slot == "nll"])
def test_a_bug_is_none(name, user):
    assert recognised(BANK[name].subject().nll) == ""


@pytest.mark.parametrize(
    "term",
    [
        lambda outputs, x: 0 * outputs.sum(),
        lambda outputs, x: -(outputs * x.log() + (1 - outputs) * (1 - x).log()).sum(),
    ],
    ids=["no slope", "infinite slopes"],
)
def test_a_term_without_a_finite_slope_is_none(term, user):
    assert recognised(term) == ""


@pytest.mark.parametrize(
    ("name", "nll"),
    [
        pytest.param(*meant, marks=[pytest.mark.slow] * (index % 3 > 0))
        for index, meant in enumerate(MEANT)
    ],
)
def test_a_vae_with_one_is_not_accused(name, nll, user):
    report = verify(Subject(name="meant", kl=kl, reparameterize=sample, nll=nll), only="[kol]*")
    assert report.failures == ()
    left = {r.claim.id: r.message for r in report.results}
    assert name in left["likelihood/named"]
    assert name in left["likelihood/value"]


@pytest.mark.parametrize(
    "softmax",
    [
        torch.softmax,
        pytest.param(lambda o, dim: o.softmax(dim) + 1e-10, marks=pytest.mark.slow),
    ],
)
def test_the_audit_of_a_softmax_accuses_nobody(softmax, user):
    """With probabilities, too: their logits tell which likelihood it is."""
    net, x = Textbook(), images().round()

    def step():
        mu, logvar = net.encoder(x).chunk(2, dim=-1)
        p = softmax(net.decoder(net.sample(mu, logvar)), dim=1)
        return -(x * p.log()).sum() + net.kl(mu, logvar)

    found = audit_step(step)
    assert "multinomial" in found.reason
    assert found.report.failures == ()
    assert found.report.counts["pass"] > 30


@pytest.mark.slow
@pytest.mark.parametrize(("name", "nll"), MEANT)
def test_the_audit_of_one_accuses_nobody(name, nll, user):
    net = Textbook()
    if nll in (foreground, focal_of_probabilities):
        net.decoder = nn.Sequential(net.decoder, nn.Sigmoid())

    def step():
        mu, logvar = net.encoder(images()).chunk(2, dim=-1)
        return nll(net.decoder(net.sample(mu, logvar)), images().round()) + net.kl(mu, logvar)

    found = audit_step(step)
    assert found.reason == f"the reconstruction is {name}, which is not judged"
    assert found.report.failures == ()
    assert found.report.counts["pass"] > 30
