"""The reference of the disentangling terms against enumeration, quadrature and NumPy."""

import math
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from vae_ref.checks import InputError
from vae_ref.kinds.annealing import Schedule, capacity_term, free_bits
from vae_ref.kinds.disentangling import decomposition, total_correlation
from vae_ref.kinds.independence import (
    dip_penalty,
    discriminator_loss,
    permute_latents,
    tc_from_logits,
)
from vae_ref.kinds.stratified import gaussian_total_correlation, stratified_log_weights


def posteriors(examples, latents, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mu, logvar, eps = torch.randn(3, examples, latents, generator=generator, dtype=torch.float64)
    return mu + eps * torch.exp(logvar / 2), mu, logvar


@pytest.mark.parametrize(("batch", "data"), [(2, 4), (3, 5), (4, 5)])
def test_stratified_weights_are_unbiased_over_all_batches(batch, data):
    weights = stratified_log_weights(batch, data).exp().numpy()
    density = np.random.default_rng(0).random(data)
    for row in range(batch):
        estimates = []
        for others in permutations(range(1, data), batch - 1):
            members = [*others[:row], 0, *others[row:]]
            estimates.append(weights[row] @ density[members])
        assert np.mean(estimates) == pytest.approx(density.mean(), rel=1e-12)


@pytest.mark.slow
def test_the_rows_of_the_known_bug_do_not_add_up_to_one():
    """The matrix of beta-TC-VAE's own code, at B = 4 and N = 100, in fractions."""
    n, m = 100, 3
    flat = [Fraction(1, m)] * 16
    flat[:: m + 1] = [Fraction(1, n)] * 4
    flat[1 :: m + 1] = [Fraction(n - m, n * m)] * 4
    flat[(m - 1) * 4] = Fraction(n - m, n * m)
    sums = [sum(flat[4 * row : 4 * row + 4]) for row in range(4)]
    assert [round(float(s), 3) for s in sums] == [1, 1, 1.313, 1]
    right = stratified_log_weights(4, n).exp().sum(1)
    torch.testing.assert_close(right, torch.ones(4, dtype=torch.float64))


def test_a_batch_of_the_whole_data_set_is_its_aggregate_up_to_log_n():
    found = decomposition(*posteriors(6, 3), 6)
    z, mu, logvar = (tensor.numpy() for tensor in posteriors(6, 3))
    sigma = np.exp(logvar / 2)
    q = np.mean(stats.norm.pdf(z[:, None], mu, sigma).prod(2), 1)
    marginals = np.mean(stats.norm.pdf(z[:, None], mu, sigma), 1).prod(1)
    own, prior = stats.norm.pdf(z, mu, sigma).prod(1), stats.norm.pdf(z).prod(1)
    shift = math.log(6)
    np.testing.assert_allclose(found.mutual_information, np.log(own / q) + shift)
    np.testing.assert_allclose(found.total_correlation, np.log(q / marginals) + 2 * shift)
    np.testing.assert_allclose(found.dimension_wise, np.log(marginals / prior) - 3 * shift)


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_the_parts_add_up_to_the_log_ratio(sampling):
    z, mu, logvar = (tensor.numpy() for tensor in posteriors(5, 4))
    ratio = stats.norm.logpdf(z, mu, np.exp(logvar / 2)) - stats.norm.logpdf(z)
    whole = sum(decomposition(*posteriors(5, 4), 50, sampling=sampling))
    np.testing.assert_allclose(whole, ratio.sum(1))


@pytest.mark.slow
def test_the_total_correlation_of_a_gaussian_by_quadrature():
    covariance = np.array([[1.5, 0.9], [0.9, 1.0]])
    joint = stats.multivariate_normal([0, 0], covariance)
    a, b = (stats.norm(0, math.sqrt(v)) for v in covariance.diagonal())

    def integrand(x, y):
        p = joint.pdf([x, y])
        return p * (np.log(p) - a.logpdf(x) - b.logpdf(y)) if p > 0 else 0.0

    exact, _ = integrate.dblquad(integrand, -7, 7, -8, 8, epsabs=1e-6)
    found = gaussian_total_correlation(torch.tensor(covariance))
    assert float(found) == pytest.approx(exact, abs=1e-5)


@pytest.mark.slow
def test_the_estimate_nears_the_total_correlation_of_a_gaussian():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[1.5, 0.0], [1.6, 0.7]])
    mu = torch.randn(2000, 2, generator=generator) @ mixing.T
    z = mu + 0.7 * torch.randn(2000, 2, generator=generator)
    logvar = torch.full_like(mu, 2 * math.log(0.7))
    exact = gaussian_total_correlation(mixing @ mixing.T + 0.49 * torch.eye(2))
    found = total_correlation(z, mu, logvar, 10**6, sampling="stratified").mean()
    assert float(found) == pytest.approx(float(exact), abs=0.05)


