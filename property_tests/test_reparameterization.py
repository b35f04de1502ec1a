"""z = mu + sigma * eps: its derivatives by autograd, and the law of its draws."""

import math

import numpy as np
import pytest
import torch
from draws import arrays
from hypothesis import given
from hypothesis import strategies as st
from levels import ALPHA, Z
from scipy import stats

from vae_ref import VAE, reparameterize

CASES = arrays((3, 4, 5), -5, 5)


@given(CASES)
def test_the_derivative_by_mu_is_one(numbers):
    mu, logvar, eps = torch.tensor(numbers)
    mu.requires_grad_()
    (dmu,) = torch.autograd.grad(reparameterize(mu, logvar, eps).sum(), mu)
    assert (dmu == 1).all()


@given(CASES)
def test_the_derivative_by_sigma_is_eps(numbers):
    mu, logvar, eps = torch.tensor(numbers)
    sigma = torch.exp(logvar / 2).requires_grad_()
    z = reparameterize(mu, 2 * sigma.log(), eps)
    (dsigma,) = torch.autograd.grad(z.sum(), sigma)
    torch.testing.assert_close(dsigma, eps, rtol=4e-15, atol=0)


@given(CASES)
def test_the_derivative_by_logvar_is_half_of_sigma_eps(numbers):
    mu, logvar, eps = torch.tensor(numbers)
    logvar.requires_grad_()
    (dlogvar,) = torch.autograd.grad(reparameterize(mu, logvar, eps).sum(), logvar)
    expected = torch.exp(logvar.detach() / 2) * eps / 2
    torch.testing.assert_close(dlogvar, expected, rtol=1e-15, atol=0)


@given(CASES, st.sampled_from([0, 1, 2]))
def test_each_draw_depends_on_its_own_numbers_alone(numbers, argument):
    arguments = tuple(torch.tensor(numbers).flatten(1))
    jacobian = torch.autograd.functional.jacobian(reparameterize, arguments)[argument]
    assert (jacobian[~torch.eye(len(jacobian), dtype=torch.bool)] == 0).all()


@pytest.mark.parametrize(("mu", "logvar"), [(0.0, 0.0), (3.0, -4.0), (-1.0, 2.5), (100.0, -10.0)])
class TestDraws:
    """n draws without given noise, as the textbook makes them, against N(mu, sigma^2).

    In this order: the exact tests of mean and variance, which find what they are directed at,
    then an omnibus test for everything else. At n = 400,000 and the level of the budget, the
    first finds a shift of 0.017 sigma and the second an error of sigma of 1.2 %.
    """

    n = 400_000

    def standardized(self, mu: float, logvar: float) -> np.ndarray:
        torch.manual_seed(20131220)
        shape = (self.n // 20, 20)
        z = VAE().reparameterize(torch.full(shape, mu), torch.full(shape, logvar))
        return ((z - mu) / math.exp(logvar / 2)).flatten().numpy()

    def test_mean(self, mu, logvar):
        assert abs(self.standardized(mu, logvar).mean()) * math.sqrt(self.n) <= Z

    def test_variance(self, mu, logvar):
        total = (self.standardized(mu, logvar) ** 2).sum()
        assert stats.chi2.ppf(ALPHA / 2, self.n) <= total <= stats.chi2.isf(ALPHA / 2, self.n)

    def test_normality(self, mu, logvar):
        assert stats.kstest(self.standardized(mu, logvar), "norm").pvalue >= ALPHA

    def test_independence_of_examples_and_latents(self, mu, logvar):
        z = self.standardized(mu, logvar).reshape(-1, 20)
        for other in (np.roll(z, 1, 0), np.roll(z, 1, 1)):
            # the sum of n products of independent standard normals has variance n
            assert abs((z * other).sum()) / math.sqrt(self.n) <= Z


def test_two_calls_draw_different_noise_in_evaluation_too():
    model, code = VAE().eval(), torch.zeros(4, 20)
    first, second = model.reparameterize(code, code), model.reparameterize(code, code)
    assert (first != second).all()


def test_given_noise_several_draws_for_one_example():
    mu, logvar, eps = torch.randn(3, 2), torch.randn(3, 2), torch.randn(7, 3, 2)
    draws = reparameterize(mu, logvar, eps)
    for draw, noise in zip(draws, eps, strict=True):
        torch.testing.assert_close(draw, reparameterize(mu, logvar, noise), rtol=0, atol=0)
