"""How an epoch is executed. Every engine computes the function that `eager` defines."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch

from vae_ref.checks import InputError
from vae_ref.data import ImageSet
from vae_ref.engines import eager
from vae_ref.engines.analytic import Analytic, objection
from vae_ref.engines.graph import Graph
from vae_ref.model import LatentModel
from vae_ref.plan import Plan

__all__ = ["Engine", "EngineName", "EngineOption", "choose", "make"]

EngineName = Literal["eager", "analytic", "graph"]
EngineOption = Literal["auto", "eager", "analytic", "graph"]

# Trains models for an epoch: takes the images, a plan for each model and the number of the
# epoch, and returns the loss of each model in nats per example.
Engine = Callable[[ImageSet, Sequence[Plan], int], list[float]]


def choose(name: str, model: LatentModel, optimizer: torch.optim.Optimizer) -> EngineName:
    """Find the fastest engine for a model, which ``auto`` is, or check another choice.

    Args:
        name: ``auto``, or an engine.
        model: The model.
        optimizer: Its optimiser.

    Raises:
        InputError: If there is no such engine, or it cannot train this model here.

    Example:
        >>> from vae_ref import VAE, Autoencoder
        >>> for model in VAE(), Autoencoder():
        ...     choose("auto", model, torch.optim.Adam(model.parameters(), fused=True))
        'analytic'
        'eager'
    """
    if name not in get_args(EngineOption):
        raise InputError(
            "engine", f"be one of {', '.join(get_args(EngineOption))}", name, "Choose one."
        )
    problem, cuda = objection(model, optimizer), model.device.type == "cuda"
    match name:
        case "auto":
            return "eager" if problem else "graph" if cuda else "analytic"
        case "graph" if not cuda:
            raise InputError("engine", "be another on the CPU", name, "Choose auto.")
        case "analytic" | "graph" if problem:
            raise InputError("engine", f"be eager, since {problem}", name, "Choose auto.")
        case "analytic" | "graph":
            return name
        case _:
            return "eager"


def make(
    name: EngineName,
    models: Sequence[LatentModel],
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    batch_size: int,
    beta: float,
) -> Engine:
    """Make an engine for models that are trained side by side.

    Args:
        name: What `choose` returned for each of them.
        models: The models, of one shape.
        optimizers: The optimiser of each, with equal settings.
        batch_size: Examples per step; what remains at the end is a step of its own.
        beta: The weight of the divergence.
    """
    if name == "eager":

        def one_after_the_other(data: ImageSet, plans: Sequence[Plan], epoch: int) -> list[float]:
            return [
                eager.run_epoch(
                    model, optimizer, data, plan, epoch, batch_size=batch_size, beta=beta
                )
                for model, optimizer, plan in zip(models, optimizers, plans, strict=True)
            ]

        return one_after_the_other
    kind = Graph if name == "graph" else Analytic
    return kind(models, optimizers, batch_size=batch_size, beta=beta)
