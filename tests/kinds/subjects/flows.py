"""VAEs with richer posteriors and priors that are right, each in a way of its own; near misses."""

# ruff: noqa: N803, N806 - L is the letter of the mathematics

import math

import numpy as np
import torch
import torch.distributions as D
import torch.nn.functional as F
from scipy import special, stats
from torch import nn

from vae_ref.conformance import Conventions, from_numpy
from vae_ref.conformance.kinds import FlexibleVAE
from vae_ref.conformance.mutants.kinds.flows import (
    PSEUDO_INPUTS,
    draw_flexible_prior,
    draw_full,
    draw_vmf,
    flow,
    inverse_flow,
    kl_flow,
    kl_full,
    kl_vmf,
    log_density_full,
    log_flexible_prior,
    log_normaliser_vmf,
    sample_full,
    specimen,
)

SINGLE = Conventions(dtype="float32")


def by_torch():
    """By the classes of torch; the KL is summed over the batch."""

    def full(mu, L):
        return D.MultivariateNormal(mu, scale_tril=L)

    def standard(mu):
        return D.MultivariateNormal(torch.zeros_like(mu), torch.eye(mu.shape[1]).to(mu))

    mu, sigma = torch.randn(4, 3).double(), torch.rand(4, 3).double() + 0.3
    weights = torch.softmax(torch.randn(4).double(), 0)
    prior = D.MixtureSameFamily(D.Categorical(weights), D.Independent(D.Normal(mu, sigma), 1))
    return FlexibleVAE(
        name="by torch",
        kl_full=lambda mu, L: D.kl_divergence(full(mu, L), standard(mu)).sum(),
        sample_full=lambda mu, L: full(mu, L).rsample(),
        log_density_full=lambda z, mu, L: full(mu, L).log_prob(z),
        log_flexible_prior=prior.log_prob,
        draw_flexible_prior=lambda n: prior.sample((n,)),
        prior_components=lambda: (weights, mu, 2 * sigma.log()),
        prior_dim=3,
    )


def flows_of_torch():
    """A chain of torch's transforms of one coordinate, with its own inverse and density."""
    chain = D.ComposeTransform(
        [D.AffineTransform(0.4, -1.3), D.TanhTransform(), D.SigmoidTransform()]
    )
    base = D.Normal(torch.zeros(1).double(), torch.ones(1).double())
    transform = D.AffineTransform(1.0, 0.5)
    prior = D.Independent(D.TransformedDistribution(base, [transform]), 1)

    def forth(z):
        return chain(z), chain.log_abs_det_jacobian(z, chain(z))

    def back(z):
        return chain.inv(z), chain.inv.log_abs_det_jacobian(z, chain.inv(z))

    def kl(z, mu, logvar):
        q = D.TransformedDistribution(D.Normal(mu, torch.exp(logvar / 2)), [chain])
        moved = chain(z)
        return (q.log_prob(moved) - D.Normal(0.0, 1.0).log_prob(moved)).squeeze(1)

    return FlexibleVAE(
        name="transforms of torch",
        flow=forth,
        inverse_flow=back,
        kl_flow=kl,
        flow_dim=1,
        log_flexible_prior=prior.log_prob,
        draw_flexible_prior=lambda n: prior.sample((n,)),
        prior_dim=1,
    )


def by_scipy():
    """By scipy's von Mises-Fisher distribution, which comes without a gradient."""

    def of_arrays(function):
        return lambda kappa, dim: from_numpy(lambda k: function(k[:, 0], dim))(kappa)

    def normaliser(k, dim):
        bessel = np.log(special.ive(dim / 2 - 1, k)) + k
        return (dim / 2 - 1) * np.log(k) - dim / 2 * np.log(2 * np.pi) - bessel

    def kl(k, dim):
        log_area = np.log(2) + dim / 2 * np.log(np.pi) - special.gammaln(dim / 2)
        pole = np.eye(dim)[0]
        return np.array([log_area - stats.vonmises_fisher(pole, one).entropy() for one in k])

    def draw(mu, kappa):
        drawn = stats.vonmises_fisher(mu[0].numpy(), float(kappa[0])).rvs(len(mu))
        return torch.from_numpy(drawn)

    def seed(n):
        np.random.seed(n)

    return FlexibleVAE(
        name="by scipy",
        log_normaliser_vmf=of_arrays(normaliser),
        kl_vmf=of_arrays(kl),
        draw_vmf=draw,
        seed=seed,
        vmf_dims=(2, 3, 8),
    )


