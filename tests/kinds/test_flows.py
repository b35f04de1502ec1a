"""The mathematics of richer posteriors and priors, against scipy, mpmath, torch and quadrature."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import special, stats
from torch.autograd import gradcheck
from torch.autograd.functional import jacobian
from torch.distributions import MultivariateNormal, kl_divergence

from vae_ref.checks import InputError
from vae_ref.kinds import cholesky, mixtures, von_mises_fisher, von_mises_fisher_draws
from vae_ref.kinds.coupling import AffineCoupling
from vae_ref.kinds.flows import Flow, PlanarFlow

KAPPAS = torch.tensor([0.01, 0.7, 20.0, 900.0]).double()


@pytest.fixture
def gaussian():
    """Three means and factors of four coordinates."""
    return torch.randn(3, 4).double(), cholesky.factor(torch.randn(3, 4, 4).double())


def test_the_factor_is_lower_triangular_with_a_positive_diagonal():
    raw = torch.randn(5, 3, 3)
    factor = cholesky.factor(raw)
    assert not bool(factor.triu(1).any())
    assert bool((torch.diagonal(factor, dim1=1, dim2=2) > 0).all())
    assert torch.equal(factor.tril(-1), raw.tril(-1))


def test_the_full_gaussian_is_that_of_torch(gaussian):
    q = MultivariateNormal(gaussian[0], scale_tril=gaussian[1])
    p = MultivariateNormal(torch.zeros(4).double(), torch.eye(4).double())
    torch.testing.assert_close(cholesky.kl_to_standard_normal(*gaussian), kl_divergence(q, p))
    z = torch.randn(7, 3, 4).double()
    torch.testing.assert_close(cholesky.log_density(z, *gaussian), q.log_prob(z))


def test_draws_have_the_covariance(gaussian):
    mu, factor = gaussian
    columns = torch.stack(
        [cholesky.draw(mu, factor, e.expand(3, 4)) - mu for e in torch.eye(4)], 2
    )
    covariance = MultivariateNormal(mu, scale_tril=factor).covariance_matrix
    torch.testing.assert_close(columns @ columns.mT, covariance)


@pytest.mark.parametrize(
    "flow",
    [
        PlanarFlow(3),
        AffineCoupling(3),
        AffineCoupling(3, swap=True),
        Flow([PlanarFlow(3), AffineCoupling(3), PlanarFlow(3)]),
    ],
    ids=lambda flow: type(flow).__name__,
)
def test_the_log_determinant_is_that_of_the_jacobian(flow):
    flow = flow.double()
    z = torch.randn(5, 3).double()
    _, log_det = flow(z)
    whole = torch.stack([jacobian(lambda x: flow(x)[0], row) for row in z])
    torch.testing.assert_close(log_det, torch.linalg.slogdet(whole).logabsdet)


def test_a_planar_flow_never_folds():
    flow = PlanarFlow(2).double()
    with torch.no_grad():
        flow.u.copy_(torch.tensor([-9.0, 3.0]))
        flow.w.copy_(torch.tensor([0.4, -0.1]))
    line = torch.linspace(-30, 30, 2000).double()[:, None] * flow.w.detach()
    moved = flow(line)[0].detach() @ flow.w.detach()
    assert bool((moved.diff() > 0).all())


def test_the_divergence_of_a_flow_is_that_of_the_gaussian_it_makes():
    """One that scales by s is N(s mu, s^2 sigma^2): the mean over draws is known."""

    class Scale(torch.nn.Module):
        def forward(self, z):
            return 2.0 * z, torch.full(z.shape[:-1], 3 * math.log(2)).to(z)

    mu, logvar = torch.randn(1, 3).double(), torch.randn(1, 3).double()
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    grid = torch.cartesian_prod(*[torch.from_numpy(nodes)] * 3)
    mass = torch.cartesian_prod(*[torch.from_numpy(weights / weights.sum())] * 3).prod(1)
    z = mu + torch.exp(logvar / 2) * grid
    moved, estimate = Flow([Scale()]).divergence(z, mu.expand_as(z), logvar.expand_as(z))
    q = MultivariateNormal(2 * mu, torch.diag_embed(4 * logvar.exp()))
    p = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    torch.testing.assert_close((estimate * mass).sum()[None], kl_divergence(q, p))
    assert torch.equal(moved, 2 * z)


def test_the_mixture_is_that_of_scipy():
    logits, mu = torch.randn(3).double(), torch.randn(3, 2).double()
    logvar, z = torch.randn(3, 2).double(), torch.randn(6, 2).double()
    weights = special.softmax(logits.numpy())
    density = sum(
        w * stats.multivariate_normal(m, np.diag(np.exp(s))).pdf(z.numpy())
        for w, m, s in zip(weights, mu.numpy(), logvar.numpy(), strict=True)
    )
    found = mixtures.log_density(z, logits, mu, logvar)
    np.testing.assert_allclose(found.exp().numpy(), density)


def test_the_gumbel_maximum_chooses_with_the_weights():
    logits = torch.tensor([0.3, -1.0, 2.0]).double()
    n, generator = 100_000, torch.Generator().manual_seed(0)
    uniform = torch.rand(n, 3, generator=generator, dtype=torch.float64)
    mu = torch.arange(3).double()[:, None]
    drawn = mixtures.draw(
        logits, mu, 0 * mu, -torch.log(-torch.log(uniform)), torch.zeros(n, 1).double()
    )
    shares = torch.bincount(drawn[:, 0].long()) / n
    torch.testing.assert_close(shares, torch.softmax(logits, 0), atol=0.01, rtol=0)


def test_pseudo_inputs_learn():
    prior = mixtures.VampPrior(torch.nn.Linear(3, 4).double().forward, torch.rand(5, 3).double())
    prior.encode = lambda u: (u[:, :2], u[:, 1:])
    prior.log_density(torch.randn(6, 2).double()).sum().backward()
    assert bool((prior.pseudo_inputs.grad != 0).all())


@pytest.mark.parametrize("dim", [2, 3, 4, 11])
def test_the_normaliser_and_the_divergence_have_many_digits(dim):
    for kappa in KAPPAS:
        with mpmath.workdps(40):
            k = mpmath.mpf(float(kappa))
            low, high = (mpmath.besseli(mpmath.mpf(dim) / 2 - i, k) for i in (1, 0))
            log_c = (
                (mpmath.mpf(dim) / 2 - 1) * mpmath.log(k)
                - mpmath.mpf(dim) / 2 * mpmath.log(2 * mpmath.pi)
                - mpmath.log(low)
            )
            area = 2 * mpmath.pi ** (mpmath.mpf(dim) / 2) / mpmath.gamma(mpmath.mpf(dim) / 2)
            kl = k * high / low + log_c + mpmath.log(area)
        size = {"rel": 1e-13, "abs": 1e-13 * (1 + float(kappa) + dim)}
        assert float(von_mises_fisher.log_normaliser(kappa, dim)) == pytest.approx(
            float(log_c), **size
        )
        assert float(von_mises_fisher.kl_to_uniform(kappa, dim)) == pytest.approx(
            float(kl), **size
        )


@pytest.mark.parametrize("function", ["log_normaliser", "mean_length", "kl_to_uniform"])
def test_the_slopes_of_the_sphere_are_right(function):
    f = getattr(von_mises_fisher, function)
    assert gradcheck(lambda k: f(k, 5), (KAPPAS[1:3].clone().requires_grad_(),))


@pytest.mark.parametrize("dim", [2, 3, 8])
@pytest.mark.parametrize("kappa", [0.1, 6.0, 2000.0])
def test_the_angle_of_a_draw_is_the_quantile(dim, kappa):
    uniform = torch.linspace(0.001, 0.999, 41).double()
    mu = torch.nn.functional.normalize(torch.randn(41, dim).double())
    scale = torch.full((41,), kappa).double()
    x = von_mises_fisher_draws.draw(mu, scale, uniform, torch.randn(41, dim).double())
    torch.testing.assert_close(x.norm(dim=1), torch.ones(41).double())
    angle = np.arccos(np.clip((x * mu).sum(1).numpy(), -1, 1))
    edges = np.linspace(0, math.pi, 400_001)
    density = np.exp(kappa * (np.cos(edges) - 1)) * np.sin(edges) ** (dim - 2)
    cumulative = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    found = np.interp(angle, edges, cumulative / cumulative[-1])
    np.testing.assert_allclose(found, uniform.numpy(), atol=1e-6)


def test_draws_from_noise_along_the_mean_stay_on_the_sphere():
    mu = torch.nn.functional.normalize(torch.randn(100, 2, dtype=torch.float32), dim=-1)
    eps = mu + 1e-5 * mu.flip(-1) * mu.new_tensor([1, -1])  # across mu, two digits are left
    x = von_mises_fisher_draws.draw(mu, mu.new_full((100,), 2.0), mu.new_full((100,), 0.7), eps)
    torch.testing.assert_close(x.norm(dim=-1), torch.ones_like(x[:, 0]))


def test_the_draw_is_differentiable_by_the_concentration():
    mu = torch.nn.functional.normalize(torch.randn(3, 4).double())
    uniform, eps = torch.tensor([0.2, 0.5, 0.9]).double(), torch.randn(3, 4).double()
    kappa = torch.tensor([0.5, 3.0, 40.0]).double().requires_grad_()
    assert gradcheck(lambda k: von_mises_fisher_draws.draw(mu, k, uniform, eps), (kappa,))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cholesky.draw(torch.zeros(2), torch.eye(3), torch.zeros(2)), "L must have"),
        (
            lambda: cholesky.log_density(torch.zeros(2), torch.zeros(2), -torch.eye(2)),
            "diagonal of L must be positive",
        ),
        (lambda: PlanarFlow(0), "latent_dim must be"),
        (lambda: AffineCoupling(1), "latent_dim - 1 must be"),
        (
            lambda: mixtures.log_density(
                torch.zeros(1), torch.zeros(3), torch.zeros(2, 1), torch.zeros(2, 1)
            ),
            "logits must have",
        ),
        (lambda: von_mises_fisher.kl_to_uniform(torch.zeros(1), 3), "kappa must be positive"),
        (lambda: von_mises_fisher.log_normaliser(torch.ones(1), 1), "dim - 1 must be"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
