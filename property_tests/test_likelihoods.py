"""A reconstruction term is the negative log-likelihood of a distribution that can be named."""

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from draws import arrays
from hypothesis import given
from hypothesis import strategies as st
from levels import Z
from scipy import integrate, stats

from vae_ref import Bernoulli, ContinuousBernoulli, Gaussian

LOGITS = arrays((3, 5), -30, 30)
PIXELS = arrays((3, 5), 0, 1)
BITS = arrays((3, 5), 0, 1).map(np.round)


@given(LOGITS, BITS)
def test_cross_entropy_is_scipys_bernoulli(logits, x):
    nll = Bernoulli().nll(torch.tensor(logits), torch.tensor(x))
    # log p(x = 1) = log_expit(logit), scipy's own stable form, by the odds of the outcome
    expected = -stats.bernoulli.logpmf(1, stats.logistic.cdf((2 * x - 1) * logits)).sum(-1)
    np.testing.assert_allclose(nll.numpy(), expected, rtol=1e-12, atol=1e-12)


@given(LOGITS, PIXELS)
def test_cross_entropy_of_a_grey_pixel_mixes_black_and_white(logits, x):
    logits, x = torch.tensor(logits)[..., None], torch.tensor(x)[..., None]
    black, white = (Bernoulli().nll(logits, torch.full_like(x, bit)) for bit in (0.0, 1.0))
    mixed = (1 - x[..., 0]) * black + x[..., 0] * white
    torch.testing.assert_close(Bernoulli().nll(logits, x), mixed, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("logit", [0.0, 10.0, 17.0, 88.0, 1e3, 1e30])
def test_cross_entropy_is_exact_for_every_float32_logit(logit):
    outputs = torch.tensor([[logit]], dtype=torch.float32, requires_grad=True)
    nll = Bernoulli().nll(outputs, torch.zeros(1, 1, dtype=torch.float32))
    truth = float(mpmath.log1p(mpmath.exp(-mpmath.mpf(logit))) + mpmath.mpf(logit))
    assert nll.item() == pytest.approx(truth, rel=2e-7)
    nll.sum().backward()
    assert outputs.grad.item() == pytest.approx(1 / (1 + math.exp(-min(logit, 700))), rel=2e-7)


@given(LOGITS, PIXELS, st.floats(0.01, 100))
def test_squared_error_is_scipys_normal(means, x, variance):
    nll = Gaussian(variance).nll(torch.tensor(means), torch.tensor(x))
    expected = -stats.norm.logpdf(x, means, math.sqrt(variance)).sum(-1)
    np.testing.assert_allclose(nll.numpy(), expected, rtol=1e-12, atol=1e-12)


@given(LOGITS, PIXELS)
def test_squared_error_is_the_default_plus_a_stated_constant(means, x):
    nll = Gaussian().nll(torch.tensor(means), torch.tensor(x))
    expected = ((x - means) ** 2).sum(-1) + 5 * math.log(math.pi) / 2
    np.testing.assert_allclose(nll.numpy(), expected, rtol=1e-13)


def test_mean_squared_error_is_half_the_pixels_as_variance():
    """The weight that hides in the M of MSE, by the ratio of gradients."""
    means, x = torch.randn(2, 3, 784).unbind()
    means.requires_grad_()
    (mse,) = torch.autograd.grad(torch.nn.functional.mse_loss(means, x) * 3, means)
    (nll,) = torch.autograd.grad(Gaussian(784 / 2).nll(means, x).sum(), means)
    torch.testing.assert_close(mse, nll)


def test_a_decoder_may_give_the_variance_too():
    means, variance, x = torch.randn(4, 6), torch.rand(4, 6) + 0.1, torch.randn(4, 6)
    expected = -torch.distributions.Normal(means, variance.sqrt()).log_prob(x).sum(-1)
    torch.testing.assert_close(Gaussian(variance).nll(means, x), expected)


ETAS = [
    -1e9,
    -1e4,
    -300.0,
    -30.0,
    -2.0,
    -1.0,
    -1e-3,
    -1e-8,
    0.0,
    1e-12,
    1e-5,
    0.5,
    1.999,
    2.0,
    25.0,
    1e3,
]


def exact_log_normaliser(eta: float) -> mpmath.mpf:
    eta = mpmath.mpf(eta)
    return mpmath.log(mpmath.expm1(eta) / eta) if eta else mpmath.mpf(0)


@pytest.mark.slow
@given(st.floats(-200, 200))
def test_continuous_bernoulli_integrates_to_one(eta):
    def density(x: float) -> float:
        return math.exp(-ContinuousBernoulli().nll(torch.tensor([eta]), torch.tensor([x])).item())

    # nearly all the mass is within 40 / |eta| of one end
    cut = min(1.0, 40 / abs(eta)) if eta else 1.0
    pieces = (0, cut, 1) if eta < 0 else (0, 1 - cut, 1)
    total = sum(integrate.quad(density, a, b, epsabs=1e-12)[0] for a, b in pairwise(pieces))
    assert total == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize("x", [0.0, 0.25, 0.5, 1.0])
def test_continuous_bernoulli_is_accurate_around_one_half_and_far_out(eta, x, dtype):
    outputs = torch.tensor([eta], dtype=dtype)
    nll = ContinuousBernoulli().nll(outputs, torch.tensor([x], dtype=dtype)).item()
    with mpmath.workdps(60):
        given_eta = outputs.item()
        truth = exact_log_normaliser(given_eta) - mpmath.mpf(given_eta) * mpmath.mpf(x)
        # |eta| * distance and the log are rounded; their sum may cancel down to order one
        size = 1 + abs(given_eta) * min(x, 1 - x) + abs(truth)
        assert abs(nll - truth) <= 4 * torch.finfo(dtype).eps * size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("eta", ETAS)
def test_continuous_bernoullis_mean_is_the_derivative_of_the_log_normaliser(eta, dtype):
    outputs = torch.tensor([eta], dtype=dtype, requires_grad=True)
    mean = ContinuousBernoulli().mean(outputs)
    with mpmath.workdps(60):
        h = mpmath.mpf(outputs.item()) / 2
        truth = (1 + mpmath.coth(h) - 1 / h) / 2 if h else mpmath.mpf("0.5")
        assert abs(mean.item() - truth) <= 4 * torch.finfo(dtype).eps * truth
    x = torch.tensor([0.25], dtype=dtype)
    (gradient,) = torch.autograd.grad(ContinuousBernoulli().nll(outputs, x).sum(), outputs)
    assert gradient.item() == pytest.approx(mean.item() - 0.25, abs=8 * torch.finfo(dtype).eps)


def test_continuous_bernoullis_derivatives_exist():
    outputs = torch.tensor([-40.0, -2.1, -1.9, -0.3, 0.4, 1.7, 2.4, 50.0], requires_grad=True)
    x = torch.linspace(0, 1, 8)
    assert torch.autograd.gradcheck(lambda o: ContinuousBernoulli().nll(o, x), outputs)
    assert torch.autograd.gradgradcheck(lambda o: ContinuousBernoulli().nll(o, x), outputs)
    flat = torch.zeros(1, requires_grad=True)
    (mean,) = torch.autograd.grad(ContinuousBernoulli().mean(flat).sum(), flat)
    assert mean.item() == pytest.approx(1 / 12)  # the variance of the uniform distribution


@given(arrays((3, 5), -3, 3), PIXELS)
def test_continuous_bernoulli_agrees_with_torch(logits, x):
    logits, x = torch.tensor(logits), torch.tensor(x)
    theirs = torch.distributions.ContinuousBernoulli(logits=logits)
    expected = -theirs.log_prob(x).sum(-1)
    # torch expands to fourth order within 0.001 of 1/2; the next term is below 1e-15
    torch.testing.assert_close(ContinuousBernoulli().nll(logits, x), expected, rtol=0, atol=1e-12)


FAMILIES = [
    pytest.param(Bernoulli(), torch.rand, lambda p: p * (1 - p), id="bernoulli"),
    pytest.param(Gaussian(0.3), torch.randn, lambda _: 0.3, id="gaussian"),
    pytest.param(ContinuousBernoulli(), torch.rand, None, id="continuous-bernoulli"),
]


@pytest.mark.parametrize(("likelihood", "noise", "variance"), FAMILIES)
@pytest.mark.parametrize("output", [-6.0, -1.0, 0.0, 0.7, 5.0])
def test_draws_have_the_mean_and_the_variance(likelihood, noise, variance, output):
    n = 1_000_000
    outputs = torch.full((n, 1), output)
    torch.manual_seed(20131220)
    draws = likelihood.sample(outputs, noise(n, 1))
    mean = likelihood.mean(torch.tensor([output])).item()
    if variance:
        spread = variance(mean)
    else:  # the second derivative of the log normaliser
        eta = torch.tensor([output], requires_grad=True)
        (slope,) = torch.autograd.grad(likelihood.mean(eta).sum(), eta)
        spread = slope.item()
    assert abs(draws.mean().item() - mean) <= Z * math.sqrt(spread / n)
    squares = (draws - mean).square()
    error = Z * squares.std().item() / math.sqrt(n)
    assert abs(squares.mean().item() - spread) <= error + 1e-12


@pytest.mark.parametrize("output", [-700.0, -3.0, -1e-9, 0.0, 1e-9, 2.0, 700.0])
def test_continuous_bernoullis_draws_invert_its_distribution(output):
    u = torch.linspace(0, 1, 9)
    outputs = torch.full_like(u, output)
    x = ContinuousBernoulli().sample(outputs, u)
    assert ((x >= 0) & (x <= 1)).all()
    assert (x.diff() >= 0).all()
    with mpmath.workdps(60):
        eta = mpmath.mpf(output)
        for noise, draw in zip(u.tolist(), x.tolist(), strict=True):
            back = mpmath.expm1(eta * draw) / mpmath.expm1(eta) if eta else mpmath.mpf(draw)
            # a draw next to 1 keeps digits of 1 - x no finer than eps, which eta magnifies
            assert abs(back - noise) <= 1e-15 * (4 + abs(output))


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(), ContinuousBernoulli()], ids=repr)
def test_several_outputs_for_one_example(likelihood):
    outputs, x = torch.randn(7, 3, 5), torch.rand(3, 5)
    together = likelihood.nll(outputs, x)
    for one, output in zip(together, outputs, strict=True):
        torch.testing.assert_close(one, likelihood.nll(output, x))


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian()], ids=repr)
@given(x=st.floats(0.01, 0.99))
def test_the_best_output_has_the_data_as_its_mean(likelihood, x):
    best = torch.tensor([math.log(x / (1 - x)) if likelihood == Bernoulli() else x])
    best.requires_grad_()
    (gradient,) = torch.autograd.grad(likelihood.nll(best, torch.tensor([x])).sum(), best)
    assert gradient.item() == pytest.approx(0, abs=1e-15)
