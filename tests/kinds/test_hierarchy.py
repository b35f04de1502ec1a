"""The reference of VAEs with levels, held against quadrature, mpmath and torch."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from tests.kinds.subjects.hierarchy import Ladder
from vae_ref.checks import InputError
from vae_ref.conformance import verify
from vae_ref.conformance.kinds import HierarchicalVAE as HierarchicalSubject
from vae_ref.gaussian import kl_between, log_density
from vae_ref.kinds import hierarchy_linear as linear
from vae_ref.kinds.hierarchy import HierarchicalVAE
from vae_ref.kinds.levels import kl_levels
from vae_ref.kinds.residual import kl_residual, residual_posterior

VARIANCE = 0.7


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_residual_kl_is_the_integral_of_the_log_ratio():
    delta_mu, delta_logvar, mu_p, logvar_p = 0.8, -0.6, 1.5, 0.4
    mu, logvar = mu_p + delta_mu, logvar_p + delta_logvar

    def ratio(z):
        q, p = (
            mpmath.npdf(z, mu, mpmath.exp(logvar / 2)),
            mpmath.npdf(z, mu_p, mpmath.exp(logvar_p / 2)),
        )
        return q * mpmath.log(q / p)

    right = mpmath.quad(ratio, [mu - 8, mu, mu + 8])
    found = kl_residual(*(torch.tensor([t]).double() for t in (delta_mu, delta_logvar, logvar_p)))
    assert found.item() == pytest.approx(float(right), rel=1e-12)


@pytest.mark.parametrize("size", [1e-8, 1e-3, 1.0, 30.0])
def test_the_residual_kl_keeps_its_digits_where_the_posterior_is_near_the_prior(size):
    delta_mu, delta_logvar, logvar_p = (size * normal(1, 1, seed=n) for n in (1, 2, 3))
    d, s, p = (mpmath.mpf(t.item()) for t in (delta_mu, delta_logvar, logvar_p))
    with mpmath.workdps(60):
        right = (d**2 / mpmath.exp(p) + mpmath.exp(s) - s - 1) / 2
    assert kl_residual(delta_mu, delta_logvar, logvar_p).item() == pytest.approx(
        float(right), rel=1e-13
    )


def test_the_residual_kl_is_that_of_the_residual_posterior():
    given = [normal(3, 5, seed=n) for n in range(4)]
    mu, logvar = residual_posterior(*given)
    right = kl_between(mu, logvar, *given[2:])
    found = kl_residual(given[0], given[1], given[3])
    assert torch.allclose(found, right, rtol=1e-12)


def test_levels_of_a_chain_have_the_kl_of_the_joint_gaussian():
    """The KL of the lower level is quadratic in the upper code: two points give its mean."""
    a, b, v1, v2, m1 = 0.7, -0.3, 0.5, 0.9, 0.4
    a_p, b_p, v1_p, v2_p = -0.2, 0.6, 1.0, 1.7

    def joint(a, b, m1, v1, v2):
        covariance = [[v1, a * v1], [a * v1, a * a * v1 + v2]]
        return MultivariateNormal(
            *(torch.tensor(t).double() for t in ([m1, a * m1 + b], covariance))
        )

    right = kl_divergence(joint(a, b, m1, v1, v2), joint(a_p, b_p, 0.0, v1_p, v2_p))

    def gaussian(mu, variance):
        return tuple(torch.tensor([[t]]).double() for t in (mu, math.log(variance)))

    found = [
        kl_levels(
            [gaussian(m1, v1), gaussian(a * z1 + b, v2)],
            [gaussian(0.0, v1_p), gaussian(a_p * z1 + b_p, v2_p)],
        ).item()
        for z1 in (m1 - math.sqrt(v1), m1 + math.sqrt(v1))
    ]
    assert np.mean(found) == pytest.approx(right.item(), rel=1e-12)


def test_free_nats_are_what_a_level_counts_for_at_least():
    one, zero = torch.ones(1, 2), torch.zeros(1, 2)
    posteriors, priors = [(0.1 * one, zero), (3 * one, zero)], [(zero, zero)] * 2
    assert kl_levels(posteriors, priors).item() == pytest.approx(9.01)
    assert kl_levels(posteriors, priors, free_nats=0.5).item() == pytest.approx(9.5)


def test_levels_without_a_prior_are_refused():
    pair = (torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(InputError, match="2 and 1.*Give the top level its prior too"):
        kl_levels([pair, pair], [pair])


@pytest.mark.parametrize("function", [kl_residual, residual_posterior])
def test_shapes_that_differ_are_refused(function):
    rest = [torch.zeros(2, 3)] * (2 if function is kl_residual else 3)
    with pytest.raises(InputError, match=r"delta_mu \(2, 2\)"):
        function(torch.zeros(2, 2), *rest)


@pytest.fixture
def model():
    """Return weights and data of the linear model: two pixels, two lower codes, one upper."""
    return normal(3, 2), normal(2, 1, seed=1), normal(2, 2, seed=2), normal(2, seed=3)


def densities(z1, z2, model):
    """Return log p(z_1), log p(z_2|z_1) and log p(x|z_2), by torch's classes."""
    x, a, w, logvar_2 = model
    return (
        Normal(0.0, 1.0).log_prob(z1).sum(-1)
        + Normal(z1 @ a.T, torch.exp(logvar_2 / 2)).log_prob(z2).sum(-1)
        + Normal(z2 @ w.T, math.sqrt(VARIANCE)).log_prob(x).sum(-1)
    )