@pytest.mark.parametrize("version", ["I", "II"])
def test_the_dip_penalty_by_numpy(version):
    _, mu, logvar = posteriors(7, 3)
    covariance = np.cov(mu.numpy().T, bias=True)
    if version == "II":
        covariance = covariance + np.diag(np.exp(logvar.numpy()).mean(0))
    weights = np.where(np.eye(3, dtype=bool), 10.0, 5.0)
    exact = (weights * (covariance - np.eye(3)) ** 2).sum()
    found = dip_penalty(mu, logvar, lambda_od=5.0, lambda_d=10.0, version=version)
    assert float(found) == pytest.approx(exact, rel=1e-12)


def test_every_permutation_of_every_latent_is_as_likely():
    generator = torch.Generator().manual_seed(0)
    z = torch.arange(6.0).view(3, 2)
    seen = [
        tuple(permute_latents(z, torch.rand(3, 2, generator=generator)).flatten().tolist())
        for _ in range(3600)
    ]
    counts = [seen.count(one) for one in set(seen)]
    assert len(counts) == 36
    assert stats.chisquare(counts).pvalue > 1e-6


@pytest.mark.slow
def test_the_best_discriminator_has_the_total_correlation():
    joint, permuted = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([4.0, 2.0, 2.0])
    logits = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)

    def loss():
        return discriminator_loss(
            logits.repeat_interleave(joint.long(), 0),
            logits.repeat_interleave(permuted.long(), 0),
        )

    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    exact = (joint.double() / permuted.double()).log()
    torch.testing.assert_close(tc_from_logits(logits).detach(), exact, atol=1e-4, rtol=0)


def test_free_bits_by_hand():
    kl = torch.tensor([[0.0, 4.0], [3.0, 0.5]])
    found = {
        over: float(free_bits(kl, floor=2.0, floor_over=over))
        for over in ("latent", "element", "example", "batch")
    }
    assert found == {"latent": 4.25, "element": 5.5, "example": 3.75, "batch": 3.75}
    assert float(free_bits(kl / 10, floor=2.0, floor_over="batch")) == 2.0


def test_the_capacity_pulls_from_both_sides():
    kl = torch.tensor([3.0, 5.0], requires_grad=True)
    for capacity, slope in ((10.0, -1.0), (1.0, 1.0)):
        (found,) = torch.autograd.grad(capacity_term(kl, capacity, gamma=2.0), kl)
        assert found.tolist() == [slope, slope]


@given(st.integers(1, 50), st.integers(0, 50), st.floats(0, 1), st.floats(0, 4))
def test_a_schedule_begins_ends_and_repeats(steps, rest, start, end):
    schedule = Schedule(steps=steps, start=start, end=end, cycle=steps + rest + 1)
    assert schedule.weight_at(0) == start
    assert schedule.weight_at(steps) == pytest.approx(end)
    for step in range(steps + rest + 1):
        weight = schedule.weight_at(step)
        assert min(start, end) - 1e-12 <= weight <= max(start, end) + 1e-12
        assert weight == schedule.weight_at(step + 3 * (steps + rest + 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stratified_log_weights(1, 9), "batch must be 2 or more, and at most data; got 1"),
        (lambda: stratified_log_weights(9, 8), "batch must be 2 or more, and at most data; got 9"),
        (lambda: Schedule(steps=0), "steps must be a positive integer; got 0"),
        (lambda: Schedule(steps=9, cycle=8), "cycle must be at least as long as the rise of 9"),
        (
            lambda: permute_latents(torch.zeros(3, 2), torch.zeros(3, 1)),
            "z and noise must have the same shape",
        ),
        (
            lambda: decomposition(torch.zeros(3, 2), torch.zeros(3, 1), torch.zeros(3, 2), 9),
            "z and mu and logvar must have the same shape",
        ),
    ],
)
def test_what_is_wrong_is_said(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_schedule_that_cannot_be_is_refused():
    from vae_ref.conformance import kinds
    from vae_ref.conformance.subject import DeclarationError

    with pytest.raises(DeclarationError, match="got steps=9, cycle=8"):
        kinds.Schedule(steps=9, cycle=8)
