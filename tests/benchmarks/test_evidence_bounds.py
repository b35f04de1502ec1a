"""The bounds of log p(x) agree with quadrature, and hold one image for one."""

import argparse

import pytest
import torch

from benchmarks import evidence
from vae_ref import VAE, log_density


@pytest.fixture
def few_moves(monkeypatch):
    monkeypatch.setattr(evidence, "MOVES", 50)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = VAE(12, hidden_dim=16, latent_dim=2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)  # so that the posterior is not the prior
    return model.requires_grad_(False)


def quadrature(model, x):
    line = torch.linspace(-6, 6, 121)
    z = torch.cartesian_prod(line, line)[:, None].expand(-1, len(x), -1)
    log_p = log_density(z, torch.zeros(2), torch.zeros(2)) - model.likelihood.nll(
        model.decode_logits(z), x
    )
    return log_p.logsumexp(0) + 2 * (line[1] - line[0]).log()


@pytest.mark.parametrize("temperatures", [1, 5])
def test_both_bounds_are_near_the_evidence(model, few_moves, temperatures):
    generator = torch.Generator().manual_seed(1)
    codes = torch.randn(6, 2, generator=generator)
    x = torch.bernoulli(model.decode(codes), generator=generator)
    chosen = argparse.Namespace(chains=1000, temperatures=temperatures)
    found = evidence.bracket(model, x, codes, chosen, generator)
    exact = float(quadrature(model, x).mean())
    assert found["lower"]["mean"] == pytest.approx(exact, abs=0.02)
    assert found["upper"]["mean"] == pytest.approx(exact, abs=0.02)
    assert found["images_with_a_gap_below_0.2"] == 6


def test_without_a_code_there_is_no_upper_bound(model, few_moves):
    chosen = argparse.Namespace(chains=100, temperatures=1)
    found = evidence.bracket(model, torch.ones(2, 12), None, chosen, torch.Generator())
    assert {"upper", "gap"}.isdisjoint(found)


def test_the_start_is_normalised_and_is_what_it_draws():
    root = torch.tensor([[[1.0, 0.0], [0.5, 0.3]]])
    q = evidence.Student(torch.tensor([[1.0, -1.0]]), root)
    line = torch.linspace(-12, 12, 801)
    z = torch.cartesian_prod(line, line)[:, None]
    mass = q.log_prob(z).logsumexp(0).exp() * (line[1] - line[0]) ** 2
    assert float(mass) == pytest.approx(1, abs=1e-4)
    drawn = q.sample(200_000, torch.Generator().manual_seed(0))[:, 0]
    n = evidence.FREEDOM
    spread = root[0] @ root[0].T * n / (n - 2)
    torch.testing.assert_close(drawn.T.cov(), spread, atol=0.02, rtol=0.02)


def test_the_moments_are_those_of_the_posterior(model):
    generator = torch.Generator().manual_seed(2)
    x = torch.bernoulli(torch.full((3, 12), 0.5), generator=generator)
    zero = torch.zeros(2)

    def log_joint(z):
        return log_density(z, zero, zero) - model.likelihood.nll(model.decode_logits(z), x)

    mean, root = evidence.moments(log_joint, torch.zeros(3, 2), torch.ones(3, 2), generator)
    line = torch.linspace(-6, 6, 121)
    z = torch.cartesian_prod(line, line)[:, None].expand(-1, 3, -1)
    p = log_joint(z).softmax(0)[..., None]
    exact = (p * z).sum(0)
    spread = torch.einsum("kni,knj->nij", p * (z - exact), z - exact)
    torch.testing.assert_close(mean, exact, atol=0.1, rtol=0)
    torch.testing.assert_close(root @ root.mT, spread, atol=0.1, rtol=0.1)
