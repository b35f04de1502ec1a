"""Bugs of amortised posteriors."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref.conformance.kinds.calibration import AmortisedPosterior
from vae_ref.conformance.mutants import bank

__all__ = ["specimen"]

NOISE = 0.8  # the deviation of a pixel
W = torch.tensor(
    [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64
)  # a pixel or two for each latent
MIXED = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)

Posterior = Callable[[Tensor], tuple[Tensor, Tensor]]


def simulate(n: int, w: Tensor = W) -> tuple[Tensor, Tensor]:
    """Draw codes from N(0, I), and data from each."""
    z = torch.randn(n, w.shape[1], dtype=torch.float64)
    return z, z @ w.T + NOISE * torch.randn(n, len(w), dtype=torch.float64)


def gaussian_posterior(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the true posterior: the pixels of a latent add their precisions to the prior's."""
    precision = 1 + (W / NOISE).square().sum(0)
    mu = x @ W / NOISE**2 / precision
    return mu, -precision.log().expand_as(mu)


def drawn(posterior: Posterior, x: Tensor, draws: int) -> Tensor:
    """Draw codes from a posterior."""
    mu, logvar = posterior(x)
    return mu + torch.exp(logvar / 2) * torch.randn(draws, *mu.shape, dtype=mu.dtype)


def specimen(
    name: str = "specimen", *, gaussian_posterior: Any = gaussian_posterior, **changes: Any
) -> AmortisedPosterior:
    """Return a correct subject, some of whose functions are replaced; the draws follow."""
    functions: dict[str, Any] = {
        "simulate": simulate,
        "draw_posterior": partial(drawn, gaussian_posterior),
    }
    return AmortisedPosterior(
        name=name, gaussian_posterior=gaussian_posterior, exact=True, **(functions | changes)
    )


bank.describe(
    "calibration",
    specimen,
    gaussian_posterior="q(z|x) = N(μ(x), σ²(x)) = p(z|x)",
    draw_posterior="z_l = μ(x) + ε_l·σ(x)",
)

of_posterior = partial(bank.mutant, "gaussian_posterior", deterministic=False)
of_draws = partial(bank.mutant, "draw_posterior", deterministic=False)


@of_posterior(
    "posterior-five-percent-narrow",
    "your posterior is a few percent too narrow",
    wrong="N(μ(x), (0.95 σ(x))²)",
)
def posterior_narrow(x: Tensor) -> tuple[Tensor, Tensor]:
    mu, logvar = gaussian_posterior(x)
    return mu, logvar + 2 * math.log(0.95)


@of_posterior(
    "posterior-logvar-is-log-sigma",
    "your posterior returns log σ where log σ² is expected",
    wrong="(μ(x), log σ(x))",
    seen=("keras-team/keras#3283", "keras-team/keras#3220"),
)
def posterior_log_sigma(x: Tensor) -> tuple[Tensor, Tensor]:
    mu, logvar = gaussian_posterior(x)
    return mu, logvar / 2


@of_posterior(
    "posterior-is-the-prior",
    "your posterior has collapsed: it is the prior, whatever the data are",
    wrong="N(0, 1)",
    seen=("molecularsets/moses#45",),
)
def posterior_is_the_prior(x: Tensor) -> tuple[Tensor, Tensor]:
    mu, logvar = gaussian_posterior(x)
    return 0 * mu, 0 * logvar


@of_posterior(
    "posterior-logvar-zero",
    "your posterior ignores its head of the log variance: σ is 1",
    wrong="N(μ(x), 1)",
    seen=("huggingface/diffusers#13657",),
)
def posterior_logvar_zero(x: Tensor) -> tuple[Tensor, Tensor]:
    mu, logvar = gaussian_posterior(x)
    return mu, 0 * logvar


@of_posterior(
    "posterior-logvar-of-the-mean-head",
    "your log variance comes from the head of the mean",
    wrong="(μ(x), μ(x))",
    seen=("OpenTalker/SadTalker#969", "kaist-dmlab/TRAP#1"),
)
def posterior_mean_head(x: Tensor) -> tuple[Tensor, Tensor]:
    mu, _ = gaussian_posterior(x)
    return mu, mu


@of_posterior(
    "posterior-softplus-on-logvar",
    "your log variance goes through a softplus, and so σ is never below 1",
    wrong="(μ(x), log(1 + σ²(x)))",
    seen=("wohlert/semi-supervised-pytorch#16",),
)
def posterior_softplus(x: Tensor) -> tuple[Tensor, Tensor]:
    mu, logvar = gaussian_posterior(x)
    return mu, F.softplus(logvar)


