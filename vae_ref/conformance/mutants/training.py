"""Bugs in the training loop; the model and the loss are right."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from vae_ref.conformance.mutants.bank import mutant as _mutant
from vae_ref.conformance.mutants.specimen import (
    Function,
    Losses,
    Net,
    evaluate,
    kl,
    nll,
    sample,
    train,
)
from vae_ref.support.platform import Adam

mutant = partial(_mutant, "train", deterministic=False)

Loop = Callable[[Net, Function, Tensor, Tensor, int], Losses]


def _without(names: tuple[str, ...]) -> Loop:
    """Return a loop whose optimiser seems to lack some layers: their weights are put back."""

    def loop(module: Net, loss: Function, images: Tensor, held_out: Tensor, epochs: int) -> Losses:
        parts = [getattr(module, name) for name in names]
        kept = [p for part in parts for p in part.parameters()]
        before = [p.detach().clone() for p in kept]
        for losses in train(module, loss, images, held_out, epochs):
            with torch.no_grad():
                for parameter, value in zip(kept, before, strict=True):
                    parameter.copy_(value)
            yield losses

    return loop


mutant(
    "train-decoder-not-optimised",
    "your optimiser does not have the decoder's weights",
    wrong="Adam(encoder.parameters())",
)(_without(("outer", "pixels")))
mutant(
    "train-encoder-not-optimised",
    "your optimiser does not have the encoder's weights",
    wrong="Adam(decoder.parameters())",
)(_without(("inner", "mu", "logvar")))


@mutant(
    "train-gradients-not-zeroed",
    "your gradients are not zeroed: each step follows the sum of all gradients so far",
    wrong="∂θ ← ∂θ + ∂L/∂θ",
)
def _(module: Net, loss: Function, images: Tensor, held_out: Tensor, epochs: int) -> Losses:
    optimiser = Adam(module.parameters(), 1e-3)
    for _ in range(epochs):
        module.train()
        total = 0.0
        for rows in torch.randperm(len(images)).split(128):
            value = loss(*_batch(module, images[rows]))
            value.backward()
            optimiser.step()
            total += float(value)
        yield total / len(images), evaluate(module, loss, held_out)
    optimiser.zero_grad()


def _batch(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    outputs, mu, logvar = module(x)
    return outputs, x, mu, logvar


@mutant(
    "train-evaluates-mu",
    "your test loss decodes mu, not z: it is not the ELBO, and it is too good",
    wrong="L_test = NLL(decode(μ)) + KL",
    seen=("pytorch/examples#419",),
)
def _(module: Net, loss: Function, images: Tensor, held_out: Tensor, epochs: int) -> Losses:
    for own, _ in train(module, loss, images, held_out, epochs):
        with torch.no_grad():
            mu, logvar = module.encode(held_out)
            yield own, float(loss(module.decode(mu), held_out, mu, logvar)) / len(held_out)


class _Regularised(Net):
    """A network that computes something else in training mode than in evaluation mode."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.scale = nn.Parameter(torch.ones(()))

    def decode(self, z: Tensor) -> Tensor:
        h = torch.nn.functional.dropout(self.activation(self.outer(z)), 0.8, self.training)
        return torch.sigmoid(self.pixels(h * self.scale))


@mutant(
    "train-evaluates-in-training-mode",
    "your test loss is computed in training mode, with dropout",
    wrong="L_test without module.eval()",
    net=_Regularised,
)
def _(module: Net, loss: Function, images: Tensor, held_out: Tensor, epochs: int) -> Losses:
    for own, _ in train(module, loss, images, held_out, epochs):
        module.train()
        with torch.no_grad():
            yield own, float(loss(*_batch(module, held_out))) / len(held_out)


@mutant(
    "train-first-batch-tested",
    "your test loss is that of the first batch, divided by the number of all test images",
    wrong="L_test = Σ_{n ≤ 128} L_n / N",
    seen=("YannDubs/disentangling-vae",),
)
def _(module: Net, loss: Function, images: Tensor, held_out: Tensor, epochs: int) -> Losses:
    for own, _ in train(module, loss, images, held_out, epochs):
        first = held_out[:128]
        yield own, evaluate(module, loss, first) * len(first) / len(held_out)


