"""Posteriors that are right, or not meant to be exact, each in a way of its own; near misses."""

import math

import numpy as np
import torch
import torch.distributions as D
from scipy import stats
from torch import nn

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import AmortisedPosterior
from vae_ref.conformance.mutants.kinds import calibration as bugs

specimen = bugs.specimen


def by_torch():
    """Whose posterior is one of torch's distributions, and whose draws are its own."""

    def posterior(x):
        mu, logvar = bugs.gaussian_posterior(x)
        return D.Normal(mu, torch.exp(logvar / 2))

    return AmortisedPosterior(
        name="by torch",
        simulate=bugs.simulate,
        gaussian_posterior=posterior,
        draw_posterior=lambda x, draws: posterior(x).sample((draws,)),
        exact=True,
        conventions=Conventions(spread="distribution"),
    )


def by_scipy():
    """Conditions the joint Gaussian of code and data, with SciPy's draws."""
    w, s2 = np.array([[1.0], [-0.5], [2.0]]), 0.3
    joint = np.block([[np.eye(1), w.T], [w, w @ w.T + s2 * np.eye(3)]])
    gain = joint[:1, 1:] @ np.linalg.inv(joint[1:, 1:])
    sigma = np.sqrt(joint[:1, :1] - gain @ joint[1:, :1])

    def simulate(n):
        both = stats.multivariate_normal(np.zeros(4), joint).rvs(n).reshape(n, 4)
        return torch.from_numpy(both[:, :1]), torch.from_numpy(both[:, 1:])

    def posterior(x):
        mu = x @ torch.from_numpy(gain.T)
        return mu, torch.full_like(mu, math.log(sigma.item()))

    def draw(x, draws):
        mu = posterior(x)[0].numpy()
        return torch.from_numpy(stats.norm.rvs(mu, sigma.item(), size=(draws, *mu.shape)))

    return AmortisedPosterior(
        name="by SciPy",
        simulate=simulate,
        gaussian_posterior=posterior,
        draw_posterior=draw,
        exact=True,
        conventions=Conventions(spread="log_sigma"),
    )


def of_a_beta_prior():
    """A posterior that is no Gaussian, of data that are counts: it is given by its draws."""

    def simulate(n):
        z = D.Beta(2.0, 3.0).sample((n, 1))
        return z, D.Binomial(10, z).sample()

    return AmortisedPosterior(
        name="beta",
        simulate=simulate,
        draw_posterior=lambda x, draws: D.Beta(2 + x, 13 - x).sample((draws,)),
        exact=True,
    )


def of_codes_of_0_and_1():
    """Whose draws are often equal to the code: ties are broken at random."""

    def simulate(n):
        z = torch.bernoulli(torch.full((n, 2), 0.3))
        return z, z + torch.randn(n, 2)

    def draw(x, draws):
        odds = torch.exp(x - 0.5) * 0.3 / 0.7
        return torch.bernoulli((odds / (1 + odds)).expand(draws, *x.shape))

    return AmortisedPosterior(name="bits", simulate=simulate, draw_posterior=draw, exact=True)


def with_correlated_latents():
    """Whose draws have the correlations of the true posterior."""
    precision = torch.eye(2).double() + bugs.MIXED.T @ bugs.MIXED / bugs.NOISE**2

    def draw(x, draws):
        mu = torch.linalg.solve(precision, (x @ bugs.MIXED / bugs.NOISE**2).T).T
        return D.MultivariateNormal(mu, precision_matrix=precision).sample((draws,))

    return AmortisedPosterior(
        name="correlated",
        simulate=lambda n: bugs.simulate(n, bugs.MIXED),
        draw_posterior=draw,
        exact=True,
    )


def of_images_in_a_dictionary():
    """Codes with channels and pixels; data that are no tensor."""

    def simulate(n):
        z = torch.randn(n, 2, 2, 1)
        return z, {"image": z + torch.randn(n, 2, 2, 1), "index": torch.arange(n)}

    def posterior(x):
        return x["image"] / 2, torch.full_like(x["image"], math.log(1 / 2))

    def draw(x, draws):
        return x["image"] / 2 + math.sqrt(1 / 2) * torch.randn(draws, *x["image"].shape)

    return AmortisedPosterior(
        name="images",
        simulate=simulate,
        gaussian_posterior=posterior,
        draw_posterior=draw,
        exact=True,
    )


def collapsed_but_not_meant_to_be_exact():
    """The prior for a posterior, which is not declared to be the true one."""

    def prior(x):
        return torch.zeros(len(x), 3), torch.zeros(len(x), 3)

    return AmortisedPosterior(
        name="collapsed",
        simulate=bugs.simulate,
        gaussian_posterior=prior,
        draw_posterior=lambda x, draws: torch.randn(draws, len(x), 3),
    )


def an_encoder_with_batch_normalisation():
    """Not trained, and so not exact; in evaluation mode each example is alone."""
    layers = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 6)
    encoder = nn.Sequential(*layers).float()
    return AmortisedPosterior(
        name="an encoder",
        simulate=lambda n: tuple(t.float() for t in bugs.simulate(n)),
        gaussian_posterior=lambda x: encoder(x).chunk(2, dim=1),
        module=encoder,
        conventions=Conventions(dtype="float32"),
    )


RIGHT = [
    by_torch,
    by_scipy,
    of_a_beta_prior,
    of_codes_of_0_and_1,
    with_correlated_latents,
    of_images_in_a_dictionary,
    collapsed_but_not_meant_to_be_exact,
    an_encoder_with_batch_normalisation,
]


def _posterior(shift=0.0, wider=0.0, shrink=0.0):
    def posterior(x):
        mu, logvar = bugs.gaussian_posterior(x)
        sigma = torch.exp(logvar / 2)
        return (1 - shrink) * mu + shift * sigma, logvar + 2 * math.log1p(wider)

    return posterior


def _draws(**off):
    return lambda x, draws: bugs.drawn(_posterior(**off), x, draws)


def _nearly_product(n):
    """Noise that is slightly correlated between two pixels."""
    z, x = bugs.simulate(n)
    eps = bugs.NOISE * torch.randn(n, 1).double()
    mixed = torch.cat([x[:, :2], (z[:, 1:] @ bugs.W[2:, 1:].T)], 1)
    own = bugs.NOISE * torch.randn(n, 2).double()
    return z, mixed + torch.cat([torch.zeros(n, 2), 0.9 * own + math.sqrt(0.19) * eps], 1)


NEAR = {
    "calibration/scores-centred": {"gaussian_posterior": _posterior(shift=0.1)},
    "calibration/scores-free-of-the-data": {"gaussian_posterior": _posterior(shrink=0.1)},
    "calibration/scores-scaled": {"gaussian_posterior": _posterior(wider=0.05)},
    "calibration/scores-independent": {"simulate": _nearly_product},
    "calibration/draws-of-the-posterior": {"draw_posterior": _draws(wider=0.05)},
    "calibration/ranks-uniform": {"draw_posterior": _draws(wider=-0.06)},
}
"""Name of a claim -> changes of the specimen that are off by a few tolerances."""
