"""The evidence of a VAE with a hidden layer, and what bounds it: no test here draws a sample.

So none can raise a false alarm. What is left is the error of quadrature, which a decoder of
rectified linear units makes fall with the squared spacing of the grid.
"""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from vae_ref import (
    VAE,
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    ImageSet,
    InputError,
    LinearVAE,
    Recipe,
    Run,
    elbo,
    exact_elbo,
    exact_log_evidence,
    fit,
    importance_weighted_bound,
    log_density,
    log_evidence,
    log_weight,
    posterior_gap,
)

# The family, the latents, and the accuracy to ask for: a plane has fewer points per axis.
CASES = [
    (Bernoulli(), 1, 1e-6),
    (ContinuousBernoulli(), 1, 1e-6),
    (Gaussian(0.02), 1, 1e-6),
    (Bernoulli(), 2, 1e-5),
    (ContinuousBernoulli(), 2, 1e-5),
]


@pytest.fixture(scope="module", autouse=True)
def double_precision_of_fixtures():
    """Those of a whole module are made before a test asks for double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def slow(case):
    """The plane takes half a minute."""
    return [pytest.mark.slow] * (case[1] == 2)


@pytest.fixture(
    scope="module",
    params=[pytest.param(c, id=f"{c[0]}-{c[1]}", marks=slow(c)) for c in CASES],
)
def case(request):
    """A VAE after ten epochs, some images, and an accuracy."""
    likelihood, latent, atol = request.param
    torch.manual_seed(0)
    images = 0.5 + 0.4 * torch.randn(500, 3) @ torch.randn(3, 9)  # mostly black or white
    pixels = (images * 255).round().clamp(0, 255).to(torch.uint8)
    data = ImageSet(pixels, torch.zeros(500, dtype=torch.int64), (3, 3))
    model = VAE(9, 12, latent, likelihood=likelihood)
    run = Run(
        recipe=Recipe(dataset="glyphs", latent_dim=latent, batch_size=50),
        size=(3, 3),
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-2, fused=True),
    )
    list(fit(run, data, data, epochs=10))
    return model, data.batch(torch.arange(3), torch.float64), atol


@pytest.fixture(scope="module")
def answers(case):
    """log p(x), the ELBO, and the divergence of q from the posterior."""
    model, x, atol = case
    return tuple(f(model, x, atol=atol) for f in (log_evidence, elbo, posterior_gap))


def test_the_elbo_is_below_the_evidence_by_the_divergence_from_the_posterior(case, answers):
    evidence, bound, gap = answers
    assert (bound < evidence).all()
    torch.testing.assert_close(evidence - bound, gap, rtol=0, atol=3 * case[2])
    assert (gap > 100 * case[2]).all(), "nothing to see"


class Oracle:
    """The same integrals in numpy: Gauss-Legendre between the kinks, along one axis exactly.

    Along an axis the logarithm of the integrand is smooth between the points where a hidden
    unit switches; what is left along the other axis has no kink.
    """

    nodes, weights = np.polynomial.legendre.leggauss(8)

    def __init__(self, model, x):
        self.model, self.x = model, x.numpy()
        with torch.no_grad():
            self.w1, self.b1, self.w2, self.b2 = (p.numpy() for p in model.decoder.parameters())
            self.mu, self.logvar = (code.numpy() for code in model.encode(x))

    def panels(self, cuts):
        """Nodes and weights of the panels between cuts."""
        half = np.diff(cuts)[:, None] / 2
        return (cuts[:-1, None] + half + half * self.nodes).ravel(), (half * self.weights).ravel()

    def rule(self):
        even = np.linspace(-10, 10, 121)
        if self.model.latent_dim == 1:
            z, weight = self.panels(np.sort([*even, *(-self.b1 / self.w1[:, 0])]))
            return z[:, None], weight
        codes, weights = [], []
        for second, outer in zip(*self.panels(even), strict=True):
            kinks = -(self.b1 + self.w1[:, 1] * second) / self.w1[:, 0]
            first, inner = self.panels(np.sort([*even, *kinks[np.abs(kinks) < 10]]))
            codes.append(np.stack([first, np.full_like(first, second)], 1))
            weights.append(inner * outer)
        return np.concatenate(codes), np.concatenate(weights)

    def log_likelihood(self, z, x):
        eta = np.maximum(z @ self.w1.T + self.b1, 0) @ self.w2.T + self.b2
        if isinstance(self.model.likelihood, Gaussian):
            return stats.norm(eta, math.sqrt(self.model.likelihood.variance)).logpdf(x).sum(1)
        log_p = x * special.log_expit(eta) + (1 - x) * special.log_expit(-eta)
        if isinstance(self.model.likelihood, ContinuousBernoulli):
            # Loaiza-Ganem and Cunningham's normaliser 2 atanh(1 - 2 p) / (1 - 2 p), p = expit(eta)
            log_p += np.log(eta / np.tanh(eta / 2))
        return log_p.sum(1)

    def answers(self):
        """log p(x), the ELBO, and the divergence of q from the posterior, for every example."""
        z, weight = self.rule()
        prior = stats.norm.logpdf(z).sum(1)
        result = []
        for x, mu, logvar in zip(self.x, self.mu, self.logvar, strict=True):
            log_p = self.log_likelihood(z, x)
            log_q = stats.norm(mu, np.exp(logvar / 2)).logpdf(z).sum(1)
            q = weight * np.exp(log_q)
            evidence = special.logsumexp(log_p + prior, b=weight)
            gap = q @ (log_q - (log_p + prior - evidence))
            result.append((evidence, q @ (log_p + prior - log_q), gap))
        return torch.tensor(result).T


def test_against_an_integral_that_knows_the_kinks(case, answers):
    model, x, atol = case
    expected = Oracle(model, x).answers()
    torch.testing.assert_close(torch.stack(answers), expected, rtol=0, atol=3 * atol)


def log_weights(model, x, count):
    """Return a grid of draws of q as a discrete law: log w, and the probability of each."""
    axis = torch.linspace(-8, 8, count)
    eps = torch.cartesian_prod(*[axis] * model.latent_dim).view(-1, 1, model.latent_dim)
    zero = torch.zeros(model.latent_dim)
    probability = log_density(eps, zero[None], zero[None]).softmax(0)[:, 0]
    mu, logvar = model.encode(x[None])
    z = mu + torch.exp(logvar / 2) * eps
    outputs = model.decode_logits(z)
    weights = log_weight(x[None], outputs, z, mu, logvar, likelihood=model.likelihood)
    return weights[:, 0].detach(), probability.detach()


def expected_bound(weights, probability, evidence, samples):
    r"""Compute the expectation of the importance-weighted bound over K draws, by one integral.

    With the Laplace transform M of w / p(x), and Frullani's log S = int (e^-t - e^-tS) / t dt,

        E L_K = log p(x) + int_0^infinity (e^-t - M(t / K)^K) / t dt,    t = e^u.
    """
    step = 0.25  # halving it changes no digit
    t = torch.arange(-40, 100, step).exp()
    transform = torch.exp(-t[:, None] / samples * torch.exp(weights - evidence)) @ probability
    return evidence + step * (torch.exp(-t) - transform**samples).sum()


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_the_expected_bound_is_the_average_of_the_bound_over_all_draws(case, samples):
    """The function of the package, at every combination of K nodes."""
    model, x, _ = case
    weights, probability = log_weights(model, x[0], {1: 41, 2: 7}[model.latent_dim])
    indices = torch.cartesian_prod(*[torch.arange(len(weights))] * samples).view(-1, samples)
    bound = importance_weighted_bound(weights[indices].T)
    average = (probability[indices].prod(1) * bound).sum()
    evidence = (weights.exp() @ probability).log()
    got = expected_bound(weights, probability, evidence, samples)
    torch.testing.assert_close(got, average, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("example", [0, 1])
def test_the_importance_weighted_bound_rises_from_the_elbo_to_the_evidence(case, answers, example):
    """In expectation, exactly: every fourfold K gains, and none passes log p(x)."""
    model, x, atol = case
    evidence, bound, gap = (answer[example] for answer in answers)
    weights, probability = log_weights(model, x[example], {1: 2001, 2: 161}[model.latent_dim])
    counts = [4**k for k in range(7)]
    means = torch.stack([expected_bound(weights, probability, evidence, k) for k in counts])
    error = 10 * atol  # of this grid, which is a coarser one
    torch.testing.assert_close(means[0], bound, rtol=0, atol=error)
    assert (means.diff() > 0).all()
    assert means[0] < evidence - 0.9 * gap
    assert means[-1] < evidence + error
    assert means[-1] > evidence - 0.1 * gap


@pytest.mark.parametrize("latent", [1, 2])
def test_of_a_linear_decoder_to_all_digits(latent):
    """Nothing has a kink there: the trapezoid rule converges faster than any power."""
    torch.manual_seed(0)
    model, x = LinearVAE(9, latent), torch.rand(4, 9)
    torch.nn.init.constant_(model.likelihood.logvar, -2)
    evidence, bound = exact_log_evidence(model, x).detach(), exact_elbo(model, x).detach()
    close = {"rtol": 0, "atol": 1e-10}
    torch.testing.assert_close(log_evidence(model, x), evidence, **close)
    torch.testing.assert_close(elbo(model, x), bound, **close)
    torch.testing.assert_close(posterior_gap(model, x), evidence - bound, **close)


def test_a_posterior_that_is_the_prior_has_no_gap():
    """A decoder that ignores its code."""
    model = VAE(9, 12, 2)
    for parameter in (*model.mu.parameters(), *model.logvar.parameters()):
        torch.nn.init.zeros_(parameter)
    torch.nn.init.zeros_(model.decoder[0].weight)
    x = torch.rand(4, 9)
    expected = -model.likelihood.nll(model.decode_logits(torch.zeros(4, 2)), x).detach()
    torch.testing.assert_close(log_evidence(model, x), expected)
    torch.testing.assert_close(elbo(model, x), expected)
    torch.testing.assert_close(posterior_gap(model, x), torch.zeros(4), rtol=0, atol=1e-10)


FUNCTIONS = pytest.mark.parametrize("function", [log_evidence, elbo, posterior_gap])


@FUNCTIONS
@pytest.mark.parametrize("shape", [(9,), (1, 9), (2, 3, 9), (0, 9)])
def test_of_any_batch(function, shape):
    x = torch.rand(shape)
    assert function(VAE(9, 3, 1), x, atol=1e-3).shape == shape[:-1]


@FUNCTIONS
def test_of_images(function):
    model, x = VAE(9, 3, 1), torch.rand(4, 3, 3)
    expected = function(model, x.flatten(1), atol=1e-3)
    torch.testing.assert_close(function(model, x, atol=1e-3), expected)


@FUNCTIONS
def test_of_three_latents(function):
    with pytest.raises(InputError, match="^model must have one or two latents; got 3"):
        function(VAE(9, 3, 3), torch.rand(4, 9))


@FUNCTIONS
def test_of_a_model_in_single_precision(function):
    with pytest.raises(InputError, match="^model must be in double precision; got torch.float32"):
        function(VAE(9, 3, 1).float(), torch.rand(4, 9, dtype=torch.float32))


@pytest.mark.slow
@FUNCTIONS
def test_of_detail_too_fine_for_a_grid(function):
    model = VAE(9, 3, 2, likelihood=Gaussian(1e-9))
    with pytest.raises(InputError, match="^atol must be within reach of 2048 points per axis"):
        function(model, torch.rand(1, 9), atol=1e-12)
