"""A short training that the claims of that level share."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vae_ref.conformance.bench import Bench
from vae_ref.conformance.body import Body

__all__ = ["Trained", "trained"]

_EPOCHS, _IMAGES, _HELD_OUT, _BATCH = 6, 6400, 1000, 128


@dataclass(frozen=True)
class Trained:
    """What came of it; the module itself has its own weights back."""

    module: nn.Module
    state: list[Tensor]
    held_out: Tensor
    epochs: int
    loss: float
    mean_image: float
    information: float

    @contextlib.contextmanager
    def weights(self) -> Iterator[None]:
        """Give the module its trained weights for a while."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        saved = [tensor.data for tensor in tensors]
        try:
            for tensor, value in zip(tensors, self.state, strict=True):
                tensor.data = value.clone()
            yield
        finally:
            for tensor, value in zip(tensors, saved, strict=True):
                tensor.data = value
                tensor.grad = None


def trained(bench: Bench) -> Trained:
    """Train once per run: Adam 1e-3, batches of 128."""
    if bench.trained is None:
        bench.trained = _train(bench)
    return bench.trained


def _train(bench: Bench) -> Trained:
    module, images = bench.subject.module, bench.subject.images
    assert module is not None  # noqa: S101 - the claims need them
    assert images is not None  # noqa: S101
    body = Body.of(bench)
    x = images(_IMAGES + _HELD_OUT).to(body.dtype).reshape(-1, *body.shape)
    train, held_out = x[:_IMAGES], x[_IMAGES:]
    tensors = [*module.parameters(), *module.buffers()]
    before = [tensor.data.clone() for tensor in tensors]
    mean = bench.in_loss[0].batch == "mean"

    def loss(batch: Tensor) -> Tensor:
        outputs, *posterior = body.forward(batch)
        return bench.loss_as_is(outputs, batch.flatten(1), *posterior).sum()

    bench.subject.seed(bench.number("training"))
    try:
        optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 1e-3)
        order = bench.generator("order")
        with bench.mode(training=True):
            for _ in range(_EPOCHS):
                for rows in torch.randperm(_IMAGES, generator=order).split(_BATCH):
                    optimiser.zero_grad()
                    loss(train[rows]).backward()
                    optimiser.step()
        with bench.mode(training=False), torch.no_grad():
            total = float(loss(held_out)) * (len(held_out) if mean else 1)
            outputs = body.forward(held_out)[0].double()
            outputs = outputs.clamp(1e-7, 1 - 1e-7) if bench.likelihood.bounded else outputs
            nll = bench.likelihood.nll
            flat = held_out.flatten(1).double()
            own, other = (float(nll(outputs, t).sum(1).mean()) for t in (flat, flat.roll(1, 0)))
            state = [tensor.data.clone() for tensor in tensors]
    finally:
        for tensor, value in zip(tensors, before, strict=True):
            tensor.data = value
            tensor.grad = None
    pixel = train.flatten(1).double().mean(0).clamp(1e-4, 1 - 1e-4)
    logits = torch.logit(pixel).expand_as(flat)
    from vae_ref.conformance.oracles import FAMILIES

    baseline = float(FAMILIES["bernoulli-logits"].nll(logits, flat).sum(1).mean())
    return Trained(module, state, held_out, _EPOCHS, total / len(held_out), baseline, other - own)
