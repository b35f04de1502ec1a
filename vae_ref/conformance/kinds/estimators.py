"""Estimators of bounds, of their gradients and of a KL: what is judged of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args, get_type_hints

from torch import Tensor

from vae_ref.conformance.records import Part
from vae_ref.conformance.subject import DeclarationError, Subject
from vae_ref.support.excerpt import excerpt

__all__ = ["Estimators"]

_DECLARED = ("samples_axis", "estimator", "baseline", "left_out", "kl_estimator", "kl_use")


@dataclass(frozen=True, kw_only=True)
class Estimators(Subject):
    r"""Estimators that draw samples: what they compute, and what gradient they give.

    Weights, noise, log probabilities and rewards have one axis for samples and one for examples,
    (samples, examples); ``samples_axis=1`` swaps the two. A surrogate is a function whose
    gradient is the estimator: a loss, unless ``maximised``. It may return one number for each
    example, or their sum or mean. What is left out is not judged. Of the conventions, that of
    the precision applies.

    Attributes:
        weighted_bound: ``log_w`` -> the importance-weighted bound of log p(x).
        surrogate: ``(mu, logvar, eps, log_joint)`` -> a surrogate of the ELBO or the bound.
            ``mu`` and ``logvar`` are ``(examples, latents)``, ``eps`` has one more axis, for
            samples, and ``log_joint`` is log p(x, z) as a function of z, for any axes before the
            last.
        score_function: ``(log_q, rewards)`` -> a surrogate of the expected reward of samples
            that cannot be differentiated, of the log probabilities ``log_q``.
        vimco: ``(log_w, log_q)`` -> a surrogate of the bound, whose samples cannot be
            differentiated.
        kl_estimate: ``(log_q, log_p)``, each ``(samples,)`` -> an estimate of KL(q || p) from
            each sample of q, or their sum or mean.
        samples_axis: The axis of the samples, 0 or 1.
        maximised: Whether the surrogates are to be maximised.
        estimator: What the surrogate estimates the gradient of, and how: of the ELBO ``plain``,
            or by ``stl`` along the path alone; of the bound by ``iwae``, or by ``dreg``.
        trains_model: Whether the gradient of the surrogate trains the parameters of
            ``log_joint`` too.
        baseline: What ``score_function`` subtracts from a reward: the mean of the other samples
            (``leave-one-out``), the ``mean`` of all, which shrinks the gradient by 1 - 1/K, or
            ``none``, if it is nothing or another number that does not depend on the sample. A
            surrogate that divides rewards by their deviation is of something else: leave it out.
        rewards_in_graph: Whether the rewards have a gradient of their own when they are passed on,
            as the log likelihood of a decoder has, and those of an environment have not.
        left_out: What stands in VIMCO for the weight that is left out: the ``geometric`` or the
            ``arithmetic`` mean of the others.
        kl_estimator: Which estimate of the KL it is, with r = p/q: ``k1`` is -log r, ``k2`` is
            (log r)^2 / 2, and ``k3`` is r - 1 - log r; ``any`` is one whose mean is the KL.
        kl_use: What becomes of the estimate: it is only looked at (``value``), it is taken off a
            ``reward``, where it is a constant that multiplies the slope of log q, or it is a
            ``loss``, which is differentiated itself.

    Raises:
        DeclarationError: If a declaration has none of these values.

    Example:
        >>> import math
        >>> from vae_ref.conformance import verify
        >>> def bound(log_w):
        ...     return log_w.logsumexp(0) - math.log(len(log_w))
        >>> verify(Estimators(name="mine", weighted_bound=bound)).counts["pass"]
        3
    """

    parts: ClassVar[tuple[Part, ...]] = ("estimators",)

    weighted_bound: Callable[[Tensor], Tensor] | None = None
    surrogate: Callable[..., Tensor] | None = None
    score_function: Callable[[Tensor, Tensor], Tensor] | None = None
    vimco: Callable[[Tensor, Tensor], Tensor] | None = None
    kl_estimate: Callable[[Tensor, Tensor], Tensor] | None = None
    samples_axis: Literal[0, 1] = 0
    maximised: bool = False
    estimator: Literal["plain", "stl", "iwae", "dreg"] = "plain"
    trains_model: bool = False
    baseline: Literal["none", "leave-one-out", "mean"] = "none"
    rewards_in_graph: bool = False
    left_out: Literal["geometric", "arithmetic"] = "geometric"
    kl_estimator: Literal["any", "k1", "k2", "k3"] = "any"
    kl_use: Literal["value", "reward", "loss"] = "value"

    def __post_init__(self) -> None:
        types = get_type_hints(Estimators)
        for name in _DECLARED:
            value, options = getattr(self, name), get_args(types[name])
            if value not in options:
                known = " or ".join(map(str, options))
                raise DeclarationError(f"{name} must be {known}; got {excerpt(value)}.")
