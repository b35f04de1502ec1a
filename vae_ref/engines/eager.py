"""The plain training loop, which defines what every engine computes."""

from collections.abc import Callable

import torch

from vae_ref.checks import unchecked
from vae_ref.data import ImageSet
from vae_ref.model import LatentModel
from vae_ref.plan import Plan

__all__ = ["run_epoch"]


def run_epoch(
    model: LatentModel,
    optimizer: torch.optim.Optimizer,
    data: ImageSet,
    plan: Plan,
    epoch: int,
    *,
    batch_size: int,
    beta: float,
    progress: Callable[[int], object] = lambda seen: None,
) -> float:
    """Train for one epoch.

    Args:
        model: The model, changed in place.
        optimizer: The optimiser of its parameters, changed in place.
        data: The training images, on the model's device.
        plan: The random numbers.
        epoch: Which epoch of the plan, from 1.
        batch_size: Examples per step; the last step takes the examples that remain.
        beta: The weight of the divergence.
        progress: Called after every step with the number of examples seen in this epoch.

    Returns:
        The mean loss over the epoch, in nats per example; an example is scored as it is trained.
    """
    device, dtype = data.images.device, model.dtype
    order = plan.permutation(epoch, len(data)).to(device)
    noise = plan.noise(epoch, len(data), model.latent_dim).to(device, dtype)
    seen, total = 0, torch.zeros((), dtype=torch.float64, device=device)
    with unchecked():  # bytes divided by 255 lie in [0, 1]
        for index, eps in zip(order.split(batch_size), noise.split(batch_size), strict=True):
            loss = model.terms(data.batch(index, dtype), eps).loss(beta).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
            seen += len(index)
            progress(seen)
    return total.item() / len(data)
