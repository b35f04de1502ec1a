r"""Finite scalar quantisation rounds every number of a code to a few levels, with no codebook."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_ref import checks
from vae_ref.checks import InputError
from vae_ref.shapes import Codes

__all__ = ["bound", "round_levels"]

_BEYOND = 1e-3  # how far the bound reaches beyond the outer levels, so that both are reached


def bound(z: Codes, levels: Sequence[int]) -> Codes:
    r"""Bound every number, so that it rounds to exactly as many integers as it has levels.

    .. math::
        f(z) = h \tanh\big(z + \operatorname{artanh}(o / h)\big) - o, \qquad
        h = \tfrac12 (L - 1)(1 + \epsilon)

    The :math:`L` integers begin with :math:`-\lfloor L/2 \rfloor`. For an odd :math:`L` they are
    symmetric, and :math:`o = 0`. For an even :math:`L`, :math:`o = \tfrac12`: without this shift
    there would be one integer too many. (The paper's listing shifts by :math:`\tan` where this
    shifts by :math:`\operatorname{artanh}`, with which zero is bounded to zero.)

    Args:
        z: The encodings, shape ``(*batch, latent)``.
        levels: How many levels :math:`L` each of the latents has.

    Returns:
        The bounded encodings :math:`f(z)`, the same shape; neighbouring levels are 1 apart.

    Raises:
        InputError: If there is not one number of levels, of at least 2, for each latent.

    Example:
        >>> bound(torch.tensor([[-9.0, -9.0], [9.0, 9.0]]), (4, 5)).round()
        tensor([[-2., -2.],
                [ 1.,  2.]])

    References:
        Mentzer et al., *Finite Scalar Quantization: VQ-VAE Made Simple*, 2023, section 3.1 and
        appendix A.1.
    """
    number = _levels(z, levels)
    h, o = (number - 1) * (1 + _BEYOND) / 2, torch.where(number % 2 == 0, 0.5, 0.0)
    return h * torch.tanh(z + torch.atanh(o / h)) - o


def round_levels(z: Codes, levels: Sequence[int]) -> Codes:
    r"""Round every number to one of its levels in [-1, 1], with the gradient of the bound.

    .. math::
        q(z) = \frac{f(z) + \mathrm{sg}[\operatorname{round} f(z) - f(z)]}{\lfloor L/2 \rfloor}

    Args:
        z: The encodings, shape ``(*batch, latent)``.
        levels: How many levels :math:`L` each of the latents has.

    Returns:
        The codes :math:`q(z)` in [-1, 1], the same shape.

    Raises:
        InputError: If there is not one number of levels, of at least 2, for each latent.

    Example:
        >>> round_levels(torch.tensor([[0.4], [0.6], [9.0]]), (5,))
        tensor([[0.5000],
                [0.5000],
                [1.0000]])

    References:
        Mentzer et al. 2023, section 3.1.
    """
    bounded = bound(z, levels)
    rounded = bounded + (bounded.round() - bounded).detach()
    return rounded / (_levels(z, levels) // 2)


def _levels(z: Codes, levels: Sequence[int]) -> Tensor:
    for level in levels:
        checks.require_positive_integer("levels", level)
    if z.shape[-1:] != (len(levels),) or min(levels) < 2:
        raise InputError(
            "levels",
            f"be {z.shape[-1]} numbers from 2 on, one for each latent",
            tuple(levels),
            "Use (8, 5, 5, 5) for a thousand codes of 4 numbers.",
        )
    return torch.tensor(levels).to(z)
