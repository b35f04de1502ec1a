r"""Vector quantisation: a code is the nearest vector of a codebook.

.. math:: z_q = e_k, \qquad k = \arg\min_j \lVert z_e - e_j \rVert^2

Three gradients are kept apart. That of the decoder's loss bypasses the codebook and reaches the
encoder, the codebook loss moves the codebook, and the commitment loss moves the encoder. The
functions return one value for each code, and leave the reduction to the caller.
`vae_ref.kinds.codebook` moves the codebook by averages instead;
`vae_ref.kinds.scalar_quantisation` does without one.
"""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from vae_ref.checks import InputError
from vae_ref.shapes import Codes, PerExample

__all__ = ["Codebook", "Indices", "Losses", "losses", "nearest", "quantise"]

Codebook = Float[Tensor, "codes latent"]
Indices = Int[Tensor, "*batch"]


class Losses(NamedTuple):
    r"""The two losses without weights, one value of each per code.

    Attributes:
        codebook: :math:`\lVert \mathrm{sg}[z_e] - e_k \rVert^2`, which moves the codebook.
        commitment: :math:`\lVert z_e - \mathrm{sg}[e_k] \rVert^2`, which moves the encoder.
    """

    codebook: PerExample
    commitment: PerExample

    def loss(self, beta: float = 0.25) -> PerExample:
        r"""Add up the losses, with the weight :math:`\beta` of the commitment."""
        return self.codebook + beta * self.commitment


def nearest(z_e: Codes, codebook: Codebook) -> Indices:
    r"""Return the indices of the nearest codes.

    .. math:: k = \arg\min_j \lVert z_e - e_j \rVert^2
        = \arg\min_j \big( \lVert e_j \rVert^2 - 2\, z_e \cdot e_j \big)

    The squared length of :math:`z_e` does not depend on j and is left out.

    Args:
        z_e: The encodings, shape ``(*batch, latent)``.
        codebook: The codes :math:`e_j`, shape ``(codes, latent)``.

    Returns:
        The indices, shape ``(*batch)``.

    Raises:
        InputError: If a code has another length than an encoding.

    Example:
        >>> import torch
        >>> nearest(torch.tensor([[0.2], [0.9]]), torch.tensor([[0.0], [1.0], [9.0]]))
        tensor([0, 1])

    References:
        van den Oord, Vinyals and Kavukcuoglu, *Neural Discrete Representation Learning*, 2017,
        equation 1.
    """
    if z_e.shape[-1:] != codebook.shape[-1:]:
        raise InputError(
            "codebook",
            f"have codes of {z_e.shape[-1]} numbers, as z_e has",
            tuple(codebook.shape),
            "Move the channels of z_e to the last axis.",
        )
    return (codebook.square().sum(-1) - 2 * z_e @ codebook.T).argmin(-1)


def quantise(z_e: Codes, codebook: Codebook) -> tuple[Codes, Indices]:
    r"""Return the nearest codes with a straight-through gradient, and their indices.

    .. math::
        z_q = z_e + \mathrm{sg}[e_k - z_e], \qquad
        \frac{\partial z_q}{\partial z_e} = I, \qquad \frac{\partial z_q}{\partial e} = 0

    Args:
        z_e: The encodings, shape ``(*batch, latent)``.
        codebook: The codes :math:`e_j`, shape ``(codes, latent)``.

    Returns:
        The codes :math:`z_q`, the shape of ``z_e``, and their indices :math:`k`, shape
        ``(*batch)``.

    Raises:
        InputError: If a code has another length than an encoding.

    Example:
        >>> import torch
        >>> z_e = torch.tensor([[0.25], [2.0]], requires_grad=True)
        >>> z_q, k = quantise(z_e, torch.tensor([[0.0], [1.0]]))
        >>> z_q.tolist(), torch.autograd.grad(z_q.sum(), z_e)[0].tolist()
        ([[0.0], [1.0]], [[1.0], [1.0]])

    References:
        van den Oord et al. 2017, equation 2 and section 3.2.
    """
    k = nearest(z_e, codebook)
    return z_e + (codebook[k] - z_e).detach(), k


def losses(z_e: Codes, codebook: Codebook) -> Losses:
    r"""Return the codebook loss and the commitment loss. They have the same value.

    .. math::
        \lVert \mathrm{sg}[z_e] - e_k \rVert^2 \quad\text{and}\quad
        \lVert z_e - \mathrm{sg}[e_k] \rVert^2

    Args:
        z_e: The encodings, shape ``(*batch, latent)``.
        codebook: The codes :math:`e_j`, shape ``(codes, latent)``.

    Returns:
        `Losses`, squared distances, one value of each per code.

    Raises:
        InputError: If a code has another length than an encoding.

    Example:
        >>> import torch
        >>> losses(torch.tensor([[0.5, 0.0]]), torch.zeros(1, 2)).loss(beta=1.0)
        tensor([0.5000])

    References:
        van den Oord et al. 2017, equation 3.
    """
    e = codebook[nearest(z_e, codebook)]
    return Losses(
        codebook=(z_e.detach() - e).square().sum(-1),
        commitment=(z_e - e.detach()).square().sum(-1),
    )
