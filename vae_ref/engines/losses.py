"""The sum of the losses of many steps, with few logarithms."""

import torch
from torch import Tensor

__all__ = ["Losses"]

FACTORS = 64  #: factors of a product; each is at least 1/2, so it is a normal number


class Losses:
    r"""Adds up the losses of many steps, in buffers to which each step adds its part.

    A logarithm costs more than the rest of a loss, so one is taken of the product of many steps.

    Args:
        reconstruction: The sum of :math:`\max(\eta, 0) - x\eta` over the steps.
        factors: The product of :math:`\max(p, 1 - p)` over the steps.
        divergence: The sum of :math:`\sigma^2 - 1 + \mu^2 - \log\sigma^2` over the steps.
        beta: The weight of the divergence.
    """

    def __init__(
        self, reconstruction: Tensor, factors: Tensor, divergence: Tensor, beta: float
    ) -> None:
        self.reconstruction, self.factors, self.divergence = reconstruction, factors, divergence
        self.beta = beta
        self.reset()

    def reset(self) -> None:
        """Begin a new sum."""
        self.reconstruction.zero_()
        self.divergence.zero_()
        self.factors.fill_(1)
        self.count = 0

    def step(self) -> None:
        """Count a step."""
        self.count += 1
        if self.count % FACTORS == 0:
            self._take_logarithms()

    def total(self) -> Tensor:
        """Return the sum since `reset`, of each model, in nats."""
        reconstruction, divergence = self.terms()
        return reconstruction + self.beta * divergence

    def terms(self) -> tuple[Tensor, Tensor]:
        """Return the sums of reconstruction and divergence since `reset`, in nats."""
        self._take_logarithms()
        parts = (self.reconstruction, self.divergence)
        reconstruction, divergence = (part.sum((-2, -1), dtype=torch.float64) for part in parts)
        return reconstruction, divergence / 2

    def _take_logarithms(self) -> None:
        self.reconstruction.sub_(self.factors.log_())
        self.factors.fill_(1)