@pytest.mark.slow
def test_the_evidence_of_the_linear_model_is_the_integral_over_both_levels(model):
    x, a, w, logvar_2 = model[0][:1, :1], model[1][:1], model[2][:1, :1], model[3][:1]

    def density(z2, z1):
        codes = (torch.tensor([[z]]).double() for z in (z1, z2))
        return densities(*codes, (x, a, w, logvar_2)).exp().item()

    right, _ = integrate.dblquad(density, -8, 8, -12, 12, epsabs=1e-10)
    found = linear.log_evidence(x, a, w, logvar_2, variance=VARIANCE)
    assert found.item() == pytest.approx(math.log(right), rel=1e-7)


def test_bayes_rule_holds_in_the_linear_model(model):
    """p(z_1|x) p(z_2|z_1, x) p(x) is the joint density, whatever the codes are."""
    x, a, w, logvar_2 = model
    z1, z2 = normal(3, 1, seed=4), normal(3, 2, seed=5)
    upper = MultivariateNormal(*linear.posterior_of_upper(*model, variance=VARIANCE))
    lower = MultivariateNormal(
        *linear.posterior_of_lower(x, z1, a, w, logvar_2, variance=VARIANCE)
    )
    evidence = linear.log_evidence(*model, variance=VARIANCE)
    found = upper.log_prob(z1) + lower.log_prob(z2) + evidence
    assert torch.allclose(found, densities(z1, z2, model), rtol=1e-11)


def test_the_negative_elbo_of_the_true_posterior_is_the_evidence():
    """One of each, so that the posterior is diagonal; the mean over z_1 by quadrature."""
    x, a, w, logvar_2 = normal(1, 1), normal(1, 1, seed=1), normal(1, 1, seed=2), normal(1, seed=3)
    m1, s1 = linear.posterior_of_upper(x, a, w, logvar_2, variance=VARIANCE)
    q1 = m1, s1[0].log()
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    total = 0.0
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        z1 = m1 + node * s1[0].sqrt()
        m2, s2 = linear.posterior_of_lower(x, z1, a, w, logvar_2, variance=VARIANCE)
        error = (x - m2 @ w.T).square() + w.square() * s2[0]
        nll = 0.5 * (error / VARIANCE + math.log(2 * math.pi * VARIANCE))
        zero = torch.zeros_like(z1)
        kl = kl_levels([q1, (m2, s2[0].log())], [(zero, zero), (z1 @ a.T, logvar_2.expand(1, 1))])
        total += weight * (nll.sum() + kl.sum()).item()
    right = -linear.log_evidence(x, a, w, logvar_2, variance=VARIANCE)
    assert total == pytest.approx(right.item(), rel=1e-12)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return HierarchicalVAE(input_dim=6, hidden_dim=8, latent_dims=(2, 3)).double()


