"""An epoch with gradients by formula, for one model or for several side by side."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from vae_ref import checks
from vae_ref.data import ImageSet
from vae_ref.engines.step import Layers, Step
from vae_ref.likelihood import Bernoulli
from vae_ref.model import VAE, LatentModel
from vae_ref.plan import Plan
from vae_ref.support.denormals import denormals_flushed
from vae_ref.support.platform import Adam

__all__ = ["Analytic", "objection", "settings", "state"]

# The parameters of each field of `Layers`, in the order of a vector; both heads are one matrix.
_LAYERS = (
    ("encoder.0.weight",),
    ("decoder.2.weight",),
    ("mu.weight", "logvar.weight"),
    ("decoder.0.weight",),
    ("encoder.0.bias",),
    ("mu.bias", "logvar.bias"),
    ("decoder.0.bias",),
    ("decoder.2.bias",),
)
_MODULES = [VAE, nn.Sequential, nn.Linear, nn.ReLU, nn.Linear]
_MODULES += [nn.Sequential, nn.Linear, nn.ReLU, nn.Linear, nn.Linear]
_ADAM = (torch.optim.Adam, Adam)
_LINE = 64  # a vector is padded to a multiple of it; a cache line holds 16 float32 numbers


class Analytic:
    """Trains the textbook's VAE, with formulas for the gradients and in its own buffers.

    The parameters and Adam's moments are copied into the buffers at the beginning of an epoch, and
    back at its end. So an epoch that is interrupted leaves the models and optimisers as they were.

    Args:
        models: VAEs of the same shape, none of which has an `objection`.
        optimizers: The Adam of each model, with equal settings and equal numbers of steps.
        batch_size: Examples per step; the last step takes the examples that remain.
        beta: The weight of the divergence.
        progress: Called after every step with the number of examples seen in this epoch.
    """

    def __init__(
        self,
        models: Sequence[LatentModel],
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        batch_size: int,
        beta: float,
        progress: Callable[[int], object] = lambda seen: None,
    ) -> None:
        self.progress = progress
        self.batch_size, self.beta, self.latent_dim = batch_size, beta, models[0].latent_dim
        self.pixels, self.optimizers = models[0].input_dim, optimizers
        self.parameters = [
            [dict(model.named_parameters())[name] for layer in _LAYERS for name in layer]
            for model in models
        ]
        self._allocate()
        self.steps: dict[int, Any] = {}
        self.order = torch.empty(0, dtype=torch.int64)
        self.noise = torch.empty(0)

    def _allocate(self) -> None:
        """Make the buffers of weights and moments."""
        models, first = len(self.parameters), self.parameters[0]
        # For several models, a row for each, which begins a cache line. For one model, a vector.
        width = -(-sum(parameter.numel() for parameter in first) // _LINE) * _LINE
        shape = (models, width) if models > 1 else (width,)
        self.weights, self.gradients, self.exp_avg, self.exp_avg_sq = (
            first[0].detach().new_zeros(shape) for _ in range(4)
        )
        # Adam updates one matrix after the other, so that a core updates the rows whose gradients
        # it computed, and does not fetch them from the cache of another core.
        sizes = [first[0].numel(), first[1].numel()]
        self.adam = [
            [vector] if models > 1 else list(vector.split([*sizes, width - sum(sizes)]))
            for vector in (self.weights, self.gradients, self.exp_avg, self.exp_avg_sq)
        ]
        self.adam_steps = torch.zeros(
            len(self.adam[0]), dtype=torch.float32, device=first[0].device
        )

    @torch.no_grad()
    def __call__(self, data: ImageSet, plans: Sequence[Plan], epoch: int) -> list[float]:
        """Train for one epoch.

        Args:
            data: The training images, on the models' device.
            plans: The random numbers, for each model.
            epoch: The number of the epoch, from 1.

        Returns:
            The mean loss of each model over the epoch, in nats per example.

        Raises:
            InputError: If the images do not have the models' number of pixels.
        """
        checks.require_pixels("data", data.images, self.pixels, data.images)
        with denormals_flushed():
            self._load()
            self._draw(plans, epoch, len(data))
            total = self._execute(data.images)
            self._store()
            return [loss / len(data) for loss in total.reshape(-1).tolist()]

    def _load(self) -> None:
        for copy, original in self._copies():
            copy.copy_(original)
        self.adam_steps.fill_(state(self.optimizers[0], self.parameters[0][0])["step"])

    def _store(self) -> None:
        for copy, original in self._copies():
            original.copy_(copy)
        for parameters, optimizer in zip(self.parameters, self.optimizers, strict=True):
            for parameter in parameters:
                state(optimizer, parameter)["step"].copy_(self.adam_steps[0])

    def _copies(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every part of the buffers, with the parameter or moment that it is a copy of."""
        vectors = (self.weights, self.exp_avg, self.exp_avg_sq)
        rows = (vector.view(len(self.parameters), -1) for vector in vectors)
        for parameters, optimizer, *buffers in zip(
            self.parameters, self.optimizers, *rows, strict=True
        ):
            states = [state(optimizer, parameter) for parameter in parameters]
            moments = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq"))
            for row, tensors in zip(buffers, (parameters, *moments), strict=True):
                for part, tensor in zip(self._parts(row, parameters), tensors, strict=True):
                    yield part, tensor.view(part.shape)

    def _parts(self, row: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Split a model's row into parts with the shapes of its parameters."""
        sizes = [parameter.numel() for parameter in parameters]
        parts = row[: sum(sizes)].split(sizes)
        return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]

    def _draw(self, plans: Sequence[Plan], epoch: int, count: int) -> None:
        """Draw order and noise into their buffers, which keep their addresses."""
        if self.order.shape[-1] != count:
            like, models = self.parameters[0][0], len(self.parameters)
            lead = (models, count) if models > 1 else (count,)
            self.order = like.new_empty(lead, dtype=torch.int64)
            self.noise = like.new_empty((*lead, self.latent_dim))
            orders = self.order.split(self.batch_size, -1)
            noises = self.noise.split(self.batch_size, -2)
            self.batches = [
                (self._step(index.shape[-1]), index, eps.mT)
                for index, eps in zip(orders, noises, strict=True)
            ]
        rows = self.order.view(-1, count), self.noise.view(-1, count, self.latent_dim)
        for plan, order, noise in zip(plans, *rows, strict=True):
            order.copy_(plan.permutation(epoch, count))
            noise.copy_(plan.noise(epoch, count, self.latent_dim))

    def _execute(self, images: Tensor) -> Tensor:
        """Take the epoch's steps, and return the sum of each model's losses."""
        seen, steps, take = 0, self.steps.values(), self._stepping()
        for step in steps:
            step.losses.reset()
        for step, index, eps in self.batches:
            take(step, images, index, eps)
            seen += index.shape[-1]
            self.progress(seen)
        return torch.stack([step.losses.total() for step in steps]).sum(0)

    def _stepping(self) -> Callable[[Any, Tensor, Tensor, Tensor], object]:
        """Return a function that takes a step, with the present settings of the optimisers."""
        chosen, counts = settings(self.optimizers[0]), list(self.adam_steps)
        weights, gradients, exp_avg, exp_avg_sq = self.adam

        def take(step: Step, images: Tensor, index: Tensor, eps: Tensor) -> None:
            step(images, index, eps)
            adam(weights, gradients, exp_avg, exp_avg_sq, [], counts, fused=True, **chosen)

        return take

    def _step(self, batch: int) -> Any:
        if batch not in self.steps:
            self.steps[batch] = self._make_step(batch)
        return self.steps[batch]

    def _make_step(self, batch: int) -> Any:
        vectors = (self.weights, self.gradients)
        weights, gradients = (_layers(vector, self.parameters[0]) for vector in vectors)
        return Step(weights, gradients, batch, self.beta)


