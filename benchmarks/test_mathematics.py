"""The functions of the mathematics, next to naive formulas and to torch's own."""

import pytest
import torch
from torch import distributions
from torch.nn import functional as F

from vae_ref import (
    VAE,
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    Plan,
    glyphs,
    importance_weighted_bound,
    kl_to_standard_normal,
    log_likelihood,
    reparameterize,
)

BATCH, LATENT, PIXELS = 128, 20, 784


@pytest.fixture
def codes(device):
    """A batch of the textbook's size: mu and logvar."""
    return torch.randn(BATCH, LATENT, device=device), torch.randn(BATCH, LATENT, device=device)


@pytest.fixture
def pixels(device):
    """A batch of the textbook's size: outputs of the decoder, and images."""
    return torch.randn(BATCH, PIXELS, device=device), torch.rand(BATCH, PIXELS, device=device)


def naive_kl(mu, logvar):
    return -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(-1)


def distributions_kl(mu, logvar):
    prior = distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
    posterior = distributions.Normal(mu, torch.exp(0.5 * logvar))
    return distributions.kl_divergence(posterior, prior).sum(-1)


KL = {
    "vae_ref": kl_to_standard_normal,
    "naive": naive_kl,
    "torch.distributions": distributions_kl,
}


@pytest.mark.parametrize("contestant", KL)
def test_kl(measure, codes, contestant):
    found = measure("KL", KL[contestant], *codes)
    torch.testing.assert_close(found, kl_to_standard_normal(*codes))


@pytest.mark.parametrize("contestant", KL)
def test_kl_and_gradient(measure, codes, contestant):
    codes = [part.requires_grad_() for part in codes]

    def gradients(kl=KL[contestant]):
        return torch.autograd.grad(kl(*codes).sum(), codes)

    found = measure("KL and gradient", gradients)
    torch.testing.assert_close(found, gradients(kl_to_standard_normal))


SAMPLING = {
    "vae_ref": lambda mu, logvar: reparameterize(mu, logvar, torch.randn_like(mu)),
    "naive": lambda mu, logvar: mu + torch.randn_like(mu) * torch.exp(0.5 * logvar),
    "torch.distributions": lambda mu, logvar: distributions.Normal(
        mu, torch.exp(0.5 * logvar)
    ).rsample(),
}


@pytest.mark.parametrize("contestant", SAMPLING)
def test_sampling(measure, codes, contestant):
    assert measure("sampling", SAMPLING[contestant], *codes).shape == codes[0].shape


LIKELIHOOD = {
    "Bernoulli": {
        "vae_ref": Bernoulli().nll,
        "torch.nn": lambda outputs, x: F.binary_cross_entropy_with_logits(
            outputs, x, reduction="none"
        ).sum(-1),
        "naive": lambda outputs, x: F.binary_cross_entropy(
            outputs.sigmoid(), x, reduction="none"
        ).sum(-1),
    },
    "Gaussian": {
        "vae_ref": Gaussian().nll,
        "torch.distributions": lambda outputs, x: (
            -distributions.Normal(outputs, 0.5**0.5).log_prob(x).sum(-1)
        ),
    },
    "continuous Bernoulli": {
        "vae_ref": ContinuousBernoulli().nll,
        "torch.distributions": lambda outputs, x: (
            -distributions.ContinuousBernoulli(logits=outputs).log_prob(x).sum(-1)
        ),
    },
}


@pytest.mark.parametrize(
    ("likelihood", "contestant"), [(name, c) for name in LIKELIHOOD for c in LIKELIHOOD[name]]
)
def test_likelihood(measure, pixels, likelihood, contestant):
    found = measure(f"{likelihood} likelihood", LIKELIHOOD[likelihood][contestant], *pixels)
    torch.testing.assert_close(
        found, LIKELIHOOD[likelihood]["vae_ref"](*pixels), rtol=1e-4, atol=0
    )


BOUND = {
    "vae_ref": importance_weighted_bound,
    "naive": lambda log_weights: log_weights.exp().mean(0).log(),
}


@pytest.mark.parametrize("contestant", BOUND)
def test_importance_weighted_bound(measure, device, contestant):
    log_weights = torch.randn(50, 1000, device=device)
    found = measure("importance-weighted bound", BOUND[contestant], log_weights)
    torch.testing.assert_close(found, importance_weighted_bound(log_weights))


def test_importance_weighted_likelihood(measure, benchmark, device):
    """Of 100 images, with 50 samples for each."""
    torch.manual_seed(0)
    model, images = VAE().to(device), glyphs(100).to(device)

    def likelihood():
        return log_likelihood(model, images, samples=50, plan=Plan())

    found = measure("importance-weighted likelihood", likelihood)
    benchmark.extra_info["loss"] = -found.mean().item()
