"""KL(N(mu, sigma^2) || N(0, I)): one function, held against every other way of computing it."""

import math

import mpmath
import numpy as np
import pytest
import torch
from draws import arrays, reals
from hypothesis import example, given
from hypothesis import strategies as st
from levels import Z, detectable
from scipy import integrate, stats

from vae_ref import kl_between, kl_to_standard_normal, log_density

EPS = torch.finfo(torch.float64).eps

MODERATE = reals(-4, 4)


def exact(mu: float, logvar: float) -> mpmath.mpf:
    """The textbook's formula with 60 digits more than the largest cancellation takes."""
    with mpmath.workdps(400):
        m, v = mpmath.mpf(mu), mpmath.mpf(logvar)
        return (m * m + mpmath.expm1(v) - v) / 2


@pytest.mark.slow
@given(MODERATE, MODERATE)
def test_is_the_integral_of_q_log_q_over_p(mu, logvar):
    sigma = math.exp(logvar / 2)
    q, p = stats.norm(mu, sigma), stats.norm()
    integral, error = integrate.quad(
        lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)),
        mu - 40 * sigma,
        mu + 40 * sigma,
        points=[mu],
        epsabs=1e-11,
        limit=200,
    )
    kl = kl_to_standard_normal(torch.tensor([mu]), torch.tensor([logvar])).item()
    assert abs(kl - integral) <= error + 1e-10


@pytest.mark.parametrize(
    ("mu", "logvar"),
    [
        ([0.0], [0.0]),
        ([0.05], [-0.1]),
        ([1.0], [0.5]),
        ([-2.0], [1.0]),
        ([0.0], [-3.0]),
        ([0.3, -0.7, 1.1], [0.2, -1.5, -0.4]),
        ([0.0] * 20, [-0.2] * 20),
    ],
)
def test_is_the_mean_of_log_q_minus_log_p(mu, logvar):
    """Monte Carlo with the estimator's exact variance.

    log q - log p is quadratic in eps, with variance sum (sigma^2 - 1)^2 / 2 + mu^2 sigma^2.
    Finds, for example, a factor of 2 in each of these cases but the first, where KL = 0 exactly.
    """
    n = 1_000_000 // len(mu)
    m, sigma = np.array(mu), np.exp(np.array(logvar) / 2)
    z = m + sigma * np.random.default_rng(20131220).standard_normal((n, len(mu)))
    sample = (stats.norm.logpdf(z, m, sigma) - stats.norm.logpdf(z)).sum(-1)
    deviation = math.sqrt(((sigma**2 - 1) ** 2 / 2 + m**2 * sigma**2).sum())

    kl = kl_to_standard_normal(torch.tensor(mu), torch.tensor(logvar)).item()
    assert abs(sample.mean() - kl) <= Z * deviation / math.sqrt(n) + 1e-15
    assert kl == 0 or detectable(deviation, n) < kl / 2, "the sample is too small to tell"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(data=st.data())
def test_is_correct_to_a_few_units_in_the_last_place(dtype, data):
    """Three non-negative terms, each with at most 4 roundings magnified by at most 2."""
    width = 32 if dtype == torch.float32 else 64
    scale = 2.0 ** data.draw(st.integers(-40, 6))
    number = st.floats(-scale, scale, width=width).filter(lambda v: v == 0 or abs(v) > 1e-15)
    mu, logvar = data.draw(number), data.draw(number)
    kl = kl_to_standard_normal(
        torch.tensor([mu], dtype=dtype), torch.tensor([logvar], dtype=dtype)
    )
    truth = exact(mu, logvar)
    assert abs(kl.item() - truth) <= 4 * torch.finfo(dtype).eps * truth


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_is_finite_up_to_the_largest_number(dtype):
    largest = torch.finfo(dtype).max
    edge = [
        (0.999 * math.sqrt(2) * math.sqrt(largest), 0.0),
        (0.0, math.log(largest) + math.log(2) - 1e-3),
        (0.0, -largest),
    ]
    for mu, logvar in edge:
        m, v = torch.tensor([mu], dtype=dtype), torch.tensor([logvar], dtype=dtype)
        truth = exact(m.item(), v.item())
        assert truth < largest
        assert (
            abs(kl_to_standard_normal(m, v).item() - truth) <= 4 * torch.finfo(dtype).eps * truth
        )


