"""The importance-weighted bound: exact where the posterior is, and rising with K."""

import math

import pytest
import torch
from draws import arrays
from hypothesis import given
from levels import Z

from vae_ref import (
    Gaussian,
    importance_weighted_bound,
    log_density,
    log_weight,
    negative_elbo,
    reparameterize,
)


class LinearGaussian:
    """p(x|z) = N(W z + b, s^2 I) with orthogonal columns: log p(x) and p(z|x) are closed forms."""

    def __init__(self, pixels: int = 7, latent: int = 3, variance: float = 0.4) -> None:
        generator = torch.Generator().manual_seed(0)
        matrix, self.bias = (
            torch.randn(*shape, generator=generator, dtype=torch.float64)
            for shape in ((pixels, latent), (pixels,))
        )
        self.weight = torch.linalg.qr(matrix).Q / torch.arange(1, latent + 1) * 2
        self.likelihood = Gaussian(variance)
        self.variance = variance

    def decode(self, z):
        return z @ self.weight.T + self.bias

    def posterior(self, x):
        """The posterior: its precision I + W'W / s^2 is diagonal."""
        precision = 1 + self.weight.square().sum(0) / self.variance
        mu = (x - self.bias) @ self.weight / self.variance / precision
        return mu, -precision.log().expand_as(mu)

    def log_marginal(self, x):
        covariance = self.weight @ self.weight.T + self.variance * torch.eye(len(self.bias)).to(
            self.bias
        )
        normal = torch.distributions.MultivariateNormal(self.bias, covariance)
        return normal.log_prob(x)


MODEL = LinearGaussian()


@given(
    arrays((4, 7), -5, 5),
    arrays((6, 4, 3), -4, 4),
)
def test_at_the_true_posterior_every_weight_is_the_evidence(x, eps):
    """log p(x, z) - log q(z|x) = log p(x) for every z: the whole objective, without any noise."""
    x, eps = torch.tensor(x), torch.tensor(eps)
    mu, logvar = MODEL.posterior(x)
    z = reparameterize(mu, logvar, eps)
    weights = log_weight(x, MODEL.decode(z), z, mu, logvar, likelihood=MODEL.likelihood)
    evidence = MODEL.log_marginal(x)
    torch.testing.assert_close(weights, evidence.expand(6, 4), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(
        importance_weighted_bound(weights), evidence, rtol=1e-11, atol=1e-11
    )


def test_gradients_of_the_weights():
    """Of the numbers that they are, q's part included: nothing is detached."""
    x = MODEL.bias + torch.linspace(-1, 1, 7)
    mu, logvar = (number + 0.3 for number in MODEL.posterior(x))
    eps = torch.linspace(-1.5, 1.5, 6).reshape(2, 3)

    def weights(mu, logvar):
        z = reparameterize(mu, logvar, eps)
        return log_weight(x, MODEL.decode(z), z, mu, logvar, likelihood=MODEL.likelihood)

    arguments = tuple(number.requires_grad_() for number in (mu, logvar))
    assert torch.autograd.gradcheck(weights, arguments)


def exact_elbo(x, mu, logvar):
    """The expectation of the squared error under q is a closed form for a linear decoder."""
    spread = (MODEL.weight.square().sum(0) * logvar.exp()).sum(-1) / (2 * MODEL.variance)
    terms = negative_elbo(x, MODEL.decode(mu), mu, logvar, likelihood=MODEL.likelihood)
    return -(terms.loss() + spread)


@given(
    arrays((4, 7), -5, 5),
    arrays((2, 4, 3), -2, 2),
)
def test_the_elbo_misses_the_evidence_by_the_divergence_from_the_posterior(x, offsets):
    x, (shift, widen) = torch.tensor(x), torch.tensor(offsets)
    true_mu, true_logvar = MODEL.posterior(x)
    mu, logvar = true_mu + shift, true_logvar + widen
    q, p = (
        torch.distributions.Normal(m, (v / 2).exp())
        for m, v in ((mu, logvar), (true_mu, true_logvar))
    )
    gap = torch.distributions.kl_divergence(q, p).sum(-1)
    torch.testing.assert_close(
        MODEL.log_marginal(x) - exact_elbo(x, mu, logvar), gap, rtol=1e-10, atol=1e-10
    )


@pytest.fixture(scope="module")
def bounds():
    """Bounds with K = 1, 2, 4, ..., 256 at a wrong posterior, 4000 independent ones of each."""
    generator = torch.Generator().manual_seed(20131220)
    x = MODEL.bias + torch.tensor([1.0, -2.0, 0.5, 0.0, 1.5, -1.0, 0.3])
    mu, logvar = MODEL.posterior(x[None])
    mu, logvar = mu + 0.3, logvar + 0.5
    result = {}
    for k in (1, 2, 4, 16, 64, 256):
        eps = torch.randn(k, 4000, 1, 3, generator=generator, dtype=torch.float64)
        z = reparameterize(mu, logvar, eps)[:, :, 0]
        weights = log_weight(x, MODEL.decode(z), z, mu[0], logvar[0], likelihood=MODEL.likelihood)
        result[k] = importance_weighted_bound(weights)
    return x, mu, logvar, result


def test_one_sample_is_the_elbo_in_the_mean(bounds):
    x, mu, logvar, by_k = bounds
    elbo = exact_elbo(x[None], mu, logvar).item()
    error = by_k[1].std().item() / math.sqrt(4000)
    assert abs(by_k[1].mean().item() - elbo) <= Z * error


def test_the_bound_rises_with_k(bounds):
    by_k = bounds[3]
    means = [by_k[k].mean().item() for k in sorted(by_k)]
    errors = [by_k[k].std().item() / math.sqrt(4000) for k in sorted(by_k)]
    for k in range(len(means) - 1):
        assert means[k + 1] > means[k] - Z * math.hypot(errors[k], errors[k + 1])
    assert means[3] - means[0] > Z * math.hypot(errors[0], errors[3]), "no rise to be seen"


def test_the_bound_reaches_the_evidence_and_never_passes_it(bounds):
    x, _, _, by_k = bounds
    evidence = MODEL.log_marginal(x[None]).item()
    for k, bound in by_k.items():
        mean, error = bound.mean().item(), bound.std().item() / math.sqrt(4000)
        assert mean <= evidence + Z * error
        if k == 256:
            # the gap is Var(w) / (2 K E[w]^2) to first order, below 0.01 nats here
            assert mean >= evidence - 0.01 - Z * error


def test_one_more_sample_never_hurts_whatever_the_weights():
    """A law of any weights: the mean over subsets of K - 1 bounds is at most the bound of K."""
    torch.manual_seed(0)
    weights = torch.randn(6, 50) * 3
    subsets = [importance_weighted_bound(weights[torch.arange(6) != out]) for out in range(6)]
    assert (torch.stack(subsets).mean(0) <= importance_weighted_bound(weights) + 1e-12).all()


def test_is_stable_for_weights_far_below_the_smallest_number():
    weights = torch.tensor([[-5000.0], [-5000.0 + math.log(3)]])
    assert importance_weighted_bound(weights).item() == pytest.approx(-5000 + math.log(2))


@given(arrays((3, 4, 5), -5, 5))
def test_log_density_is_torchs(numbers):
    z, mu, logvar = torch.tensor(numbers)
    expected = torch.distributions.Normal(mu, (logvar / 2).exp()).log_prob(z).sum(-1)
    torch.testing.assert_close(log_density(z, mu, logvar), expected, rtol=1e-12, atol=1e-12)