def in_three_dimensions():
    """The sphere in R^3, whose formulas are elementary; kappa is a constant."""

    def log_sinh(k):
        return k + torch.log1p(-torch.exp(-2 * k)) - math.log(2)

    def normaliser(kappa, dim):
        return kappa.log() - math.log(4 * math.pi) - log_sinh(kappa)

    def kl(kappa, dim):
        with torch.no_grad():
            return (kappa / torch.tanh(kappa) - 1 + kappa.log() - log_sinh(kappa)).sum()

    def draw(mu, kappa):
        u = torch.rand_like(kappa)
        w = 1 + torch.log(u + (1 - u) * torch.exp(-2 * kappa)) / kappa
        v = torch.linalg.cross(mu, torch.randn_like(mu))
        return w * mu + torch.sqrt(1 - w**2) * F.normalize(v)

    return FlexibleVAE(
        name="three dimensions",
        log_normaliser_vmf=normaliser,
        kl_vmf=kl,
        draw_vmf=draw,
        vmf_dims=(3,),
        kappa_fixed=True,
    )


def of_raw_matrices():
    """An encoder outputs a matrix, whose diagonal goes through softplus; one column of answers."""

    def lower(raw):
        diagonal = F.softplus(torch.diagonal(raw, dim1=1, dim2=2))
        return torch.tril(raw, -1) + torch.diag_embed(diagonal)

    def kl(mu, raw):
        L = lower(raw)
        log_det = torch.diagonal(L, dim1=1, dim2=2).log().sum(1, keepdim=True)
        square = (mu**2).sum(1, keepdim=True) + (L**2).sum((1, 2))[:, None]
        return (square - mu.size(1)) / 2 - log_det

    return FlexibleVAE(
        name="raw matrices",
        kl_full=kl,
        draw_full=lambda mu, raw, eps: mu + torch.bmm(lower(raw), eps.unsqueeze(2)).squeeze(2),
        sample_full=lambda mu, raw: sample_full(mu, lower(raw)),
        log_density_full=lambda z, mu, raw: log_density_full(z, mu, lower(raw)),
        factor="softplus-diagonal",
    )


def of_covariances():
    """The covariance itself, whose root is symmetric."""

    def root(covariance):
        values, vectors = torch.linalg.eigh(covariance)
        return vectors @ torch.diag_embed(values.sqrt()) @ vectors.mT

    def kl(mu, covariance):
        values = torch.linalg.eigvalsh(covariance)
        return 0.5 * ((mu**2).sum(1) + (values - 1 - values.log()).sum(1)).mean()

    return FlexibleVAE(
        name="covariances",
        kl_full=kl,
        draw_full=lambda mu, S, eps: mu + (root(S) @ eps[..., None])[..., 0],
        sample_full=lambda mu, S: D.MultivariateNormal(mu, S).sample(),
        log_density_full=lambda z, mu, S: D.MultivariateNormal(mu, S).log_prob(z).sum(),
        factor="covariance",
    )


class RealNVP(nn.Module):
    """Couplings with masks and networks of ReLU in single precision, as they are often written."""

    def __init__(self, dim=4):
        super().__init__()
        masks = [torch.arange(dim) % 2, (torch.arange(dim) + 1) % 2]
        self.masks = [mask.float() for mask in masks]
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, 16), nn.ReLU(), nn.Linear(16, 2 * dim)) for _ in masks
        )

    def forward(self, z):
        log_det = torch.zeros(len(z), 1)
        for mask, net in zip(self.masks, self.nets, strict=True):
            s, t = net(z * mask).chunk(2, 1)
            s, t = torch.tanh(s) * (1 - mask), t * (1 - mask)
            z = z * torch.exp(s) + t
            log_det += s.sum(1, keepdim=True)
        return z, log_det

    def back(self, z):
        log_det = torch.zeros(len(z), 1)
        for mask, net in reversed(list(zip(self.masks, self.nets, strict=True))):
            s, t = net(z * mask).chunk(2, 1)
            s, t = torch.tanh(s) * (1 - mask), t * (1 - mask)
            z = (z - t) * torch.exp(-s)
            log_det -= s.sum(1, keepdim=True)
        return z, log_det


