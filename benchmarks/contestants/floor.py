"""The floor: the eleven matrix products of a step and nothing else, in the layouts of a step.

Weights are stored as (out, in) and activations as (features, batch), which is the faster way.
Every product writes into its own buffer again and again. There is no bias, activation, loss,
noise, optimiser or data. A training with the same library's products cannot be faster, unless it
leaves some of them out, as vae_ref's engine `native` does in its outer layers. On a GPU, the
products of an epoch are recorded before the first epoch and then replayed, so that none of them
waits for its launch.
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

    A gradient is as large as its activation, so the buffers of the logits and of the codes are
    also used as their gradients.
    """

    def uniform(*shape: int) -> Tensor:
        return (torch.rand(shape) - 0.5).div_(shape[-1] ** 0.5).to(device)

    def buffer(*shape: int) -> Tensor:
        return torch.empty(shape, device=device)

    x, z = torch.rand(784, batch).to(device), torch.randn(20, batch).to(device)
    w1, heads, w3, w4 = uniform(400, 784), uniform(40, 400), uniform(400, 20), uniform(784, 400)
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
