r"""The divergence of codes that have levels.

.. math::
    \mathrm{KL}\big(q(z \mid x)\,\|\,p(z)\big) = \sum_l
    \mathbb E_{q(z_{<l} \mid x)}\Big[\mathrm{KL}\big(q(z_l \mid z_{<l}, x)\,\|\,
    p(z_l \mid z_{<l})\big)\Big]

Levels are counted from the top down, as in the paper of NVAE.
"""

from collections.abc import Sequence

import torch

from vae_ref import checks
from vae_ref.gaussian import kl_between
from vae_ref.shapes import Codes, PerExample

__all__ = ["kl_levels"]


def kl_levels(
    posteriors: Sequence[tuple[Codes, Codes]],
    priors: Sequence[tuple[Codes, Codes]],
    *,
    free_nats: float = 0.0,
) -> PerExample:
    r"""Add up the divergences of all levels, each once, given the codes above.

    .. math:: \sum_l \max\Big(\lambda,\; \mathrm{KL}\big(q(z_l \mid z_{<l}, x)\,\|\,
        p(z_l \mid z_{<l})\big)\Big)

    Without free nats, and with one draw of the codes from the posterior, it is an unbiased
    estimate of the divergence of the joint posterior from the joint prior.

    Args:
        posteriors: The means and log variances of each level, top first. Those of a level have
            the shape ``(*batch, latent)``; levels may differ in the number of latents.
        priors: Those of its prior, of the same shapes.
        free_nats: The least that a level counts for in each example, :math:`\lambda`.

    Returns:
        The divergence in nats, one value per example.

    Raises:
        InputError: If the numbers of levels differ, or the shapes in a level.

    Example:
        >>> zero = torch.zeros(1, 2)
        >>> kl_levels([(zero + 1, zero), (zero + 3, zero)], [(zero, zero), (zero, zero)])
        tensor([10.])

    References:
        Vahdat and Kautz, *NVAE*, 2020, equation 1; Kingma et al., *Improved Variational
        Inference with Inverse Autoregressive Flow*, 2016, appendix C.8, for free nats.
    """
    if len(posteriors) != len(priors):
        raise checks.InputError(
            "posteriors and priors",
            "have the same number of levels",
            f"{len(posteriors)} and {len(priors)}",
            "Give the top level its prior too, N(0, I) if it is not another one.",
        )
    levels = [kl_between(*q, *p) for q, p in zip(posteriors, priors, strict=True)]
    return torch.stack(levels).clamp_min(free_nats).sum(0)
