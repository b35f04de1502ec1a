"""What is done to the KL while a model trains: capacity, free bits, a schedule of its weight."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vae_ref import checks
from vae_ref.shapes import PerExample, Scalar

__all__ = ["FloorOver", "Schedule", "capacity_term", "free_bits"]

FloorOver = Literal["element", "example", "latent", "batch"]


def capacity_term(kl: PerExample, capacity: float, *, gamma: float) -> Scalar:
    r"""Compute the penalty on the distance of the KL from a capacity.

    .. math:: \gamma\,|E_n[KL_n] - C|

    Below the capacity it pushes the KL up.

    Args:
        kl: The divergence of every example in nats, shape ``(batch,)``.
        capacity: The capacity :math:`C` in nats, which rises during the training.
        gamma: The weight :math:`\gamma`.

    Returns:
        The penalty in nats, one number for the batch.

    Example:
        >>> import torch
        >>> capacity_term(torch.tensor([3.0, 5.0]), 10.0, gamma=2.0)
        tensor(12.)

    References:
        Burgess et al., *Understanding disentangling in beta-VAE*, 2018, equation 8.
    """
    return gamma * (kl.mean() - capacity).abs()


def free_bits(kl_per_latent: Tensor, *, floor: float, floor_over: FloorOver = "latent") -> Scalar:
    r"""Compute the KL with a floor, as a mean over the batch: below the floor it has no gradient.

    .. math::
        \begin{aligned}
        \text{latent:}\quad & \sum_d \max(\lambda, E_n[KL_{nd}]) &
        \text{element:}\quad & E_n \sum_d \max(\lambda, KL_{nd}) \\
        \text{example:}\quad & E_n \max\Big(\lambda, \sum_d KL_{nd}\Big) &
        \text{batch:}\quad & \max\Big(\lambda, E_n \sum_d KL_{nd}\Big)
        \end{aligned}

    Kingma et al. have the first, where d counts groups of latents.

    Args:
        kl_per_latent: The divergence of every latent in nats, shape ``(batch, latent)``.
        floor: The floor :math:`\lambda` in nats.
        floor_over: What the floor holds for.

    Returns:
        The KL in nats, one number for the batch.

    Example:
        >>> import torch
        >>> kl = torch.tensor([[0.0, 4.0], [0.0, 6.0]])
        >>> [float(free_bits(kl, floor=1.0, floor_over=over)) for over in ("latent", "batch")]
        [6.0, 5.0]

    References:
        Kingma et al., *Improved Variational Inference with Inverse Autoregressive Flow*, 2016,
        equation 15.
    """
    if floor_over in ("example", "batch"):
        kl_per_latent = kl_per_latent.sum(1, keepdim=True)
    if floor_over in ("latent", "batch"):
        kl_per_latent = kl_per_latent.mean(0, keepdim=True)
    return kl_per_latent.clamp(min=floor).sum() / len(kl_per_latent)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    r"""A weight that rises in a straight line, once or in every cycle.

    .. math:: \beta_t = \beta_0 + (\beta_1 - \beta_0)\,\min\Big(1,\; \frac{t \bmod M}{T}\Big)

    Args:
        steps: The number :math:`T` of training steps of the rise.
        start: The first weight :math:`\beta_0`.
        end: The last weight :math:`\beta_1`.
        cycle: The number :math:`M` of steps after which it starts again; None for never.

    Raises:
        InputError: If the steps are not positive, or the cycle is shorter than the rise.

    Example:
        >>> [Schedule(steps=4, cycle=6).weight_at(t) for t in range(8)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.0, 0.25]

    References:
        Bowman et al., *Generating Sentences from a Continuous Space*, 2016, section 3.1.
        Fu et al., *Cyclical Annealing Schedule*, 2019, equations 6 and 7.
    """

    steps: int
    start: float = 0.0
    end: float = 1.0
    cycle: int | None = None

    def __post_init__(self) -> None:
        checks.require_positive_integer("steps", self.steps)
        if self.cycle is not None and self.cycle < self.steps:
            rule = f"be at least as long as the rise of {self.steps} steps"
            raise checks.InputError("cycle", rule, self.cycle, "Make steps smaller.")

    def weight_at(self, step: int) -> float:
        """Compute the weight of a training step; the first is step 0."""
        step = step % self.cycle if self.cycle else step
        return self.start + (self.end - self.start) * min(1.0, step / self.steps)
