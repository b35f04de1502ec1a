"""Find the training step of a module and a batch that it takes, and audit it."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from vae_ref.conformance import guards
from vae_ref.conformance.auditing.anatomy import NoVAEError
from vae_ref.conformance.auditing.audit import Audit, run_step
from vae_ref.conformance.auditing.recorder import suspended
from vae_ref.conformance.auditing.tracing import is_jax
from vae_ref.conformance.loading import jax_arguments, signatures
from vae_ref.conformance.subject import Subject
from vae_ref.support.errors import UserError

__all__ = [
    "LOOP",
    "NeedsBatchError",
    "StepError",
    "composed",
    "found_steps",
    "layers_of",
    "step_of",
    "subject_of_step",
]

LOOP = '"with vae_ref.audit() as audit:" around forward pass and loss, then "print(audit)"'
"""What always helps, as the end of a sentence."""

_EXAMPLES, _TOKENS = 5, 7
_NAMED = re.compile(r"step|loss|elbo|objective|criterion|nll", re.IGNORECASE)
_SHAPES = re.compile(r"\d+(x\d+)*(:int)?(,\d+(x\d+)*(:int)?)*")


class StepError(UserError, ValueError):
    """A step cannot be run; the message says why."""


class NeedsBatchError(StepError):
    """A step takes what has to be given to it; the message says what."""


def step_of(found: Any) -> Callable[..., Any] | None:
    """Return the function that computes a loss: the object itself, or its ``training_step``."""
    if isinstance(found, nn.Module):
        net: nn.Module = getattr(found, "_orig_mod", found)
        step: Callable[..., Any] | None = getattr(net, "training_step", None)
        if callable(step):
            return step
        returns_loss = signatures.has_argument(net, "return_loss")
        return functools.partial(net, return_loss=True) if returns_loss else net
    return found if callable(found) and not inspect.isclass(found) else None


def found_steps(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield what may be a step: functions named like one, and modules with a loss inside.

    Of a module, that is its ``training_step`` or forward pass, and its methods named like a step.
    """
    for name, value in vars(module).items():
        if isinstance(value, nn.Module):
            if next(value.parameters(), None) is None:
                continue  # a loss as a module, which has nothing to train
            net = getattr(value, "_orig_mod", value)
            yield name, step_of(net)  # type: ignore[misc]
            kinds = [kind for kind in type(net).__mro__ if _is_of(module, kind)]
            for method in dict.fromkeys(method for kind in kinds for method in vars(kind)):
                if _could_be_step(method, getattr(net, method)):
                    yield f"{name}.{method}", getattr(net, method)
            continue
        is_function = inspect.isfunction(value) or hasattr(value, "__wrapped__")
        if is_function and _is_of(module, value) and _could_be_step(name, value):
            yield name, value


