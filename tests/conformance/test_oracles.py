"""The oracles agree with each other and with scipy, torch.distributions and mpmath."""

import math

import mpmath
import pytest
import torch
from scipy import integrate, stats

from vae_ref.conformance.answers import oracles
from vae_ref.conformance.answers.oracles import FAMILIES
from vae_ref.conformance.claims.objective import _NODES, _KnownModel
from vae_ref.conformance.mutants.specimen import specimen
from vae_ref.conformance.runner import probe_of

POINTS = [(0.0, 0.0), (1.0, 0.5), (-2.0, -3.0), (0.3, 2.0), (1e-5, -1e-5), (0.0, 0.00999)]


@pytest.mark.parametrize(("mu", "logvar"), POINTS)
def test_three_ways_to_the_kl_agree(mu, logvar):
    closed = float(oracles.kl(torch.tensor(mu), torch.tensor(logvar)))
    assert math.isclose(
        closed, oracles.kl_in_fifty_digits(mu, logvar), rel_tol=1e-14, abs_tol=1e-300
    )
    assert math.isclose(closed, oracles.kl_by_quadrature(mu, logvar), abs_tol=1e-11)


def test_kl_against_torch():
    mu, logvar = torch.randn(50), torch.randn(50)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mu, (logvar / 2).exp()), normal(0.0, 1.0))
    assert torch.allclose(oracles.kl(mu, logvar), expected)


@pytest.mark.parametrize("x", [0.0, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("eta", [-30.0, -2.0, -0.019, 0.0, 1e-6, 0.021, 5.0, 30.0])
def test_the_continuous_bernoulli_against_fifty_digits(eta, x):
    with mpmath.workdps(50):
        e = mpmath.mpf(eta)
        log_c = mpmath.log(2) if eta == 0 else mpmath.log(e / mpmath.tanh(e / 2))
        exact = mpmath.log1p(mpmath.exp(e)) - x * e - log_c
    got = FAMILIES["continuous-bernoulli-logits"].nll(torch.tensor(eta), torch.tensor(x))
    assert math.isclose(float(got), float(exact), rel_tol=1e-12, abs_tol=1e-13)


@pytest.mark.parametrize("eta", [-3.0, 0.0, 1.5])
def test_the_continuous_bernoulli_is_a_density(eta):
    def density(x):
        nll = FAMILIES["continuous-bernoulli-logits"].nll(torch.tensor(eta), torch.tensor(x))
        return math.exp(-float(nll))

    assert math.isclose(integrate.quad(density, 0, 1)[0], 1, abs_tol=1e-10)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_output_is_better_than_the_best(name):
    family = FAMILIES[name]
    x = torch.tensor([0.1, 0.4, 0.8])
    best = family.best(x)
    least = family.nll(best, x)
    for step in (1e-2, -1e-2):
        other = torch.sigmoid(torch.logit(best) + step) if family.bounded else best + step
        assert bool((family.nll(other, x) > least).all())


@pytest.mark.parametrize("name", ["bernoulli", "continuous-bernoulli"])
def test_probabilities_and_logits_agree(name):
    eta, x = torch.linspace(-5, 5, 11), torch.linspace(0, 1, 11)
    of_probabilities = FAMILIES[name].nll(torch.sigmoid(eta), x)
    assert torch.allclose(of_probabilities, FAMILIES[f"{name}-logits"].nll(eta, x))


def test_gauss_hermite_integrates_polynomials_exactly():
    nodes, weights = oracles.gauss_hermite(12)
    for degree, moment in ((0, 1), (1, 0), (2, 1), (4, 3), (6, 15), (8, 105)):
        assert math.isclose(float((weights * nodes**degree).sum()), moment, abs_tol=1e-9)


@pytest.mark.slow
def test_the_nodes_of_the_known_model_are_enough():
    """For a Bernoulli likelihood, whose quadrature is never exact, over 30 models."""
    for seed in range(30):
        known = _KnownModel(probe_of(specimen(), seed), "gap")
        for mu, logvar in known.posteriors():
            few, many = (
                oracles.expectation(known.log_likelihood, *known.length(mu, logvar), n)
                for n in (_NODES, 100)
            )
            assert abs(float(few - many)) < 1e-9 * known.size()


def linear_gaussian():
    column = torch.tensor([1.0, -0.5, 0.2])
    x, variance = torch.tensor([0.5, -1.0, 0.3]), 0.4

    def log_likelihood(t):
        residual = ((x - t[:, None] * column) ** 2).sum(1)
        return -residual / (2 * variance) - 1.5 * math.log(2 * math.pi * variance)

    covariance = variance * torch.eye(3) + torch.outer(column, column)
    evidence = stats.multivariate_normal(cov=covariance.numpy()).logpdf(x.numpy())
    precision = 1 + float(column @ column) / variance
    mean = float(column @ x) / variance / precision
    return log_likelihood, float(evidence), mean, precision


def test_the_evidence_of_a_linear_gaussian_model_is_known():
    log_likelihood, evidence, *_ = linear_gaussian()
    assert math.isclose(oracles.log_evidence(log_likelihood), evidence, abs_tol=1e-10)


def test_the_expected_log_likelihood_of_a_linear_gaussian_model_is_known():
    log_likelihood, evidence, mean, precision = linear_gaussian()
    mu, logvar = torch.tensor(0.2), torch.tensor(-1.0)
    posterior = torch.distributions.Normal(mean, precision**-0.5)
    q = torch.distributions.Normal(mu, (logvar / 2).exp())
    gap = float(torch.distributions.kl_divergence(q, posterior))
    expected = float(oracles.expectation(log_likelihood, mu, q.stddev))
    assert math.isclose(float(oracles.kl(mu, logvar)) - expected + evidence, gap, abs_tol=1e-10)


def test_the_most_likely_code_is_near_the_least_squares_one():
    log_likelihood, _, mean, precision = linear_gaussian()
    least_squares = mean * precision / (precision - 1)
    assert abs(float(oracles.most_likely(log_likelihood)) - least_squares) <= 0.125
