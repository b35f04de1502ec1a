"""A correct subject, small and in the textbook's form, for bugs to be put into."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_ref.conformance.subject import Subject

__all__ = ["LATENTS", "PIXELS", "Net", "bound", "kl", "nll", "sample", "specimen"]

PIXELS, HIDDEN, LATENTS = 12, 16, 4

Function = Callable[..., Tensor]


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the textbook's KL, one value per example."""
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)


def sample(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the textbook's z."""
    return mu + torch.exp(logvar / 2) * torch.randn_like(mu)


def nll(outputs: Tensor, x: Tensor) -> Tensor:
    """Return the textbook's cross-entropy, one value per example."""
    return F.binary_cross_entropy(outputs, x, reduction="none").sum(1)


def bound(log_w: Tensor) -> Tensor:
    """Return the importance-weighted bound."""
    return torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])


class Net(nn.Module):
    """The textbook's networks; a bug overrides a method."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(PIXELS, HIDDEN)
        self.mu = nn.Linear(HIDDEN, LATENTS)
        self.logvar = nn.Linear(HIDDEN, LATENTS)
        self.outer = nn.Linear(LATENTS, HIDDEN)
        self.pixels = nn.Linear(HIDDEN, PIXELS)
        self.sampler: Function = sample

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (mu, logvar)."""
        h = torch.tanh(self.inner(x))
        return self.mu(h), self.logvar(h)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Return z."""
        return self.sampler(mu, logvar)

    def decode(self, z: Tensor) -> Tensor:
        """Return probabilities."""
        return torch.sigmoid(self.pixels(torch.tanh(self.outer(z))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (probabilities, mu, logvar)."""
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def _halves(n: int) -> Tensor:
    """Draw images that differ in one bit: the left or the right half is lit, almost all of it."""
    generator = torch.Generator().manual_seed(0)
    lit = (torch.rand(n, 1, generator=generator) > 0.5) ^ (torch.arange(PIXELS) < PIXELS // 2)
    return (lit ^ (torch.rand(n, PIXELS, generator=generator) < 0.02)).double()


def specimen(
    name: str = "specimen",
    *,
    net: Callable[[], Net] = Net,
    kl: Function = kl,
    sample: Function = sample,
    nll: Function = nll,
    loss: Function | None = None,
    bound: Function = bound,
) -> Subject:
    """Put a subject together from its parts; what is not given is correct."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            module = net()
        finally:
            torch.set_default_dtype(default)
    module.sampler = sample

    def whole(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Any:
        return nll(outputs, x).sum() + kl(mu, logvar).sum()

    return Subject(
        name=name,
        kl=kl,
        reparameterize=module.reparameterize,
        nll=nll,
        loss=loss or whole,
        importance_weighted=bound,
        encode=module.encode,
        decode=module.decode,
        forward=module,
        module=module,
        images=_halves,
    )