def test_the_terms_are_those_of_one_draw_of_both_levels(small):
    x, eps_1, eps_2 = normal(4, 6).sigmoid(), normal(4, 2, seed=1), normal(4, 3, seed=2)
    upper, lower = small.top_down(x, eps_1, eps_2)
    terms = small.terms(x, eps_1, eps_2)
    kl = kl_levels([upper.posterior, lower.posterior], [upper.prior, lower.prior])
    assert torch.allclose(terms.divergence, kl, rtol=1e-10)
    for level, eps in ((upper, eps_1), (lower, eps_2)):
        mu, logvar = level.posterior
        assert torch.allclose(level.z, mu + eps * torch.exp(logvar / 2))
    assert all(map(torch.equal, lower.prior, small.prior(upper.z)))
    nll = -(x * small.decode_logits(lower.z) - torch.nn.functional.softplus(
        small.decode_logits(lower.z)
    )).sum(1)  # fmt: skip
    assert torch.allclose(terms.reconstruction, nll)


def test_everything_learns_from_the_loss(small):
    x, eps_1, eps_2 = normal(4, 6).sigmoid(), normal(4, 2, seed=1), normal(4, 3, seed=2)
    small.terms(x, eps_1, eps_2).loss().sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in small.parameters())


def test_a_temperature_scales_the_noise_of_both_levels(small):
    eps_1, eps_2 = normal(4, 2), normal(4, 3, seed=1)
    z_1, z_2 = small.draw(eps_1, eps_2, temperature=0.5)
    mu_p, logvar_p = small.prior(z_1)
    assert torch.equal(z_1, 0.5 * eps_1)
    assert torch.allclose(z_2, mu_p + 0.5 * torch.exp(logvar_p / 2) * eps_2)
    assert torch.isfinite(log_density(z_2, mu_p, logvar_p)).all()


def test_dimensions_are_positive():
    with pytest.raises(InputError, match="latent_dims must be a positive integer"):
        HierarchicalVAE(latent_dims=(2, 0))


def levels_of(posteriors, priors):
    def normal_(mu, logvar):
        return Normal(mu, torch.exp(logvar / 2))

    pairs = zip(posteriors, priors, strict=True)
    return [kl_divergence(normal_(*q), normal_(*p)).sum(1) for q, p in pairs]


class DetachedLadder(Ladder):
    def forward(self, x):
        upper, (z2, posterior, _) = super().forward(x)
        return upper, (z2, posterior, self.prior(upper[0].detach()))


class MeanLadder(Ladder):
    def forward(self, x):
        upper, (z2, posterior, _) = super().forward(x)
        return upper, (z2, posterior, self.prior(upper[1][0]))


def of_ladder(make):
    ladder = make()
    return {
        "top_down": ladder,
        "prior_of_level": ladder.prior,
        "observations": lambda n: torch.rand(n, 9),
        "module": ladder,
    }


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("bug", "functions"),
    [
        ("levels-top-twice", {"kl_levels": lambda q, p: sum(levels_of([*q, q[0]], [*p, p[0]]))}),
        ("levels-swapped", {"kl_levels": lambda q, p: sum(levels_of(p, q)).mean()}),
        (
            "levels-mixed-reduction",
            {
                "kl_levels": lambda q, p: (
                    sum(levels_of(q[:1], p[:1])).sum() + sum(levels_of(q[1:], p[1:])).mean()
                )
            },
        ),
        (
            "levels-loss-mixed-reduction",
            {"negative_elbo_of_levels": lambda nll, q, p: nll.mean() + sum(levels_of(q, p)).sum()},
        ),
        ("inference-prior-of-detached-code", DetachedLadder),
        ("inference-prior-of-mean", MeanLadder),
    ],
)
def test_a_bug_is_named_in_another_program_of_two_levels(bug, functions):
    torch.manual_seed(0)
    functions = of_ladder(functions) if isinstance(functions, type) else functions
    (root,) = verify(HierarchicalSubject(name="another", **functions)).failures
    assert root.diagnosis.bug == bug
