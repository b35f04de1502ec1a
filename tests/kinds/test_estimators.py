"""The mathematics of the estimators, against enumeration, quadrature and mpmath."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, stats

from vae_ref.conformance.kinds import Estimators
from vae_ref.conformance.subject import DeclarationError
from vae_ref.gaussian import log_density, reparameterize
from vae_ref.kinds.estimators import doubly_reparameterized, sticking_the_landing, with_value
from vae_ref.kinds.sampled_kl import k1, k2, k3, kl_loss
from vae_ref.kinds.scores import score_function, vimco
from vae_ref.objective import importance_weighted_bound
from vae_ref.support.errors import InputError

X = 0.7


def log_joint(z):
    """The model z ~ N(0, 1), x | z ~ N(z, 1): its posterior is N(x/2, 1/2)."""
    one = torch.zeros(1)
    return log_density(z, one, one) + log_density(X - z, one, one)


def mean_slope(function, mu, logvar, samples):
    """Integrate the slope by mu over the noise of all samples, by a regular grid."""
    grid = torch.linspace(-8, 8, 129)
    eps = torch.cartesian_prod(*[grid] * samples).view(-1, samples, 1).transpose(0, 1)
    weights = torch.exp(-0.5 * eps.square().sum((0, 2)))
    mus = torch.full((eps.shape[1], 1), mu).requires_grad_()
    value = function(mus, torch.full_like(mus, logvar), eps, log_joint)
    (slope,) = torch.autograd.grad(value.sum(), mus)
    return float((weights * slope[:, 0]).sum() / weights.sum())


def bound(mu, logvar, eps, log_joint):
    z = reparameterize(mu, logvar, eps)
    return importance_weighted_bound(log_joint(z) - log_density(z, mu, logvar))


def test_sticking_the_landing_has_the_slope_of_the_elbo():
    mu, logvar = 0.2, -1.0
    q = stats.norm(mu, math.exp(logvar / 2))

    def elbo(mu):
        def term(z):
            joint = stats.norm.logpdf(z) + stats.norm.logpdf(X, z)
            return stats.norm.pdf(z, mu, q.std()) * (joint - stats.norm.logpdf(z, mu, q.std()))

        return integrate.quad(term, -9, 9, epsabs=1e-13)[0]

    exact = (elbo(mu + 1e-4) - elbo(mu - 1e-4)) / 2e-4
    assert mean_slope(sticking_the_landing, mu, logvar, 1) == pytest.approx(exact, abs=1e-7)


def test_double_reparametrisation_has_the_slope_of_the_bound():
    mu, logvar = 0.2, -1.0
    found = mean_slope(doubly_reparameterized, mu, logvar, 2)
    assert found == pytest.approx(mean_slope(bound, mu, logvar, 2), abs=1e-9)
    assert abs(found - mean_slope(sticking_the_landing, mu, logvar, 2)) > 1e-3


@pytest.mark.parametrize("surrogate", [sticking_the_landing, doubly_reparameterized])
def test_the_slopes_vanish_at_the_posterior(surrogate):
    mu, logvar = torch.tensor([X / 2], requires_grad=True), torch.tensor([0.5]).log()
    logvar.requires_grad_()
    surrogate(mu, logvar, torch.randn(5, 1), log_joint).backward()
    assert torch.allclose(torch.cat([mu.grad, logvar.grad]), torch.zeros(2), atol=1e-14)


@pytest.mark.parametrize("surrogate", [sticking_the_landing, doubly_reparameterized])
def test_the_values_are_the_elbo_and_the_bound(surrogate):
    mu, logvar, eps = torch.randn(3, 1), torch.randn(3, 1), torch.randn(4, 3, 1)
    z = reparameterize(mu, logvar, eps)
    log_w = log_joint(z) - log_density(z, mu, logvar)
    right = log_w.mean(0) if surrogate is sticking_the_landing else log_w.exp().mean(0).log()
    assert torch.allclose(surrogate(mu, logvar, eps, log_joint), right, rtol=1e-12)


def test_the_model_is_trained_with_weights_that_are_not_squared():
    shift, mu, eps = torch.zeros(1, requires_grad=True), torch.randn(1), torch.randn(4, 1)
    logvar = torch.zeros(1)

    def moved(z):
        return log_joint(z) + (shift * z).sum(-1)

    (found,) = torch.autograd.grad(doubly_reparameterized(mu, logvar, eps, moved), shift)
    z = reparameterize(mu, logvar, eps)
    weights = torch.softmax(log_joint(z) - log_density(z, mu, logvar), 0)
    assert torch.allclose(found, (weights * z[:, 0]).sum())


def test_a_value_may_be_infinite():
    x = torch.tensor(2.0, requires_grad=True)
    surrogate = with_value(3 * x, torch.tensor(-math.inf))
    assert surrogate.item() == -math.inf
    assert torch.autograd.grad(surrogate, x)[0] == 3


def enumerated(logits, samples):
    log_probs = torch.log_softmax(logits, 0)
    index = torch.tensor(list(itertools.product(range(len(logits)), repeat=samples))).T
    return log_probs, index, log_probs[index].sum(0).detach().exp()


def test_the_score_function_is_unbiased():
    logits, rewards = torch.randn(4, requires_grad=True), torch.randn(4)
    (exact,) = torch.autograd.grad(torch.softmax(logits, 0) @ rewards, logits)
    log_probs, index, weights = enumerated(logits, 3)
    surrogate = weights @ score_function(log_probs[index], rewards[index])
    assert torch.allclose(torch.autograd.grad(surrogate, logits)[0], exact)


def test_vimco_is_unbiased():
    logits, log_p = torch.randn(3, requires_grad=True), torch.randn(3)
    log_probs, index, weights = enumerated(logits, 3)
    log_w = log_p[index] - log_probs[index]
    value = (log_probs[index].sum(0).exp() * importance_weighted_bound(log_w)).sum()
    (exact,) = torch.autograd.grad(value, logits, retain_graph=True)
    surrogate = weights @ vimco(log_w, log_probs[index])
    assert torch.allclose(torch.autograd.grad(surrogate, logits)[0], exact)


def test_the_learning_signals_of_vimco_are_those_of_the_paper():
    log_w, log_q = torch.tensor([0.3, -1.2, 0.8]), torch.zeros(3, requires_grad=True)
    (found,) = torch.autograd.grad(vimco(log_w, log_q), log_q)
    w = [mpmath.exp(value) for value in log_w.tolist()]
    for k in range(3):
        others = w[:k] + w[k + 1 :]
        without = sum(others) + mpmath.sqrt(others[0] * others[1])
        assert found[k].item() == pytest.approx(float(mpmath.log(sum(w) / without)), rel=1e-13)


def both(logits, log_p, estimate):
    """Return the mean estimate, its mean slope, and its mean product with the score."""
    log_q = torch.log_softmax(logits, 0)
    k = estimate(log_q, log_p)
    q = log_q.detach().exp()
    (loss,) = torch.autograd.grad(q @ k, logits, retain_graph=True)
    (reward,) = torch.autograd.grad((q * k.detach()) @ log_q, logits)
    return q @ k.detach(), loss, reward


def test_the_means_of_the_estimates_and_of_their_slopes_are_those_of_the_page():
    logits, log_p = torch.randn(5, requires_grad=True), torch.log_softmax(torch.randn(5), 0)
    log_q = torch.log_softmax(logits, 0)
    kl = log_q.exp() @ (log_q - log_p)
    (slope,) = torch.autograd.grad(kl, logits, retain_graph=True)
    (other,) = torch.autograd.grad(log_p.exp() @ (log_p - log_q), logits)
    for estimate, in_loss, in_reward in (
        (k1, 0 * slope, slope),
        (k2, slope, None),
        (k3, other, slope - other),
        (kl_loss, slope, slope - other),
    ):
        value, loss, reward = both(logits, log_p, estimate)
        assert torch.allclose(loss, in_loss, atol=1e-14)
        assert in_reward is None or torch.allclose(reward, in_reward)
        assert torch.allclose(value, kl) == (estimate is not k2)


def test_k3_is_accurate_where_q_and_p_nearly_agree():
    with mpmath.workdps(40):
        log_r = mpmath.mpf(1e-9)
        exact = float(mpmath.exp(log_r) - 1 - log_r)
    found = k3(torch.tensor(0.0), torch.tensor(1e-9))
    assert found.item() == pytest.approx(exact, abs=1e-24 + 2 * np.finfo(float).eps * 1e-9)


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(InputError, match="two samples or more"):
        score_function(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(InputError, match="same shape"):
        vimco(torch.zeros(3, 2), torch.zeros(2, 3))
    with pytest.raises(InputError, match="same shape"):
        k3(torch.zeros(2), torch.zeros(3))


@pytest.mark.parametrize(
    "declared", [{"estimator": "STL"}, {"samples_axis": 2}, {"kl_estimator": None}]
)
def test_a_declaration_that_does_not_exist_is_refused(declared):
    (name,) = declared
    with pytest.raises(DeclarationError, match=f"{name} must be"):
        Estimators(name="mine", **declared)