def real_nvp():
    """Four coordinates; the KL is averaged over the batch."""
    model = RealNVP().float()

    def kl(z, mu, logvar):
        moved, log_det = model(z)
        log_q = D.Normal(mu, torch.exp(logvar / 2)).log_prob(z).sum(1) - log_det[:, 0]
        return (log_q - D.Normal(0.0, 1.0).log_prob(moved).sum(1)).mean()

    return FlexibleVAE(
        name="real NVP",
        flow=model,
        inverse_flow=model.back,
        kl_flow=kl,
        flow_dim=4,
        conventions=SINGLE,
    )


def a_flow_of_arrays():
    """Radial flows by NumPy, without gradients."""
    beta, alpha, centre = -0.4, 1.0, np.array([0.3, -0.2])

    def forth(z):
        distance = z.detach().numpy() - centre
        r = np.sqrt((distance**2).sum(1, keepdims=True))
        h = 1 / (alpha + r)
        log_det = np.log1p(beta * h) + np.log1p(beta * h - beta * r * h**2)
        return torch.from_numpy(z.numpy() + beta * h * distance), torch.from_numpy(log_det)

    return FlexibleVAE(name="arrays", flow=forth)


def with_a_vamp_prior():
    """Pseudo-inputs that are clamped to [0, 1], as in the paper's code; the prior is averaged."""
    encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6)).double()
    pseudo_inputs = nn.Parameter(torch.rand(7, 6).double() * 0.8 + 0.1)

    def heads():
        mu, logvar = encoder(F.hardtanh(pseudo_inputs, 0.0, 1.0)).chunk(2, 1)
        return 2 * mu, F.hardtanh(logvar, -6.0, 2.0)

    def log_prior(z):
        mu, logvar = heads()
        z = z.unsqueeze(1)
        log_normal = -0.5 * (logvar + (z - mu) ** 2 * torch.exp(-logvar) + math.log(2 * math.pi))
        a = log_normal.sum(2) - math.log(len(mu))
        a_max = a.max(1)[0]
        return (a_max + torch.log(torch.exp(a - a_max[:, None]).sum(1))).mean()

    def draw(n):
        mu, logvar = heads()
        k = torch.randint(len(mu), (n,))
        return mu[k] + torch.exp(logvar[k] / 2) * torch.randn(n, 3).double()

    return FlexibleVAE(
        name="VampPrior",
        log_flexible_prior=log_prior,
        draw_flexible_prior=draw,
        prior_components=lambda: (None, *heads()),
        prior_parameters=[pseudo_inputs, *encoder.parameters()],
        prior_dim=3,
    )


def with_a_flow_as_prior():
    """The density comes from the inverse of a flow; there are no components."""

    def log_prior(z):
        base, log_det = inverse_flow(z)
        return D.Normal(0.0, 1.0).log_prob(base).sum(1) + log_det

    return FlexibleVAE(
        name="a flow as prior",
        log_flexible_prior=log_prior,
        draw_flexible_prior=lambda n: flow(torch.randn(n, 2).double())[0],
    )


def with_a_laplace_prior():
    """A density with a kink."""
    prior = D.Laplace(torch.tensor([0.5, -1.0]).double(), torch.tensor([0.6, 1.1]).double())
    return FlexibleVAE(
        name="Laplace",
        log_flexible_prior=lambda z: prior.log_prob(z).sum(1),
        draw_flexible_prior=lambda n: prior.sample((n,)),
    )


def flows_of_pyro():
    """Pyro's planar flow and affine coupling, where it is installed."""
    try:
        from pyro.distributions import transforms as T
    except ImportError:
        return specimen("without pyro")
    layers = [T.planar(2).double(), T.affine_coupling(2).double(), T.planar(2).double()]

    def forth(z):
        total = 0
        for layer in layers:
            moved = layer(z)
            total = total + layer.log_abs_det_jacobian(z, moved)
            z = moved
        return z, total

    return FlexibleVAE(name="flows of pyro", flow=forth)


RIGHT = [
    by_torch,
    flows_of_torch,
    by_scipy,
    in_three_dimensions,
    of_raw_matrices,
    of_covariances,
    real_nvp,
    a_flow_of_arrays,
    with_a_vamp_prior,
    with_a_flow_as_prior,
    with_a_laplace_prior,
    flows_of_pyro,
]

OFF = 1e-9


def _slope_off(tensor, share=1e-3):
    return tensor + share * (tensor - tensor.detach())


