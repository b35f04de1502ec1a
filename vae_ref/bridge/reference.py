"""The reference as a subject of the conformance kit: it is judged like anybody else's VAE."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref.bridge.courses import glyphs_course
from vae_ref.conformance.subject import Conventions, Subject
from vae_ref.data import ImageSet
from vae_ref.gaussian import kl_to_standard_normal
from vae_ref.model import VAE
from vae_ref.objective import importance_weighted_bound, loss_function
from vae_ref.running.recipe import Recipe
from vae_ref.running.run import Run
from vae_ref.running.training import fit
from vae_ref.support.platform import Adam

__all__ = ["reference"]


def reference(
    dtype: torch.dtype = torch.float32, device: str = "cpu", *, seed: int = 0
) -> Subject:
    """Return the reference as a subject in the textbook's form, with a course.

    Args:
        dtype: The precision of the weights.
        device: The device of the weights; tensors from the kit are moved there and back.
        seed: The seed of the weights, and of the order and noise of the training.
    """
    recipe = Recipe(seed=seed)
    model = recipe.build(784).to(device=device, dtype=dtype)
    assert isinstance(model, VAE)  # noqa: S101

    def on_device(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*tensors: Tensor) -> Any:
            answer = function(*(tensor.to(device) for tensor in tensors))
            is_tuple = isinstance(answer, tuple)
            return tuple(tensor.cpu() for tensor in answer) if is_tuple else answer.cpu()

        return call

    def cross_entropy(outputs: Tensor, x: Tensor) -> Tensor:
        return F.binary_cross_entropy(outputs, x, reduction="none").sum(-1)

    def train(images: Tensor, held_out: Tensor, epochs: int) -> Iterator[tuple[float, float]]:
        sets = [_bytes(part) for part in (images, held_out)]
        run = Run(
            recipe=recipe,
            size=sets[0].size,
            model=model,
            optimizer=Adam(model.parameters(), lr=recipe.learning_rate, fused=True),
            engine="eager",  # the kit can watch its steps; tests compare the others with it
        )
        for record in fit(run, *sets, epochs=epochs):
            yield record.train_loss, record.test_loss

    return Subject(
        name="the reference",
        kl=on_device(kl_to_standard_normal),
        reparameterize=on_device(model.reparameterize),
        nll=on_device(cross_entropy),
        loss=on_device(loss_function),
        importance_weighted=on_device(lambda log_w: importance_weighted_bound(log_w.T)),
        encode=on_device(model.encode),
        decode=on_device(model.decode),
        forward=on_device(model),
        module=model,
        train=train,
        course=glyphs_course,
        conventions=Conventions(pixel_shape=(784,)),
    )


def _bytes(images: Tensor) -> ImageSet:
    """Return images in the form that the training loop takes; no precision is lost."""
    pixels = (images * 255).round().to(torch.uint8).flatten(1)
    return ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.int64), (1, pixels.shape[1]))
