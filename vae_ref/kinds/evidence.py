r"""Bound the evidence from both sides, by annealing between a start density and the joint density.

.. math::
    \log f_\beta(z) = (1 - \beta) \log f_0(z) + \beta \log p(x, z)

The start :math:`f_0` is a normalised density such as the prior, or a posterior :math:`q(z \mid x)`
that is near the true one. Let :math:`w` be the weight that `anneal` returns. From a draw of
:math:`f_0` up to :math:`\beta = 1`, :math:`E[w] = p(x)`, and :math:`\log w` is a lower bound in
expectation. From a draw of the true posterior down to :math:`\beta = 0`, :math:`E[w] = 1/p(x)`,
and :math:`-\log w` is an upper bound. `vae_ref.objective.importance_weighted_bound` averages the
weights of several chains, in either direction. By Markov's inequality a bound is wrong by more
than :math:`t` nats with a probability of at most :math:`e^{-t}`, however bad the chains are.

A model can be simulated: it draws a code and then data, and the code is a draw from the true
posterior of these data. So both bounds hold in expectation for simulated data. For other data, a
long chain gives a draw that is only nearly from the posterior, and the upper bound is no bound.
"""

from itertools import pairwise

import torch
from torch import Tensor

from vae_ref import checks
from vae_ref.kinds.hamiltonian import LogDensity, hmc
from vae_ref.shapes import Noise, PerDraw

__all__ = ["anneal"]


def anneal(
    log_start: LogDensity,
    log_joint: LogDensity,
    z: Noise,
    betas: Tensor,
    *,
    momenta: Tensor,
    uniforms: Tensor,
    step: Tensor,
    steps: int = 10,
) -> tuple[PerDraw, Noise, Tensor]:
    r"""Run chains through the temperatures: at each, update the log weight, then move the codes.

    .. math:: \log w = \sum_{t=1}^T \log f_{\beta_t}(z_{t-1}) - \log f_{\beta_{t-1}}(z_{t-1})

    Args:
        log_start: The normalised log density :math:`\log f_0`.
        log_joint: The log density :math:`\log p(x, z)`.
        z: Draws at the first temperature, shape ``(*chains, latent)``.
        betas: The temperatures, shape ``(T + 1)``: from 0 to 1, or back.
        momenta: Standard normal noise, shape ``(T - 1, *chains, latent)``.
        uniforms: Uniform noise in [0, 1), shape ``(T - 1, *chains)``.
        step: See `leapfrog`. It must not depend on how the chain moves.
        steps: The leapfrog steps of a move.

    Returns:
        The log weight of each chain in nats, the codes before the last temperature, and the share
        of moves that were accepted.

    Raises:
        InputError: If the noise does not have these shapes, or ``steps`` is not positive.

    Example:
        >>> prior = lambda z: torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        >>> joint, z, betas = lambda z: prior(z) - 2, torch.zeros(3, 1), torch.linspace(0, 1, 5)
        >>> noise = {"momenta": torch.randn(3, 3, 1), "uniforms": torch.rand(3, 3)}
        >>> anneal(prior, joint, z, betas, **noise, step=torch.tensor(0.5))[0]
        tensor([-2., -2., -2.])

    References:
        Neal, *Annealed Importance Sampling*, 2001, equation 11; Grosse, Ghahramani and Adams,
        *Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo*, 2015, section 3;
        Wu, Burda, Salakhutdinov and Grosse, *On the Quantitative Analysis of Decoder-Based
        Generative Models*, 2017, section 3.
    """
    moves = len(betas) - 2
    shapes = {"momenta": (momenta, z.shape), "uniforms": (uniforms, z.shape[:-1])}
    for name, (noise, shape) in shapes.items():
        if noise.shape != (moves, *shape):
            raise checks.InputError(
                name, f"have the shape {(moves, *shape)}", tuple(noise.shape), "Draw it so."
            )
    log_w, accepted = torch.zeros_like(z[..., 0]), torch.zeros_like(z[..., 0])
    for t, (before, after) in enumerate(pairwise(betas)):
        log_w = log_w + (after - before) * (log_joint(z) - log_start(z)).detach()
        if t < moves:
            z, moved = hmc(
                lambda z, b=after: (1 - b) * log_start(z) + b * log_joint(z),  # type: ignore[misc]
                z, momenta[t], uniforms[t], step=step, steps=steps,
            )  # fmt: skip
            accepted = accepted + moved
    return log_w, z, accepted / max(1, moves)
