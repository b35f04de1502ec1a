"""A vector quantiser, or a scalar one: what it consists of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from vae_ref.conformance.records import Part
from vae_ref.conformance.subject import Subject

__all__ = ["VectorQuantiser"]


@dataclass(frozen=True, kw_only=True)
class VectorQuantiser(Subject):
    r"""The discrete bottleneck of a VQ-VAE: a codebook, its losses and its moving average.

    ``z_e`` is what the encoder returns, of shape ``(examples, *positions, dims)`` with the last
    axis moved to ``code_axis``; the codebook has the shape ``(codes, dims)``. A module that holds
    its codebook takes another one with ``torch.func.functional_call``. What is left out is not
    judged. Of the conventions, that of the precision applies.

    Attributes:
        quantise: ``(z_e, codebook)`` -> ``(z_q, indices)``: the nearest code in the shape of
            ``z_e``, with the gradient of the estimator, and its index, or a one-hot vector, for
            each position; or z_q alone.
        quantisation_loss: ``(z_e, codebook)`` -> the loss of the codebook and ``commitment`` times
            that of the encoder, a scalar, or one number for each example, position or number.
        commitment_loss: ``(z_e, codebook)`` -> the loss of the encoder alone, with whatever
            weight, of a codebook that is moved by averages. No gradient reaches the codebook.
        update_codebook: ``(z_e, indices, counts, sums, decay)`` -> ``(codebook, counts, sums)``,
            one step of the exponential moving averages. Here ``z_e`` is ``(n, dims)``, ``indices``
            is ``(n,)``, ``counts`` is ``(codes,)`` and ``sums`` is ``(codes, dims)``.
        perplexity: ``(indices, codes)`` -> exp of the entropy of how often the codes are used.
        round_levels: ``(z, levels)`` -> z rounded to so many levels, of any spacing, for each
            number: finite scalar quantisation. ``z`` is ``(n, len(levels))``.
        commitment: The weight beta of the commitment loss; None to have it inferred.
        reduction: How the losses are meant to be reduced: ``mean`` over all numbers; ``dims``,
            summed over the dims of a code and averaged over the codes; ``example``, summed over
            an example and averaged over examples; or ``sum``. None has the factor inferred.
        estimator: ``other`` if z_q has another gradient than a straight-through one, on purpose.
        smoothing: The epsilon of Laplace's smoothing of the counts; None if any small one will do.
        positions: The shape of the positions of an example, such as ``(4, 4)`` of an image.
        code_axis: The axis of ``z_e`` that holds the numbers of a code: 1 for images of torch.
        codes: How many codes the functions are tried with.
        dims: How many numbers a code has.

    Example:
        >>> import torch
        >>> from torch.nn.functional import mse_loss
        >>> from vae_ref.conformance import verify
        >>> def quantisation_loss(z_e, codebook):
        ...     e = codebook[torch.cdist(z_e, codebook).argmin(1)]
        ...     return mse_loss(e, z_e.detach()) + 0.25 * mse_loss(z_e, e.detach())
        >>> verify(VectorQuantiser(name="mine", quantisation_loss=quantisation_loss)).verdict
        'partial'
    """

    parts: ClassVar[tuple[Part, ...]] = ("quantisation",)

    quantise: Callable[[Tensor, Tensor], Any] | None = None
    quantisation_loss: Callable[[Tensor, Tensor], Tensor] | None = None
    commitment_loss: Callable[[Tensor, Tensor], Tensor] | None = None
    update_codebook: Callable[..., tuple[Tensor, Tensor, Tensor]] | None = None
    perplexity: Callable[[Tensor, int], Tensor] | None = None
    round_levels: Callable[[Tensor, tuple[int, ...]], Tensor] | None = None
    commitment: float | None = 0.25
    reduction: Literal["mean", "dims", "example", "sum"] | None = None
    estimator: Literal["straight-through", "other"] = "straight-through"
    smoothing: float | None = None
    positions: tuple[int, ...] = ()
    code_axis: int = -1
    codes: int = 7
    dims: int = 3
