"""The reference as a subject of the conformance kit: it is judged like anybody else's VAE."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref.conformance.subject import Conventions, Subject
from vae_ref.drawing import glyphs
from vae_ref.gaussian import kl_to_standard_normal
from vae_ref.model import VAE
from vae_ref.objective import importance_weighted_bound, loss_function

__all__ = ["reference"]


def reference(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Subject:
    """Return the reference: its textbook face, with images to be trained on.

    Args:
        dtype: Of the weights.
        device: Where the weights are; what the kit passes is moved there and back.
    """
    model = VAE().to(device=device, dtype=dtype)

    def there(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*tensors: Tensor) -> Any:
            answer = function(*(tensor.to(device) for tensor in tensors))
            many = isinstance(answer, tuple)
            return tuple(tensor.cpu() for tensor in answer) if many else answer.cpu()

        return call

    def cross_entropy(outputs: Tensor, x: Tensor) -> Tensor:
        return F.binary_cross_entropy(outputs, x, reduction="none").sum(-1)

    def images(n: int) -> Tensor:
        drawn = glyphs(n)
        return drawn.batch(torch.arange(n), dtype)

    return Subject(
        name="the reference",
        kl=there(kl_to_standard_normal),
        reparameterize=there(model.reparameterize),
        nll=there(cross_entropy),
        loss=there(loss_function),
        importance_weighted=there(lambda log_w: importance_weighted_bound(log_w.T)),
        encode=there(model.encode),
        decode=there(model.decode),
        forward=there(model),
        module=model,
        images=images,
        conventions=Conventions(pixel_shape=(784,)),
    )