@mutant(
    "train-and-test-swapped",
    "you train on the test set and test on the training set",
    wrong="θ = argmin L(x_test)",
)
def _(module: Net, loss: Function, images: Tensor, held_out: Tensor, epochs: int) -> Losses:
    return train(module, loss, held_out, images, epochs)


@mutant(
    "train-on-both",
    "you train on the training set and the test set together",
    wrong="θ = argmin L(x_train ∪ x_test)",
    seen=("keras-team/keras-io (variational autoencoder)",),
)
def _(module: Net, loss: Function, images: Tensor, held_out: Tensor, epochs: int) -> Losses:
    return train(module, loss, torch.cat([images, held_out]), held_out, epochs)


@mutant(
    "train-kl-over-batch",
    "your loop divides the KL by the batch size, but not the reconstruction",
    wrong="Σ_n NLL_n + (1/N) Σ_n KL_n",
    seen=("pytorch/examples#234", "pytorch/examples#290"),
)
def _(module: Net, loss: Function, images: Tensor, held_out: Tensor, epochs: int) -> Losses:
    def averaged(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        return nll(outputs, x).sum() + kl(mu, logvar).mean()

    for own, _ in train(module, averaged, images, held_out, epochs):
        yield own, evaluate(module, loss, held_out)


@mutant(
    "train-frozen-noise",
    "your noise is drawn once and used in every step",
    wrong="ε fixed before the loop",
)
def _(module: Net, loss: Function, images: Tensor, held_out: Tensor, epochs: int) -> Losses:
    most = max(len(images), len(held_out))
    noise = torch.randn(most, module.mu.out_features, dtype=images.dtype)

    def fixed(mu: Tensor, logvar: Tensor) -> Tensor:
        return mu + torch.exp(logvar / 2) * noise[: len(mu)]

    before, module.sampler = module.sampler, fixed
    for own, _ in train(module, loss, images, held_out, epochs):
        module.sampler = before
        yield own, evaluate(module, loss, held_out)
        module.sampler = fixed
    module.sampler = before


@mutant(
    "train-reseeds-every-step",
    "your loop seeds the generator in every step: all steps have the same noise",
    wrong="manual_seed(0) before each step",
)
def _(module: Net, loss: Function, images: Tensor, held_out: Tensor, epochs: int) -> Losses:
    def seeded(mu: Tensor, logvar: Tensor) -> Tensor:
        if module.training:
            torch.manual_seed(0)
        return sample(mu, logvar)

    orders = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    before, module.sampler = module.sampler, seeded
    for _ in range(epochs):
        # The order comes from another generator, or seeding would repeat it too.
        shuffled = images[torch.randperm(len(images), generator=orders)]
        yield from train(module, loss, shuffled, held_out, 1)
    module.sampler = before


@mutant(
    "train-pixels-divided-twice",
    "your loop divides the pixels by 255 a second time: it trains on images that are nearly black",
    wrong="x / 255, x ∈ [0, 1]",
)
def _(module: Net, loss: Function, images: Tensor, held_out: Tensor, epochs: int) -> Losses:
    return train(module, loss, images / 255, held_out / 255, epochs)


@mutant(
    "train-collapsed",
    "your posterior has collapsed, because the KL is multiplied by the batch size; the loss looks "
    "good because it is divided by the number of pixels",
    wrong="(1/D) Σ_n (NLL_n + N KL_n)",
)
def _(module: Net, loss: Function, images: Tensor, held_out: Tensor, epochs: int) -> Losses:
    def heavy(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        return nll(outputs, x).sum() + len(x) * kl(mu, logvar).sum()

    pixels = images.shape[1]
    for own, test in train(module, heavy, images, held_out, epochs):
        yield own / pixels, test / pixels
