"""The floor: the eleven matrix products of a step alone, in the shapes and layouts of a step.

Weights are stored as (out, in) and activations as (features, batch), the faster way; every
product writes into the same buffer again. No bias, activation, loss, noise, optimiser or data:
what uses the same library's products cannot be faster, if it does not leave some of them out, as
vae_ref's engine `native` does with those of its outer layers. On a GPU an epoch of them is
recorded before the first, and replayed: it waits for no launch.
"""

import argparse
from collections.abc import Callable, Iterator
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

    x, z = torch.rand(784, batch).to(device), torch.randn(20, batch).to(device)
    w1, heads, w3, w4 = drawn(400, 784), drawn(40, 400), drawn(400, 20), drawn(784, 400)
    h1, codes, h3, logits = (buffer(n, batch) for n in (400, 40, 400, 784))
    dh3, dz, dh1 = (buffer(n, batch) for n in (400, 20, 400))
    return [
        (w1, x, h1),
        (heads, h1, codes),
        (w3, z, h3),
        (w4, h3, logits),
        (logits, h3.t(), buffer(784, 400)),
        (w4.t(), logits, dh3),
        (dh3, z.t(), buffer(400, 20)),
        (w3.t(), dh3, dz),
        (codes, h1.t(), buffer(40, 400)),
        (heads.t(), codes, dh1),
        (dh1, x.t(), buffer(400, 784)),
    ]


def step(parts: list[Product]) -> None:
    for a, b, out in parts:
        torch.mm(a, b, out=out)


def recorded(call: Callable[[], None], device: torch.device | str) -> Callable[[], None]:
    """Return what repeats a call: on a GPU one graph, which the host starts and no more."""
    if torch.device(device).type != "cuda":
        return call
    call()  # libraries choose and allocate on first use
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def epoch(examples: int, *, device: torch.device | str = "cpu") -> Callable[[], None]:
    """Return what computes the products of an epoch."""
    whole, rest = (products(n, device=device) for n in (BATCH, examples % BATCH))

    def multiply() -> None:
        for _ in range(examples // BATCH):
            step(whole)
        step(rest)

    return recorded(multiply, device)


def contest(settings: argparse.Namespace) -> Iterator[dict[str, Any]]:
    torch.manual_seed(settings.seed)
    multiply = epoch(EXAMPLES, device=settings.device)
    for number in range(1, settings.epochs + 1):
        started = clock(settings.device)
        multiply()
        yield {"epoch": number, "seconds": clock(settings.device) - started}
    yield {"test_loss": None}


if __name__ == "__main__":
    enter(contest)
