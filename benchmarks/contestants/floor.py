"""The floor: the eleven matrix products of a step alone, in the shapes and layouts of a step.

Weights are stored as (out, in) and activations as (batch, features); every product writes into
the same buffer again. No bias, activation, loss, noise, optimiser or data: what uses the same
library's products cannot be faster, if it does not leave some of them out.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.contestants.protocol import clock, enter

Product = tuple[Tensor, Tensor, Tensor]
EXAMPLES, BATCH = 60_000, 128


def products(batch: int, *, device: torch.device | str = "cpu") -> list[Product]:
    """Return the operands and the buffer of each product of a step, in a step's order.

    Gradients of activations are as large as these, so the activations stand for them: the buffer
    of the logits for their gradient, that of the codes for theirs.
    """

    def drawn(*shape: int) -> Tensor:
        return (torch.rand(shape) - 0.5).div_(shape[-1] ** 0.5).to(device)

    def buffer(*shape: int) -> Tensor:
        return torch.empty(shape, device=device)

    x, z = torch.rand(batch, 784).to(device), torch.randn(batch, 20).to(device)
    w1, heads, w3, w4 = drawn(400, 784), drawn(40, 400), drawn(400, 20), drawn(784, 400)
    h1, codes, h3, logits = (buffer(batch, n) for n in (400, 40, 400, 784))
    dh3, dz, dh1 = (buffer(batch, n) for n in (400, 20, 400))
    return [
        (x, w1.t(), h1),
        (h1, heads.t(), codes),
        (z, w3.t(), h3),
        (h3, w4.t(), logits),
        (logits.t(), h3, buffer(784, 400)),
        (logits, w4, dh3),
        (dh3.t(), z, buffer(400, 20)),
        (dh3, w3, dz),
        (codes.t(), h1, buffer(40, 400)),
        (codes, heads, dh1),
        (dh1.t(), x, buffer(400, 784)),
    ]


def step(parts: list[Product]) -> None:
    for a, b, out in parts:
        torch.mm(a, b, out=out)


def contest(settings: argparse.Namespace) -> Iterator[dict[str, Any]]:
    torch.manual_seed(settings.seed)
    whole, rest = (products(n, device=settings.device) for n in (BATCH, EXAMPLES % BATCH))
    for epoch in range(1, settings.epochs + 1):
        started = clock(settings.device)
        for _ in range(EXAMPLES // BATCH):
            step(whole)
        step(rest)
        yield {"epoch": epoch, "seconds": clock(settings.device) - started}
    yield {"test_loss": None}


if __name__ == "__main__":
    enter(contest)
