"""The kit's own score, against torch.distributions and a model whose answer is known."""

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from vae_ref.conformance import Conventions, Subject
from vae_ref.conformance.mutants.specimen import halves, specimen
from vae_ref.conformance.probe.networks import Networks
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.trainings import scoring


@pytest.fixture
def networks():
    return Networks.of(Probe(specimen()))


def test_the_score_is_the_negative_elbo(networks):
    """The same noise through torch.distributions."""
    x, module = halves().held_out[:1500], networks.subject.module
    with torch.no_grad():
        mu, logvar = module.encode(x)
        q = Normal(mu.double(), torch.exp(logvar.double() / 2))
        z = q.mean + q.stddev * networks.probe.normal("score 0", *mu.shape)
        p = Bernoulli(module.decode(z.float()).double(), validate_args=False)
        reconstruction = -p.log_prob(x.double()).sum(1).mean()
        divergence = kl_divergence(q, Normal(0.0, 1.0)).sum(1).mean()
    found = scoring.score(networks, x)
    assert found.reconstruction == pytest.approx(float(reconstruction), rel=1e-5)
    assert found.divergence == pytest.approx(float(divergence), rel=1e-6)
    assert found.loss == found.reconstruction + found.divergence


def test_a_wrong_loss_does_not_mark_its_own_work(networks):
    wrong = replace(specimen(), loss=lambda *a: 0 * a[0].sum(), kl=lambda m, s: 0 * m.sum(1))
    x = halves().held_out[:200]
    assert scoring.score(Networks.of(Probe(wrong)), x) == pytest.approx(scoring.score(networks, x))


def linear():
    """z ~ N(0, I), x | z ~ N(W z, I), and the exact posterior, which is diagonal."""
    w = torch.diag(torch.tensor([2.0, 0.5, 1.0]))[:, :2].double()
    variance = 1 / (1 + w.square().sum(0))

    def encode(x):
        return x @ w * variance, variance.log().expand(len(x), 2)

    return w, Subject(
        name="linear",
        encode=encode,
        decode=lambda z: z @ w.T,
        conventions=Conventions(likelihood="gaussian", pixel_shape=(3,)),
    )


@pytest.mark.parametrize("samples", [1, 7, 60])
def test_of_the_exact_posterior_every_weight_is_the_evidence(samples):
    w, subject = linear()
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_w = scoring.log_weights(Networks.of(Probe(subject)), x, samples)
    law = MultivariateNormal(torch.zeros(3).double(), w @ w.T + torch.eye(3).double())
    exact = law.log_prob(x) + 1.5 * math.log(2 * math.pi)  # the kit leaves out the constant
    assert log_w.shape == (samples, 9)
    assert torch.allclose(log_w, exact.expand_as(log_w), atol=1e-10)
    assert scoring.bound(log_w) == pytest.approx(float(exact.mean()))


def test_the_bound_rises_with_the_samples_in_the_mean(networks):
    """L_1 <= L_K: the weights' log of mean against the mean of logs (Jensen)."""
    with torch.no_grad():
        log_w = scoring.log_weights(networks, halves().held_out[:50], 100)
    assert scoring.bound(log_w) > float(log_w.mean())


def test_active_latents():
    mu = torch.randn(500, 5) * torch.tensor([1.0, 0.2, 0.09, 0.01, 0.0])
    assert scoring.active_latents(mu) == 2


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_probabilities_that_were_rounded_to_0_or_1_score_finitely(probability):
    subject = Subject(
        name="sure",
        decode=lambda z: torch.full((len(z), 3), probability, dtype=torch.float32),
        conventions=Conventions(likelihood="bernoulli", pixel_shape=(3,), dtype="float32"),
    )
    found = scoring.nll(Networks.of(Probe(subject)), torch.zeros(2, 4), torch.full((2, 3), 0.5))
    assert bool(torch.isfinite(found).all())
    assert float(found[0]) > 10
