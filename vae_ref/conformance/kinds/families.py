"""A likelihood beyond the textbook's: what it consists of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from vae_ref.conformance.records import Part
from vae_ref.conformance.subject import Subject

__all__ = ["LikelihoodFamily"]


@dataclass(frozen=True, kw_only=True)
class LikelihoodFamily(Subject):
    r"""A decoder's likelihood: how pixels, counts or classes are scored, given its outputs.

    What is left out is not judged. If the family is not declared, all families are tried, with
    all that a parameter may mean (a variance, its logarithm, ...) and all shapes below, and the
    report says which it is. A score that is wrong agrees with none: declare ``family`` and
    ``takes``, and it is held to them. The functions get data ``(examples, pixels)`` and
    parameters of the same shape, or of the shape that the conventions declare for pixels.

    =================================== ============================== ===========================
    ``family``                          values of x                    ``takes``, some of
    =================================== ============================== ===========================
    ``gaussian``                        real                           mean, sigma, log_sigma,
                                                                       variance, logvar,
                                                                       precision, log_precision;
                                                                       mean alone: sigma is fixed
    ``laplace``                         real                           mean, scale, log_scale; or
                                                                       mean alone
    ``student-t``                       real                           mean, scale, log_scale,
                                                                       degrees, log_degrees
    ``discretised-logistic``            levels of a grey value         mean, scale, log_scale
    ``logistic-mixture``                levels of a grey value         logits, mean, scale,
                                                                       log_scale
    ``poisson``                         counts                         rate, log_rate
    ``negative-binomial``               counts                         mean, log_mean, dispersion,
                                                                       inverse_dispersion, their
                                                                       logarithms (log\_...); or
                                                                       total_count, logits, probs,
                                                                       failure_probs
    ``zero-inflated-negative-binomial`` counts                         the same, and gate or
                                                                       gate_logits
    ``categorical``                     the index of a class           logits, probabilities,
                                                                       log_probabilities
    ``multinomial``                     counts ``(examples, classes)`` the same
    =================================== ============================== ===========================

    Of a negative binomial, the variance is mean + mean² · dispersion; ``total_count`` is the
    inverse dispersion, ``probs`` is mean / (mean + total_count), ``logits`` are the logits of
    that, and ``failure_probs`` is 1 - probs. Classes, and the components of a mixture, are
    one more axis of the parameters.

    Attributes:
        score: ``(x, *parameters)`` -> the negative log-likelihood in nats: a number for each
            pixel or example, or reduced in any way over the batch.
        mean_of: ``(*parameters)`` -> the mean of x; of classes, their probabilities.
        draw_pixels: ``(*parameters)`` -> a draw of x. Of levels, it may be a number between two
            of them, which is rounded. (A multinomial draw may have any total.)
        family: What it is, if that is not to be inferred.
        takes: What the parameters mean, in their order.
        scale_per: Whether the scale, or the dispersion, has a number for each pixel of each
            example, for a pixel (``column``), for an example (shape ``(examples, 1)``), or one
            for ``all``. If it is left out, this is inferred.
        axis: The axis of classes or components, -1 or 1; if it is left out, it is inferred.
        level_range: The values of the first and the last level, such as (0, 1), (-1, 1) or
            (0, 255); if it is left out, one of these is inferred.
        levels: The number of levels.
        up_to_constant: Whether the score leaves out what depends on no parameter, such as
            ½ log 2π or log x!, which changes no gradient. If it is left out, either is right, and
            the total mass is not judged where it is left out.
        support: The values that x may have, for a family that is not in the table.
        parameters: ``n`` -> parameters of n examples of one pixel each, for a family that is not
            in the table: then the total mass and the slopes are judged.

    Example:
        >>> from torch.distributions import Normal
        >>> from vae_ref.conformance import verify
        >>> def score(x, mean, log_sigma):
        ...     return -Normal(mean, log_sigma.exp()).log_prob(x).sum(1)
        >>> report = verify(LikelihoodFamily(name="mine", score=score))
        >>> report.counts["pass"], report.facts["likelihood"]
        (7, 'gaussian, which takes mean, log_sigma')
    """

    parts: ClassVar[tuple[Part, ...]] = ("families",)

    score: Callable[..., Tensor] | None = None
    mean_of: Callable[..., Tensor] | None = None
    draw_pixels: Callable[..., Tensor] | None = None
    family: str | None = None
    takes: tuple[str, ...] | None = None
    scale_per: Literal["pixel", "column", "example", "all"] | None = None
    axis: Literal[-1, 1] | None = None
    level_range: tuple[float, float] | None = None
    levels: int = 256
    up_to_constant: bool | None = None
    support: Literal["real", "unit levels", "counts", "classes"] | None = None
    parameters: Callable[[int], tuple[Any, ...]] | None = None