def objection(model: LatentModel, optimizer: torch.optim.Optimizer) -> str | None:
    """Return why the formulas do not apply to a training, or None if they do."""
    modules, (group, *others) = list(model.modules()), optimizer.param_groups
    hooked = any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in modules)
    frozen = not all(parameter.requires_grad for parameter in model.parameters())
    trained = {*map(id, group["params"])} == {*map(id, model.parameters())} and not others
    kind, family = type(model).__name__, type(model.likelihood)
    objections = {
        f"the model is not the textbook's VAE ({kind})": [*map(type, modules)] != _MODULES,
        f"the likelihood is not Bernoulli ({family.__name__})": family is not Bernoulli,
        "the model has hooks": hooked,
        "some parameters are frozen": frozen,
        "the optimiser is not Adam": type(optimizer) not in _ADAM or group["amsgrad"],
        "the optimiser's group is not the model's parameters": not trained,
    }
    return next((reason for reason, holds in objections.items() if holds), None)


def state(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """Return Adam's state of a parameter; before the first step, make it as Adam does."""
    state: dict[str, Tensor] = optimizer.state[parameter]
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter) for _ in range(2))
    return state


def settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return Adam's settings as arguments of torch's function ``adam``."""
    group = optimizer.param_groups[0]
    beta1, beta2 = group["betas"]
    keys = ("lr", "eps", "weight_decay", "maximize", "amsgrad", "decoupled_weight_decay")
    capturable = group["params"][0].is_cuda
    return {k: group[k] for k in keys} | {
        "beta1": beta1,
        "beta2": beta2,
        "capturable": capturable,
    }


def _layers(vector: Tensor, parameters: Sequence[Tensor]) -> Layers:
    """Return views of the layers in a vector of parameters, or in the rows of several models."""
    rest = iter(parameters)
    layers = [[next(rest) for _ in names] for names in _LAYERS]
    sizes = [sum(part.numel() for part in layer) for layer in layers]
    found = vector[..., : sum(sizes)].split(sizes, -1)
    return Layers(
        *(
            part.unflatten(-1, (-1, *layer[0].shape[1:]))
            for part, layer in zip(found, layers, strict=True)
        )
    )
