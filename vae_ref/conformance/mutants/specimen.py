"""The specimen: a small correct subject in the textbook's form, to put bugs into."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_ref.conformance.course import Course, form_of
from vae_ref.conformance.subject import Subject
from vae_ref.support.platform import Adam

__all__ = [
    "LATENTS",
    "PIXELS",
    "Net",
    "bound",
    "evaluate",
    "halves",
    "kl",
    "nll",
    "sample",
    "specimen",
    "train",
]

PIXELS, HIDDEN, LATENTS = 12, 16, 4
SIZES, TEXTBOOK = (PIXELS, HIDDEN, LATENTS), (784, 400, 20)

Function = Callable[..., Tensor]
Losses = Iterator[tuple[float, float]]


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
    """The textbook's networks; a mutant overrides a method."""

    def __init__(self, pixels: int = PIXELS, hidden: int = HIDDEN, latents: int = LATENTS) -> None:
        super().__init__()
        self.inner = nn.Linear(pixels, hidden)
        self.mu = nn.Linear(hidden, latents)
        self.logvar = nn.Linear(hidden, latents)
        self.outer = nn.Linear(latents, hidden)
        self.pixels = nn.Linear(hidden, pixels)
        self.activation = F.relu if (pixels, hidden, latents) == TEXTBOOK else torch.tanh
        self.sampler: Function = sample

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (mu, logvar)."""
        h = self.activation(self.inner(x))
        return self.mu(h), self.logvar(h)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Return z."""
        return self.sampler(mu, logvar)

    def decode(self, z: Tensor) -> Tensor:
        """Return probabilities."""
        return torch.sigmoid(self.pixels(self.activation(self.outer(z))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (probabilities, mu, logvar)."""
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def train(
    module: nn.Module, loss: Function, images: Tensor, held_out: Tensor, epochs: int
) -> Losses:
    """Train as the textbook does; yield training and test loss, nats per example."""
    optimiser = Adam(module.parameters(), 1e-3)
    for _ in range(epochs):
        module.train()
        total = 0.0
        for rows in torch.randperm(len(images)).split(128):
            x = images[rows]
            optimiser.zero_grad()
            outputs, mu, logvar = module(x)
            value = loss(outputs, x, mu, logvar)
            value.backward()
            optimiser.step()
            total += float(value)
        yield total / len(images), evaluate(module, loss, held_out)


@torch.no_grad()
def evaluate(module: nn.Module, loss: Function, images: Tensor) -> float:
    """Return the loss of images in evaluation mode, nats per example."""
    module.eval()
    outputs, mu, logvar = module(images)
    return float(loss(outputs, images, mu, logvar)) / len(images)


@cache
def halves() -> Course:
    """Return the course of images of which either the left or the right half is nearly all lit."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(8400, 1 + PIXELS, generator=generator, dtype=torch.float32)
    lit = (drawn[:, :1] > 0.5) ^ (torch.arange(PIXELS) < PIXELS // 2)
    images = (lit ^ (drawn[:, 1:] < 0.02)).float()
    return Course(name="halves", train=images[:6400], held_out=images[6400:], form=form_of(*SIZES))


def specimen(
    name: str = "specimen",
    *,
    net: Callable[..., Net] = Net,
    kl: Function = kl,
    sample: Function = sample,
    nll: Function = nll,
    loss: Function | None = None,
    bound: Function = bound,
    train: Callable[..., Losses] = train,
    sizes: tuple[int, int, int] = SIZES,
    seed: int = 0,
) -> Subject:
    """Return a subject made of the given parts; the parts that are not given are correct."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            module = net(*sizes)
        finally:
            torch.set_default_dtype(default)
    module.sampler = sample

    def sum_of_terms(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Any:
        return nll(outputs, x).sum() + kl(mu, logvar).sum()

    whole_loss = loss or sum_of_terms

    def train_module(images: Tensor, held_out: Tensor, epochs: int) -> Losses:
        return train(module, whole_loss, images, held_out, epochs)

    return Subject(
        name=name,
        kl=kl,
        reparameterize=module.reparameterize,
        nll=nll,
        loss=whole_loss,
        importance_weighted=bound,
        encode=module.encode,
        decode=module.decode,
        forward=module,
        module=module,
        train=train_module,
        course=halves,
    )
