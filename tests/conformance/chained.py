"""The training of the vectors by the loops of the bank: with given images, order and noise."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from vae_ref.conformance.mutants.bank import Mutant
from vae_ref.conformance.mutants.specimen import kl, nll, specimen
from vae_ref.conformance.vectors.bugs import noise_given
from vae_ref.conformance.vectors.documents import inputs_of, load

(CASE,) = load("training")["cases"]
LAYERS = {
    "encoder": "inner",
    "mu": "mu",
    "logvar": "logvar",
    "decoder": "outer",
    "output": "pixels",
}
HELD_OUT = 5  # a number of images that no batch has, so that their noise is not that of a batch


def given() -> dict[str, Tensor]:
    arrays = {name: inputs_of(entry) for name, entry in CASE["inputs"].items()}
    return {
        name: torch.tensor(array.numbers, dtype=torch.float64).view(array.shape)
        for name, array in arrays.items()
    }


def first_fault(mutant: Mutant | None) -> int | None:
    """Return the first step whose loss is not that of the vectors; None if there is none."""
    numbers = given()
    rows, width = numbers["rows"].long(), numbers["rows"].shape[1]
    hidden, pixels = numbers["encoder.weight"].shape
    changes: dict[str, Any] = {}
    if mutant is not None:
        changes = {mutant.slot: mutant.function, **mutant.changes}
    loss = changes.pop("loss", None) or _sum(changes.get("nll", nll), changes.get("kl", kl))
    losses: list[float] = []

    def recorded(*arguments: Tensor) -> Tensor:
        value = loss(*arguments).sum() / width
        if torch.is_grad_enabled():
            losses.append(float(value.detach()))
        return value

    sizes = (pixels, hidden, numbers["eps"].shape[1])
    subject = specimen(loss=recorded, sizes=sizes, **changes)
    module = subject.module.double()
    module.activation = torch.relu
    for theirs, ours in LAYERS.items():
        getattr(module, ours).weight.data = numbers[f"{theirs}.weight"].clone()
        getattr(module, ours).bias.data = numbers[f"{theirs}.bias"][0].clone()
    images, orders = numbers["images"], iter(rows.view(-1, len(numbers["images"])))
    of = CASE["training"]
    expected = zip(of["steps"], of["loss"], of["tolerance"]["float64"], strict=True)
    points = [(step, float(right), float(allowed)) for step, right, allowed in expected]
    real_order, real_split = torch.randperm, Tensor.split

    def order(count: int, **options: Any) -> Tensor:
        return next(orders) if count == len(images) else real_order(count, **options)

    def split(self: Tensor, size: int, dim: int = 0) -> Any:
        return real_split(self, width if size == 128 else size, dim)

    with (
        noise_given(list(numbers["eps"].split(width))),
        mock.patch.object(torch, "randperm", order),
        mock.patch.object(Tensor, "split", split),
    ):
        for _ in subject.train(images, images[:HELD_OUT], len(rows) * width // len(images)):
            for step, right, allowed in points:
                if step <= len(losses) and abs(losses[step - 1] - right) > allowed:
                    return step
    return None if len(losses) == len(rows) else len(losses)


def _sum(nll: Callable[..., Tensor], kl: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda outputs, x, mu, logvar: nll(outputs, x).sum() + kl(mu, logvar).sum()
