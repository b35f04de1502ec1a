"""Terms that disentangle latents or keep them in use, and schedules: what they consist of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from vae_ref.conformance.records import Part
from vae_ref.conformance.subject import DeclarationError, Subject

__all__ = ["DisentanglingTerms", "Schedule"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A weight that rises in a straight line, once or in every cycle; a declaration.

    Attributes:
        steps: How many training steps it rises: steps, not epochs.
        start: The first weight.
        end: The last weight.
        cycle: After how many steps it starts again; None for never.
    """

    steps: int
    start: float = 0.0
    end: float = 1.0
    cycle: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or (self.cycle is not None and self.cycle < self.steps):
            raise DeclarationError(
                "a schedule rises for at least one step, and a cycle is at least as long as the "
                f"rise; got steps={self.steps}, cycle={self.cycle}."
            )


@dataclass(frozen=True, kw_only=True)
class DisentanglingTerms(Subject):
    r"""Parts of the loss of a beta-TC-VAE, a DIP-VAE, a FactorVAE, or of an annealed VAE.

    What is left out is not judged. Of the conventions, those of the precision, the noise, and the
    spread apply: ``mu, logvar`` stand for what ``conventions.spread`` says. What is one number for
    each example may also be their sum or mean. A covariance may be divided by B or by B - 1.

    Attributes:
        stratified_log_weights: ``(batch, data)``, two integers -> the logarithms of the weights
            of minibatch stratified sampling, shape ``(batch, batch)``, rows for z.
        decomposition: ``(z, mu, logvar, data)``, each ``(examples, latents)``, and the size of the
            data set -> the mutual information, the total correlation, and the dimension-wise KL.
        total_correlation: The same arguments -> the total correlation alone.
        dip_penalty: ``(mu, logvar)`` -> the penalty of a DIP-VAE, one number.
        permute_latents: z, ``(examples, latents)`` -> z with every latent shuffled on its own.
        tc_from_logits: the logits of a discriminator for codes, ``(examples, logits)`` -> the
            total correlation.
        discriminator_loss: the logits for codes, and those for permuted codes -> the loss of the
            discriminator, up to a factor.
        capacity_term: ``(kl, capacity)``: the KL of every example, and a number -> the penalty.
        free_bits: ``kl``, ``(examples, latents)`` -> the KL with its floor.
        weight_at: the number of a training step, from 0 -> the weight of the KL in it. Look it up
            in what your loop has logged, and what it really used is judged; an ``IndexError``
            or ``KeyError`` ends it.
        sampling: How q(z) is estimated from a batch: ``weighted`` with the weights 1/(NB),
            ``stratified``, ``batch`` with 1/B, or ``unweighted`` with 1: a log-sum-exp and no
            more, which shifts the three parts by constants.
        lambda_od: The weight of ``dip_penalty`` off the diagonal.
        lambda_d: Its weight on the diagonal.
        dip_version: ``I`` for the covariance of the means, ``II`` for that of the codes.
        logits: How many logits the discriminator has: 2, or 1, which is that of "joint".
        joint_class: Which of two logits is that of "joint".
        gamma: The weight of ``capacity_term``.
        floor: The floor of ``free_bits`` in nats.
        floor_over: What it holds for: ``latent`` for the batch's mean KL of every latent, as in
            the paper, ``element`` for every latent of every example, ``example`` for the KL of
            every example, ``batch`` for the mean KL of the batch.
        schedule: The ``Schedule`` of ``weight_at``.

    Example:
        >>> from vae_ref.conformance import verify
        >>> def capacity_term(kl, capacity):
        ...     return 100 * (kl.mean() - capacity).abs()
        >>> subject = DisentanglingTerms(name="mine", capacity_term=capacity_term, gamma=100.0)
        >>> verify(subject).counts["pass"]
        3
    """

    parts: ClassVar[tuple[Part, ...]] = ("disentangling",)

    stratified_log_weights: Callable[[int, int], Tensor] | None = None
    decomposition: Callable[..., tuple[Tensor, Tensor, Tensor]] | None = None
    total_correlation: Callable[..., Tensor] | None = None
    dip_penalty: Callable[..., Tensor] | None = None
    permute_latents: Callable[[Tensor], Tensor] | None = None
    tc_from_logits: Callable[[Tensor], Tensor] | None = None
    discriminator_loss: Callable[[Tensor, Tensor], Tensor] | None = None
    capacity_term: Callable[[Tensor, float], Tensor] | None = None
    free_bits: Callable[[Tensor], Tensor] | None = None
    weight_at: Callable[[int], Any] | None = None
    sampling: Literal["weighted", "stratified", "batch", "unweighted"] = "weighted"
    lambda_od: float | None = None
    lambda_d: float | None = None
    dip_version: Literal["I", "II"] = "I"
    logits: Literal[1, 2] = 2
    joint_class: Literal[0, 1] = 0
    gamma: float | None = None
    floor: float | None = None
    floor_over: Literal["latent", "element", "example", "batch"] = "latent"
    schedule: Schedule | None = None