@given(MODERATE, MODERATE)
@example(0.0, 0.0)
@example(0.0, 1e-9)
@example(1e-9, 0.0)
def test_is_zero_at_the_prior_and_positive_elsewhere(mu, logvar):
    kl = kl_to_standard_normal(torch.tensor([mu]), torch.tensor([logvar])).item()
    assert (kl == 0) == (exact(mu, logvar) < 1e-320)
    assert kl >= 0


@given(arrays((2, 3, 5), -30, 30))
def test_gradients_are_mu_and_half_of_variance_minus_one(numbers):
    mu, logvar = torch.tensor(numbers).requires_grad_().unbind()
    dmu, dlogvar = torch.autograd.grad(kl_to_standard_normal(mu, logvar).sum(), (mu, logvar))
    torch.testing.assert_close(dmu, mu.detach(), rtol=0, atol=0)
    torch.testing.assert_close(dlogvar, torch.expm1(logvar.detach()) / 2, rtol=2e-15, atol=0)


def test_second_derivatives_exist():
    mu, logvar = torch.linspace(-2, 2, 8).reshape(2, 4).requires_grad_().unbind()
    assert torch.autograd.gradgradcheck(kl_to_standard_normal, (mu, logvar))


def test_forward_mode_agrees_with_reverse():
    mu, logvar = torch.linspace(-2, 2, 8).reshape(2, 4)

    def total(v):
        return kl_to_standard_normal(mu, v)

    torch.testing.assert_close(torch.func.jacfwd(total)(logvar), torch.func.jacrev(total)(logvar))
    second = torch.func.hessian(total)(logvar)
    torch.testing.assert_close(second, torch.diag(logvar.exp() / 2))


@given(arrays((2, 4, 3), -4, 4), st.permutations(range(3)))
def test_is_a_sum_over_latents_in_any_order(numbers, order):
    mu, logvar = torch.tensor(numbers)
    whole = kl_to_standard_normal(mu, logvar)
    parts = kl_to_standard_normal(mu[..., None], logvar[..., None])
    torch.testing.assert_close(whole, parts.sum(-1))
    torch.testing.assert_close(whole, kl_to_standard_normal(mu[:, order], logvar[:, order]))


@given(arrays((4, 3, 5), -4, 4))
def test_between_two_gaussians_agrees_with_torch(numbers):
    mu_q, logvar_q, mu_p, logvar_p = torch.tensor(numbers)
    q, p = (
        torch.distributions.Normal(m, (v / 2).exp())
        for m, v in ((mu_q, logvar_q), (mu_p, logvar_p))
    )
    ours, theirs = (
        kl_between(mu_q, logvar_q, mu_p, logvar_p),
        torch.distributions.kl_divergence(q, p),
    )
    # torch subtracts: a few roundings of each coordinate's largest term
    largest = (mu_q - mu_p).square() * torch.exp(-logvar_p) + torch.exp(logvar_q - logvar_p) + 9
    assert ((ours - theirs.sum(-1)).abs() <= 8 * EPS * largest.sum(-1)).all()


@pytest.mark.parametrize("logvar", [-180.0, -90.0, 90.0, 170.0])
def test_zero_distance_stays_zero_where_one_over_sigma_overflows(logvar):
    zero, v = torch.zeros(1).float(), torch.full((1,), logvar).float()
    assert kl_between(zero, v, zero, v).item() == 0
    expected = -0.5 * (math.log(2 * math.pi) + logvar)
    assert log_density(zero, zero, v).item() == pytest.approx(expected, rel=1e-6)


@given(arrays((2, 3, 5), -4, 4))
def test_between_a_gaussian_and_itself_is_zero(numbers):
    mu, logvar = torch.tensor(numbers)
    assert (kl_between(mu, logvar, mu, logvar) == 0).all()


def test_maps_over_a_batch_of_models():
    mu, logvar = torch.linspace(-2, 2, 24).reshape(2, 3, 4)
    torch.testing.assert_close(
        torch.func.vmap(kl_to_standard_normal)(mu, logvar), kl_to_standard_normal(mu, logvar)
    )
