"""An estimator of the evidence, such as annealed importance sampling: what it consists of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vae_ref.conformance.records import Part
from vae_ref.conformance.subject import Subject

__all__ = ["EvidenceEstimator"]

LogDensity = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class EvidenceEstimator(Subject):
    r"""Estimates log p(x), from below or from above, of models whose evidence the kit knows.

    The functions are given log densities: a log density takes codes, shape
    ``(chains, examples, latents)``, or with both first axes joined, and returns a value for each,
    in nats and with its constant. It can be differentiated. The prior is N(0, I). The chains of
    different examples must have noise of their own. What is left out is not judged. Of the
    conventions, those of the precision and the noise apply.

    Attributes:
        log_evidence_lower: ``(log_prior, log_likelihood, z, betas)`` -> the log of the average
            weight of the chains, one number for each example: an estimate whose exponential is
            p(x) in expectation. ``z`` are draws from the prior, ``(chains, examples, latents)``,
            and ``betas`` temperatures from 0 to 1, both included. An estimator that needs none
            may ignore them.
        log_evidence_upper: The same, but ``z`` are draws from the true posterior, and ``betas``
            falls from 1 to 0. The exponential of minus the estimate is 1 / p(x) in expectation.
        log_annealed: ``(log_prior, log_likelihood, z, beta)`` -> the log density that a chain
            has at a temperature, ``(chains, examples)``, up to a constant.
        hmc_step: ``(log_density, z)`` -> codes after one move that leaves the density as it is;
            ``z`` has the shape ``(chains, latents)``. It may be any Markov chain.
        leapfrog: ``(log_density, z, v, step, steps)`` -> ``(z, v)`` after so many steps of the
            size ``step``, for momenta of variance 1; v may have its sign changed at the end.
        acceptance: ``(before, after)``, energies H of shape ``(chains,)`` -> the probability to
            accept, or an odds ratio that may exceed 1.

    Example:
        >>> import math
        >>> from vae_ref.conformance import verify
        >>> def importance(log_prior, log_likelihood, z, betas):
        ...     return log_likelihood(z).logsumexp(0) - math.log(len(z))
        >>> verify(EvidenceEstimator(name="mine", log_evidence_lower=importance)).failures
        ()
    """

    parts: ClassVar[tuple[Part, ...]] = ("evidence",)

    log_evidence_lower: Callable[[LogDensity, LogDensity, Tensor, Tensor], Tensor] | None = None
    log_evidence_upper: Callable[[LogDensity, LogDensity, Tensor, Tensor], Tensor] | None = None
    log_annealed: Callable[[LogDensity, LogDensity, Tensor, float], Tensor] | None = None
    hmc_step: Callable[[LogDensity, Tensor], Tensor] | None = None
    leapfrog: Callable[..., tuple[Tensor, Tensor]] | None = None
    acceptance: Callable[[Tensor, Tensor], Tensor] | None = None
