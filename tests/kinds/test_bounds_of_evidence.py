"""Annealed importance sampling against closed forms, quadrature and the limits of its steps."""

import math

import pytest
import torch
from scipy import stats

from vae_ref import VAE, LinearVAE, exact_log_evidence, importance_weighted_bound, log_density
from vae_ref.checks import InputError
from vae_ref.kinds.evidence import anneal
from vae_ref.kinds.hamiltonian import hmc, leapfrog
from vae_ref.quadrature import log_evidence

STEP = torch.tensor(0.4, dtype=torch.float64)


def normal(z):
    return -z.square().sum(-1) / 2


def quartic(z):
    return -z.pow(4).sum(-1) / 4


def joint(model, x):
    zero = torch.zeros(model.latent_dim).double()

    def log_joint(z):
        prior = log_density(z, zero, zero)
        return prior - model.likelihood.nll(model.decode_logits(z), x)

    return log_joint, lambda z: log_density(z, zero, zero)


def bound(model, x, z, betas, generator):
    log_joint, log_prior = joint(model, x)
    moves = len(betas) - 2
    noise = {
        "momenta": torch.randn(moves, *z.shape, generator=generator, dtype=z.dtype),
        "uniforms": torch.rand(moves, *z.shape[:-1], generator=generator, dtype=z.dtype),
    }
    log_w, _, accepted = anneal(log_prior, log_joint, z, betas, **noise, step=STEP, steps=3)
    assert bool((accepted > 0).any())
    return importance_weighted_bound(log_w).detach()


def test_the_evidence_of_a_linear_model_is_between_the_bounds():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = LinearVAE(6, 2).double().requires_grad_(False)
    codes = torch.randn(1000, 2, generator=generator).double()
    x = model.decode_logits(codes) + torch.randn(1000, 6, generator=generator).double()
    exact, betas = exact_log_evidence(model, x), torch.linspace(0, 1, 11).double()
    z = torch.randn(1, 1000, 2, generator=generator).double()
    lower = bound(model, x, z, betas, generator)
    upper = -bound(model, x, codes.expand_as(z), betas.flip(0), generator)
    assert 0 < float((exact - lower).mean()) < 0.3
    assert 0 < float((upper - exact).mean()) < 0.3


def test_the_evidence_of_a_network_agrees_with_quadrature():
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    model = VAE(8, 6, 1).double().requires_grad_(False)
    for weights in model.decoder.parameters():
        weights.mul_(3)
    x = torch.rand(5, 8, generator=generator).round().double()
    z = torch.randn(4000, 5, 1, generator=generator).double()
    found = bound(model, x, z, torch.linspace(0, 1, 9).double(), generator)
    assert torch.allclose(found, log_evidence(model, x), atol=0.05)


def test_leapfrog_goes_back_and_preserves_volume():
    z, v = torch.tensor([[0.7]]).double(), torch.tensor([[-0.4]]).double()
    there = leapfrog(quartic, z, v, STEP, 4)
    back = leapfrog(quartic, there[0], -there[1], STEP, 4)
    assert torch.allclose(back[0], z, atol=1e-14)
    assert torch.allclose(back[1], -v, atol=1e-14)
    columns, h = [], 1e-6
    for dz, dv in ((h, 0.0), (0.0, h)):
        ends = [leapfrog(quartic, z + s * dz, v + s * dv, STEP, 4) for s in (1, -1)]
        columns.append([(float(a) - float(b)) / (2 * h) for a, b in zip(*ends, strict=True)])
    (a, b), (c, d) = columns
    assert a * d - b * c == pytest.approx(1, abs=1e-8)


def test_the_energy_error_of_leapfrog_is_of_second_order():
    z, v = torch.tensor([[0.7]]).double(), torch.tensor([[-0.4]]).double()

    def error(steps):
        end, speed = leapfrog(quartic, z, v, torch.tensor(1.0 / steps).double(), steps)
        before, after = (float(m**2 / 2 - quartic(q)) for q, m in ((z, v), (end, speed)))
        return abs(after - before)

    assert error(20) / error(40) == pytest.approx(4, rel=0.05)


def test_a_step_that_diverges_is_refused():
    z = torch.ones(3, 1)
    moved, accepted = hmc(quartic, z, z, torch.zeros(3), step=torch.tensor(1e9), steps=5)
    assert torch.equal(moved, z)
    assert not accepted.any()


def test_hmc_leaves_a_density_that_is_no_gaussian():
    generator = torch.Generator().manual_seed(2)
    z = torch.from_numpy(stats.gennorm(4).rvs((20_000, 1), random_state=0)) * math.sqrt(2)
    for _ in range(3):
        v = torch.randn(z.shape, generator=generator).double()
        u = torch.rand(len(z), generator=generator).double()
        z, _ = hmc(quartic, z, v, u, step=2 * STEP, steps=3)
    assert stats.kstest(z.flatten().numpy() / math.sqrt(2), stats.gennorm(4).cdf).pvalue > 1e-4


def test_errors_name_the_argument():
    z, betas = torch.zeros(2, 1), torch.linspace(0, 1, 4)
    with pytest.raises(InputError, match=r"^momenta must have the shape \(2, 2, 1\); got"):
        anneal(normal, normal, z, betas, momenta=z, uniforms=z, step=STEP)
    right = torch.zeros(2, 2, 1)
    with pytest.raises(InputError, match=r"^uniforms must have the shape \(2, 2\); got"):
        anneal(normal, normal, z, betas, momenta=right, uniforms=z, step=STEP)
    with pytest.raises(InputError, match="^steps must be a positive integer"):
        leapfrog(normal, z, z, STEP, 0)
    with pytest.raises(InputError, match="^z and v must have the same shape"):
        leapfrog(normal, z, z[:1], STEP, 1)


def test_the_chernoff_bound_holds():
    """Against the exact distribution: that of a sum of coin tosses."""
    from vae_ref.conformance.claims.kinds.evidence import _chernoff

    for n, q in ((50, 0.3), (400, 0.05)):
        for count in range(n + 1):
            tail = stats.binom(n, q)
            exact = tail.sf(count - 1) if count > n * q else tail.cdf(count)
            assert exact <= _chernoff(count / n, q, n) * (1 + 1e-9)
