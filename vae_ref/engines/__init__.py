"""The ways to execute an epoch. Every engine computes the function that `eager` defines."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch

from vae_ref.data import ImageSet
from vae_ref.engines import eager, native
from vae_ref.engines.analytic import Analytic, objection
from vae_ref.engines.graph import Graph
from vae_ref.engines.native import Native
from vae_ref.model import LatentModel
from vae_ref.names import EngineName, EngineOption
from vae_ref.plan import Plan
from vae_ref.support.errors import InputError

__all__ = ["Engine", "choose", "make"]

# An engine trains models for one epoch. It takes the images, a plan for each model and the number
# of the epoch, and returns the loss of each model in nats per example.
Engine = Callable[[ImageSet, Sequence[Plan], int], list[float]]


def choose(name: str, model: LatentModel, optimizer: torch.optim.Optimizer) -> EngineName:
    """Choose the fastest engine for ``auto``; check that any other engine can train the model.

    Args:
        name: ``auto``, or the name of an engine.
        model: The model.
        optimizer: Its optimiser.

    Raises:
        InputError: If there is no such engine, or it cannot train this model here.

    Example:
        >>> from vae_ref import Autoencoder
        >>> model = Autoencoder()
        >>> choose("auto", model, torch.optim.Adam(model.parameters(), fused=True))
        'eager'
    """
    if name not in get_args(EngineOption):
        raise InputError(
            "engine", f"be one of {', '.join(get_args(EngineOption))}", name, "Choose one."
        )
    problem, cuda = objection(model, optimizer), model.device.type == "cuda"
    match name:
        case "auto":
            compiled = not (problem or cuda or native.objection(model, optimizer))
            return (
                "eager" if problem else "graph" if cuda else "native" if compiled else "analytic"
            )
        case "graph" if not cuda:
            raise InputError("engine", "run on the CPU", name, "Choose auto.")
        case "analytic" | "graph" | "native" if problem:
            raise InputError("engine", f"be eager, since {problem}", name, "Choose auto.")
        case "native" if missing := native.objection(model, optimizer):
            raise InputError("engine", f"be another, since {missing}", name, "Choose auto.")
        case "analytic" | "graph" | "native":
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
    progress: Callable[[int], object] = lambda seen: None,
) -> Engine:
    """Make an engine for models that are trained side by side.

    Args:
        name: What `choose` returned for each of them.
        models: The models, of one shape.
        optimizers: The optimiser of each, with equal settings.
        batch_size: Examples per step; the last step takes the examples that remain.
        beta: The weight of the divergence.
        progress: Called after every step with the number of examples seen in this epoch. An
            epoch that is replayed as a CUDA graph has no steps to tell of.
    """
    settings: dict[str, Any] = {"batch_size": batch_size, "beta": beta, "progress": progress}
    if name in ("analytic", "graph"):
        kind = Graph if name == "graph" else Analytic
        return kind(models, optimizers, **settings)

    def single(model: LatentModel, optimizer: torch.optim.Optimizer) -> Engine:
        if name == "native":
            return Native(model, optimizer, **settings)
        return lambda data, plans, epoch: [
            eager.run_epoch(model, optimizer, data, plans[0], epoch, **settings)
        ]

    engines = [single(*pair) for pair in zip(models, optimizers, strict=True)]

    def one_after_the_other(data: ImageSet, plans: Sequence[Plan], epoch: int) -> list[float]:
        return [
            execute(data, [plan], epoch)[0] for execute, plan in zip(engines, plans, strict=True)
        ]

    return engines[0] if len(engines) == 1 else one_after_the_other