@of_posterior(
    "posterior-mean-shrunk",
    "your posterior means are too near to the prior's",
    wrong="N(0.8 μ(x), σ²(x))",
)
def posterior_mean_shrunk(x: Tensor) -> tuple[Tensor, Tensor]:
    mu, logvar = gaussian_posterior(x)
    return 0.8 * mu, logvar


@of_posterior(
    "posterior-shifted",
    "your posterior means are off by a constant",
    wrong="N(μ(x) + 0.2, σ²(x))",
)
def posterior_shifted(x: Tensor) -> tuple[Tensor, Tensor]:
    mu, logvar = gaussian_posterior(x)
    return mu + 0.2, logvar


@of_posterior(
    "posterior-of-another-example",
    "your posterior is that of another example of the batch",
    wrong="q(z_n|x_{n+1})",
)
def posterior_of_another(x: Tensor) -> tuple[Tensor, Tensor]:
    return gaussian_posterior(x.roll(1, 0))


@of_posterior(
    "posterior-of-standardised-data",
    "your posterior standardises the data by the batch, not by what it was trained with",
    wrong="q(z_n|(x_n − mean_m x_m) / deviation_m x_m)",
)
def posterior_standardised(x: Tensor) -> tuple[Tensor, Tensor]:
    deviation = (x - x.mean(0)).square().mean(0).sqrt()
    return gaussian_posterior((x - x.mean(0)) / (deviation + 1e-6))


def mean_field(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the margins of a posterior whose latents are correlated."""
    covariance = torch.linalg.inv(torch.eye(2, dtype=x.dtype) + MIXED.T @ MIXED / NOISE**2)
    mu = x @ MIXED @ covariance / NOISE**2
    return mu, covariance.diagonal().log().expand_as(mu)


@of_posterior(
    "posterior-mean-field",
    "your posterior has independent latents, and the true one does not",
    wrong="Π_d p(z_d|x)",
    simulate=partial(simulate, w=MIXED),
)
def posterior_mean_field(x: Tensor) -> tuple[Tensor, Tensor]:
    return mean_field(x)


@of_draws(
    "draws-sigma-is-exp-logvar",
    "your draws have exp(logvar) for σ: the factor 1/2 is missing",
    wrong="z_l = μ(x) + ε_l·σ²(x)",
    seen=("keras-team/keras#9972",),
)
def draws_exp_logvar(x: Tensor, draws: int) -> Tensor:
    mu, logvar = gaussian_posterior(x)
    return drawn(lambda _: (mu, 2 * logvar), x, draws)


@of_draws(
    "draws-with-less-noise",
    "your draws have noise with a standard deviation of less than 1",
    wrong="z_l = μ(x) + 0.01·ε_l·σ(x)",
    seen=("keras-team/keras#4211",),
)
def draws_less_noise(x: Tensor, draws: int) -> Tensor:
    mu, logvar = gaussian_posterior(x)
    return drawn(lambda _: (mu, logvar + 2 * math.log(0.01)), x, draws)


@of_draws(
    "draws-are-the-mean",
    "your draws are the means: nothing is drawn",
    wrong="z_l = μ(x)",
)
def draws_are_the_mean(x: Tensor, draws: int) -> Tensor:
    mu, _ = gaussian_posterior(x)
    return mu.expand(draws, *mu.shape)


@of_draws(
    "draws-mixed-up",
    "your draws of different examples are mixed up: draws and examples are reshaped, not swapped",
    wrong="z.reshape(L, N, D) of draws in the order (N, L, D)",
    seen=("sbi-dev/sbi#1154", "sbi-dev/pyknos#35"),
)
def draws_mixed_up(x: Tensor, draws: int) -> Tensor:
    right = drawn(gaussian_posterior, x, draws)
    return right.transpose(0, 1).reshape(right.shape)


@of_draws(
    "draws-share-the-noise",
    "your draws have the same noise for every example",
    wrong="z_ln = μ(x_n) + ε_l·σ(x_n)",
)
def draws_share_noise(x: Tensor, draws: int) -> Tensor:
    mu, logvar = gaussian_posterior(x)
    return mu + torch.exp(logvar / 2) * torch.randn(draws, 1, mu.shape[1], dtype=mu.dtype)
