r"""Train a linear-Gaussian VAE with a subject's KL and sampler: its optimum is known.

With p(x | z) = N(W z, s^2 I) and q(z | x) = N(V x, diag D), the best ELBO is the largest
log-likelihood of probabilistic principal component analysis, in closed form from the eigenvalues
of the covariance (Tipping and Bishop 1999; Lucas et al. 2019).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_ref.conformance.guards import one_thread
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import NotApplicable
from vae_ref.support.platform import Adam

__all__ = ["Optimum", "Solution", "optimum", "solution"]

_EXAMPLES, _STEPS, _RATE = 300, 1500, 0.05
_SIGNAL, _NOISE, _NOISE_PIXELS = (9.0, 4.0), 0.25, 4
"""The eigenvalues of the covariance of the data: of the latents, and of the other directions."""

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Optimum:
    """The data and the closed-form answer for them.

    Attributes:
        x: The data, shape ``(examples, pixels)``, whose mean is 0.
        elbo: The largest ELBO, nats per example.
        subspace: The principal directions, shape ``(pixels, latents)``.
        variances: The posterior variances, in ascending order.
    """

    x: Tensor
    elbo: float
    subspace: Tensor
    variances: Tensor


@dataclass(frozen=True)
class Solution:
    """What a training ends with.

    Attributes:
        elbo: The ELBO in closed form, nats per example.
        reported: The same ELBO, with the KL that the subject computes.
        angle: The largest principal angle between the decoder's columns and the subspace.
        variances: The posterior variances, in ascending order.
    """

    elbo: float
    reported: float
    angle: float
    variances: Tensor


def optimum(probe: Probe) -> Optimum:
    """Draw data whose covariance is exactly a given one, and return the optimum for them."""
    latents, pixels = len(_SIGNAL), len(_SIGNAL) + _NOISE_PIXELS
    eigenvalues = torch.tensor([*_SIGNAL, *[_NOISE] * _NOISE_PIXELS], dtype=torch.float64)
    x = probe.normal("linear data", _EXAMPLES, pixels).double()
    x = x - x.mean(0)
    root = torch.linalg.cholesky(x.T @ x / len(x))
    white = torch.linalg.solve_triangular(root, x.T, upper=False).T
    rotation, _ = torch.linalg.qr(probe.normal("linear turn", pixels, pixels).double())
    entropy = float(eigenvalues.log().sum()) + pixels * (1 + _LOG_2PI)
    return Optimum(
        x=white * eigenvalues.sqrt() @ rotation.T,
        elbo=-entropy / 2,
        subspace=rotation[:, :latents],
        variances=(_NOISE / eigenvalues[:latents]).sort().values,
    )


def solution(probe: Probe) -> Solution:
    """Train on the data of `optimum`, once per run: Adam, with a rate that falls to zero."""
    if len(probe.conventions.latent_shape or (1,)) > 1:
        raise NotApplicable("the codes are not flat")
    for part in ("kl", "loss", "reparameterize"):
        if getattr(probe.subject, part) is not None:
            probe.require_gradient(part)

    def train() -> Solution:
        with one_thread():
            return _train(probe, optimum(probe))

    return probe.once("linear VAE", train)


def _train(probe: Probe, best: Optimum) -> Solution:
    x = best.x.to(probe.dtype)
    pixels, latents = x.shape[1], len(_SIGNAL)
    # Start near the principal axes: codes that are rotated against them come back only slowly.
    signal = torch.tensor(_SIGNAL, dtype=torch.float64)
    axes = best.subspace * (signal - _NOISE).sqrt()
    weights = {
        "W": axes.to(probe.dtype) + 0.3 * probe.normal("linear W", pixels, latents),
        "V": (axes / signal).T.to(probe.dtype) + 0.1 * probe.normal("linear V", latents, pixels),
        "logvar": torch.zeros(latents, dtype=probe.dtype),
        "log s^2": torch.zeros((), dtype=probe.dtype),
    }
    for weight in weights.values():
        weight.requires_grad_()
    w, v, logvar, log_s2 = weights.values()
    optimiser = Adam([w, v, logvar, log_s2], _RATE, fused=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    probe.subject.seed(probe.number("linear"))
    for _ in range(_STEPS):
        mu, spread = x @ v.T, logvar.expand(len(x), -1)
        error = (x - probe.z(mu, spread) @ w.T).square().sum() * torch.exp(-log_s2)
        nll = 0.5 * (error + x.numel() * (log_s2 + _LOG_2PI))
        loss = (nll + probe.kl(mu, spread)) / len(x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cosine.step()
    with torch.no_grad():
        return _evaluate(probe, best, [weight.double() for weight in weights.values()])


def _evaluate(probe: Probe, best: Optimum, weights: list[Tensor]) -> Solution:
    x, (w, v, logvar, log_s2) = best.x, weights
    mu = x @ v.T
    expected = (x - mu @ w.T).square().sum(1) + (w.square() * logvar.exp()).sum()
    nll = 0.5 * (expected * torch.exp(-log_s2) + x.shape[1] * (log_s2 + _LOG_2PI)).mean()
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
    reported_kl = probe.kl(
        mu.to(probe.dtype), logvar.expand_as(mu).to(probe.dtype)
    ).double() / len(x)
    cosines = torch.linalg.svdvals(torch.linalg.qr(w)[0].T @ best.subspace)
    return Solution(
        elbo=float(-nll - kl),
        reported=float(-nll - reported_kl),
        angle=math.acos(min(1.0, float(cosines.min()))),
        variances=logvar.exp().sort().values,
    )