def _at(condition, value):
    return torch.where(condition, value + OFF, value)


def _is_diagonal(L):
    return (L.tril(-1) == 0).all((1, 2))


def _extreme(kappa):
    return (kappa[:, 0] > 700) | (kappa[:, 0] < 0.1)


def _parameters_off(z):
    """The value of the prior, whose gradient by the pseudo-inputs is off."""
    log = log_flexible_prior(z)
    return log + 1e-3 * (PSEUDO_INPUTS - PSEUDO_INPUTS.detach()).sum()


NEAR = {
    "flows/full-kl": {"kl_full": lambda mu, L: kl_full(mu, L) * (1 + OFF)},
    "flows/full-kl-at-the-prior": {"kl_full": lambda mu, L: _at((mu == 0).all(1), kl_full(mu, L))},
    "flows/full-kl-of-a-diagonal": {"kl_full": lambda mu, L: _at(_is_diagonal(L), kl_full(mu, L))},
    "flows/full-kl-slopes": {"kl_full": lambda mu, L: kl_full(mu, _slope_off(L, OFF))},
    "flows/full-evidence": {"kl_full": lambda mu, L: kl_full(mu, L) + OFF},
    "flows/full-draw": {"draw_full": lambda mu, L, eps: draw_full(mu, L * (1 + OFF), eps)},
    "flows/full-draw-slopes": {
        "draw_full": lambda mu, L, eps: draw_full(mu, _slope_off(L, OFF), eps)
    },
    "flows/full-sample": {"sample_full": lambda mu, L: sample_full(mu, 1.2 * L)},
    "flows/full-density": {
        "log_density_full": lambda z, mu, L: log_density_full(z, mu, L) * (1 + OFF)
    },
    "flows/flow-log-det": {"flow": lambda z: (flow(z)[0], flow(z)[1] + OFF)},
    "flows/flow-keeps-mass": {"flow": lambda z: (flow(z)[0], flow(z)[1] + 0.02)},
    "flows/flow-log-det-slopes": {"flow": lambda z: (flow(z)[0], _slope_off(flow(z)[1]))},
    "flows/inverse-flow": {
        "inverse_flow": lambda z: (inverse_flow(z)[0] + 3e-3, inverse_flow(z)[1])
    },
    "flows/kl-flow": {"kl_flow": lambda *given: kl_flow(*given) + 1e-7},
    "flows/prior-of-its-components": {"log_flexible_prior": lambda z: log_flexible_prior(z) + OFF},
    "flows/prior-mass": {"log_flexible_prior": lambda z: log_flexible_prior(z) + 1e-5},
    "flows/prior-slopes": {"log_flexible_prior": lambda z: log_flexible_prior(_slope_off(z, OFF))},
    "flows/prior-learns": {"log_flexible_prior": _parameters_off},
    "flows/prior-draws": {"draw_flexible_prior": lambda n: draw_flexible_prior(n) + 0.2},
    "flows/vmf-normaliser": {
        "log_normaliser_vmf": lambda k, m: log_normaliser_vmf(k, m) * (1 + OFF)
    },
    "flows/vmf-normaliser-extremes": {
        "log_normaliser_vmf": lambda k, m: _at(_extreme(k), log_normaliser_vmf(k, m))
    },
    "flows/vmf-normaliser-slope": {
        "log_normaliser_vmf": lambda k, m: log_normaliser_vmf(_slope_off(k, OFF), m)
    },
    "flows/vmf-kl": {"kl_vmf": lambda k, m: kl_vmf(k, m) * (1 + OFF)},
    "flows/vmf-kl-extremes": {"kl_vmf": lambda k, m: _at(_extreme(k), kl_vmf(k, m))},
    "flows/vmf-kl-slope": {"kl_vmf": lambda k, m: kl_vmf(_slope_off(k, OFF), m)},
    "flows/vmf-draws": {"draw_vmf": lambda mu, kappa: draw_vmf(mu, 1.4 * kappa)},
    "flows/vmf-draws-at-the-poles": {"draw_vmf": lambda mu, kappa: draw_vmf(mu, 1.4 * kappa)},
}
"""Name of a claim -> changes of the specimen that are off by a few tolerances."""

NOT_OF_THE_REFERENCE = {"flows/inverse-flow": "there is no inverse_flow"}
"""Planar flows have no inverse in closed form."""