def composed(module: ModuleType, model: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the steps that the forward pass of a model and a loss of four arguments make together.

    The loss is one that takes outputs, data, mu and sigma, but not of the textbook's shapes.
    """
    if not isinstance(model, nn.Module):
        return
    for loss in signatures.losses(module, model):
        names = signatures.by_role(loss)

        def step(x: Tensor, loss: Callable[..., Any] = loss, names: dict[Any, str] = names) -> Any:
            encode = getattr(model, "encode", None)
            with guards.global_state_kept(), suspended():
                encoded = encode and signatures.posterior(encode(x))
            outputs, mu, spread = signatures.forward_answer(model(x), x, encoded)
            values = {"outputs": outputs, "x": x, "mu": mu, "spread": spread}
            return loss(**{names[role]: value for role, value in values.items()})

        yield f"{type(model).__name__} and {loss.__name__}", step


def _could_be_step(name: str, function: Any) -> bool:
    """Whether something is named like a step, and does not take mu and sigma as a part of one."""
    is_named = _NAMED.search(name) and callable(function)
    return bool(is_named and not signatures.takes_posterior(function))


def _is_of(module: ModuleType, value: Any) -> bool:
    """Whether a function or a class is the file's own."""
    return getattr(value, "__module__", None) == module.__name__


def subject_of_step(
    module: ModuleType, step: Callable[..., Any], name: str, batch: str | None = None
) -> Subject:
    """Audit a step, and return what it computes as a subject.

    Args:
        module: Where the step is from.
        step: Returns a loss.
        name: The name for the report.
        batch: How its input is made: the name of a function or of a value in the module, or
            shapes such as ``16x784`` or ``16x1x28x28,16:int``. By default usual shapes are tried.

    Raises:
        StepError: If the step cannot be run.
    """
    with guards.global_state_kept():
        guards.seed_everything(0)  # so that every run audits the same execution
        return _first_that_runs(module, step, name, batch)


def _first_that_runs(
    module: ModuleType, step: Callable[..., Any], name: str, batch: str | None
) -> Subject:
    """Audit a step with the first arguments that it takes."""
    required = signatures.required_arguments(step)
    failed: list[str] = []
    of_jax = is_jax(step)
    tried = _batches_of_jax if of_jax else _batches
    for arguments in tried(module, required, batch):
        try:
            found = Audit(name)
            run_step(found, step, *arguments)
        except (NoVAEError, KeyboardInterrupt):
            raise
        except Exception as error:
            failed.append(guards.kind_and_message(error))
            continue
        read = [a.names() for a in arguments if isinstance(a, _AnyKey)]
        if any(len(names) > 1 for names in read):
            raise NeedsBatchError(
                f"{name} reads {', '.join(read[0])} of its batch; say how they are made with "
                "--batch: the name of a function in the file that returns the batch"
            )
        if found.subject is None and found.reason.startswith(("no loss", "the loss is no scalar")):
            failed.append("it returned no scalar that depends on parameters")
            continue
        return found.reported
    if not failed:
        wanted = ", ".join(required)
        raise NeedsBatchError(
            f"{name} takes {wanted}; say how they are made with --batch: the name of a function "
            "in the file that returns them, or shapes such as 16x784,16x10"
            + (" for the data; weights are found if the file has them" if of_jax else "")
            + ("" if of_jax else f"; or put two lines into your loop: {LOOP}")
        )
    raise StepError(f"{name} failed: {failed[0]}; give its input with --batch")


def _batches(
    module: ModuleType, required: list[str], batch: str | None
) -> Iterator[tuple[Any, ...]]:
    """Yield arguments for a step, the likeliest first."""
    has_index = len(required) == 2 and required[1] in ("batch_idx", "batch_index", "idx", "index")
    index = (0,) if has_index else ()
    if batch is not None:
        value = _value(module, batch)
        is_tuple = isinstance(value, tuple | list) and len(value) == len(required) > 1
        is_batch = not is_tuple or (has_index and isinstance(value[1], Tensor))
        yield (value, *index) if is_batch else tuple(value)
        return
    required = required[:1] if has_index else required
    if not required:
        yield ()
        return
    if len(required) > 1:
        return
    for make in (lambda x: x, lambda x: (x, torch.arange(len(x)) % 2), _AnyKey):
        for shape in _input_shapes(module):
            yield (make(torch.rand(_EXAMPLES, *shape)), *index)
    for layer in layers_of(module):
        if isinstance(layer, nn.Embedding):
            yield (torch.randint(layer.num_embeddings, (_EXAMPLES, _TOKENS)), *index)


class _AnyKey(dict[Any, Tensor]):
    """A batch whose only entry has the name that is asked for."""

    def __init__(self, data: Tensor) -> None:
        self._data = data

    def __missing__(self, name: Any) -> Tensor:
        self[name] = self._data
        return self._data

    def names(self) -> list[str]:
        """Return which entries were read."""
        return [str(name) for name in self]


def _batches_of_jax(
    module: ModuleType, required: list[str], batch: str | None
) -> Iterator[tuple[Any, ...]]:
    """Yield arguments for a step in JAX, the likeliest first."""
    yield from jax_arguments.batches(module, required, batch and _value(module, batch))


def _value(module: ModuleType, batch: str) -> Any:
    """Return what a name in the file stands for, or tensors of the shapes that are given."""
    value: Any
    if hasattr(module, batch):
        value = getattr(module, batch)
        value = value() if callable(value) and not isinstance(value, Tensor) else value
    elif _SHAPES.fullmatch(batch):
        parts = [_tensor(text) for text in batch.split(",")]
        value = parts[0] if len(parts) == 1 else tuple(parts)
    else:
        raise StepError(
            f"--batch must be a name in the file or shapes such as 16x784; got {batch!r}"
        )
    return value


def _tensor(text: str) -> Tensor:
    sizes, colon, _ = text.partition(":")
    shape = [int(size) for size in sizes.split("x")]
    return torch.randint(2, shape) if colon else torch.rand(shape)


def layers_of(module: ModuleType, *more: nn.Module | None) -> list[nn.Module]:
    """Return the layers of all networks that a file has, and of those that were made of it."""
    values = (*vars(module).values(), *more)
    nets = [value for value in values if isinstance(value, nn.Module)]
    return [layer for net in nets for layer in net.modules()]


def _input_shapes(module: ModuleType) -> Iterator[tuple[int, ...]]:
    """Yield shapes of an example that the first layers of the module's networks take."""
    tried = set()
    shapes: list[tuple[int, ...]] = []
    for layer in layers_of(module):
        known = getattr(layer, "input_shape", None)  # as of a model of Keras
        if isinstance(known, tuple) and all(isinstance(size, int) for size in known[1:]):
            shapes.append(known[1:])
        elif isinstance(layer, nn.Linear):
            shapes.append((layer.in_features,))
        elif isinstance(layer, nn.Conv1d):
            shapes.append((layer.in_channels, 32))
        elif isinstance(layer, nn.Conv2d):
            shapes += [(layer.in_channels, side, side) for side in (28, 32, 64)]
        elif isinstance(layer, nn.Conv3d):
            shapes.append((layer.in_channels, 16, 16, 16))
    for shape in [*shapes[:12], (784,), (1, 28, 28), (3, 32, 32)]:
        if shape not in tried:
            tried.add(shape)
            yield shape
