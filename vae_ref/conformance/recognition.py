"""Find the VAE in a stranger's file: the textbook's names need no adapter."""

import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from vae_ref.conformance import guards, signatures
from vae_ref.conformance.bench import Bench
from vae_ref.conformance.body import Body
from vae_ref.conformance.records import Violation
from vae_ref.conformance.subject import Conventions, Subject

__all__ = ["TargetError", "load"]

_IMPORT_SECONDS = 60.0
_LOSS = ("loss_function", "loss_fn", "vae_loss", "elbo_loss")
_SAMPLE = ("reparameterize", "reparametrize", "reparameterise")
_KL = ("kl_divergence", "kl_loss")


class TargetError(ValueError):
    """A target that cannot be loaded, or has no VAE; the message says what to do."""


def load(target: str, declarations: Mapping[str, str] | None = None) -> Subject:
    """Load a subject from ``module``, ``module:name``, ``file.py`` or ``file.py:name``.

    A module is searched for a `Subject`, for a class ``VAE`` (or its one module with ``encode``
    and ``decode``), and for ``loss_function``, ``reparameterize`` and ``kl_divergence``.

    Args:
        target: What to load.
        declarations: Conventions by name, as text; see `Conventions`.

    Raises:
        TargetError: If it cannot be imported or has no VAE.
        DeclarationError: If a convention does not exist.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not name.replace(".", "").isidentifier():
        place, name = target, ""
    with _guarded(f"importing {place}"):
        module = _import(place)
        found: Any = module
        for attribute in filter(None, name.split(".")):
            if not hasattr(found, attribute):
                raise TargetError(f"{place} has no {name}. {_names(module)}")
            found = getattr(found, attribute)
        if found is module:
            own = _only(found, lambda value: isinstance(value, Subject))
            subject: Subject = own or _recognise(module, _model(module, place), target)
        elif isinstance(found, Subject):
            subject = found
        elif isinstance(found, nn.Module) or _is_class(found):
            subject = _recognise(module, found, target)
        else:
            raise TargetError(
                f"{target} is {type(found).__name__}, neither a torch module nor a "
                "vae_ref.conformance.Subject"
            )
    conventions = subject.conventions.declaring(declarations or {})
    return dataclasses.replace(subject, conventions=conventions)


@contextlib.contextmanager
def _guarded(doing: str) -> Iterator[None]:
    """Turn whatever a stranger's code does into one clear sentence."""
    try:
        with guards.global_state_kept(), guards.quiet(), guards.time_limit(_IMPORT_SECONDS):
            yield
    except (TargetError, KeyboardInterrupt):
        raise
    except guards.TimeLimit:
        raise TargetError(
            f"{doing} took more than {_IMPORT_SECONDS:.0f} s; put what trains under "
            'if __name__ == "__main__":'
        ) from None
    except BaseException as error:
        first = next(iter(str(error).splitlines()), "")
        frames = traceback.extract_tb(error.__traceback__)
        at = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        raise TargetError(f"{doing} raised {type(error).__name__}: {first}{at}") from error


def _import(place: str) -> ModuleType:
    path = Path(place)
    if path.suffix != ".py" and "/" not in place:
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name and (place == error.name or place.startswith(error.name + ".")):
                raise TargetError(
                    f"there is no module {place}; name one that can be imported from here, or a "
                    "file such as my_model.py"
                ) from None
            raise
    if not path.is_file():
        raise TargetError(f"there is no file {place}")
    sys.path.insert(0, str(path.resolve().parent))  # its own imports, as if it were run
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise TargetError(f"{place} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def _is_class(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module)


def _only(module: ModuleType, wanted: Callable[[Any], bool]) -> Any:
    """Return the one object of a module that is wanted, if there is just one."""
    found = {id(value): value for value in vars(module).values() if wanted(value)}
    return next(iter(found.values())) if len(found) == 1 else None


def _model(module: ModuleType, place: str) -> Any:
    """Find the VAE: by its name, or as the only class or instance that encodes and decodes."""

    def own(value: Any) -> bool:
        kind = value if inspect.isclass(value) else type(value)
        return (
            hasattr(value, "encode")
            and hasattr(value, "decode")
            and (kind.__module__ == module.__name__)
        )

    named = getattr(module, "VAE", None)
    if _is_class(named) or isinstance(named, nn.Module):
        return named
    found = _only(module, lambda value: _is_class(value) and own(value))
    found = found or _only(module, lambda value: isinstance(value, nn.Module) and own(value))
    if found is None and not any(hasattr(module, name) for name in (*_LOSS, *_KL, *_SAMPLE)):
        raise TargetError(
            f"{place} has no VAE: neither a class VAE, nor one module with encode and decode, nor "
            f"loss_function, reparameterize or kl_divergence. {_names(module)}"
        )
    return found


def _names(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    return f"It defines {', '.join(names[:12])}." if names else "It defines nothing."


def _recognise(module: ModuleType, model: Any, target: str) -> Subject:
    """Make a subject of a torch module and the functions beside it."""
    if inspect.isclass(model):
        required = signatures.required(model)
        if required:
            raise TargetError(
                f"{model.__name__} needs arguments ({', '.join(required)}); name an instance, as "
                f"in {target.partition(':')[0]}:model, or give them defaults"
            )
        model = model()

    def find(names: tuple[str, ...]) -> Callable[..., Any] | None:
        places = (module, model)
        return next(
            (getattr(p, n) for p in places for n in names if callable(getattr(p, n, None))), None
        )

    loss, sample, kl = (find(names) for names in (_LOSS, _SAMPLE, _KL))
    conventions = Conventions(spread=signatures.spread_of(loss, kl, sample))
    subject = Subject(
        name=target,
        kl=kl and signatures.adapt(kl, ("mu", "spread")),
        reparameterize=sample and signatures.adapt(sample, ("mu", "spread")),
        loss=loss and signatures.adapt(loss, ("outputs", "x", "mu", "spread")),
        conventions=conventions,
    )
    if model is None:
        return subject
    return _with_networks(subject, model)


def _with_networks(subject: Subject, model: nn.Module) -> Subject:
    encode = _then(signatures.posterior, getattr(model, "encode", None))
    decode = _then(signatures.first, getattr(model, "decode", None))
    subject = dataclasses.replace(subject, module=model, encode=encode, decode=decode)
    body = Body(Bench(subject))
    if encode is None and decode is None:
        return subject
    try:
        with torch.no_grad():
            answer = encode(body.images(2)) if encode else None
    except Violation:
        return dataclasses.replace(subject, forward=model)  # reported by the claims
    conventions = dataclasses.replace(subject.conventions, pixel_shape=body.shape)
    if isinstance(answer, torch.distributions.Distribution):
        conventions = dataclasses.replace(conventions, spread="distribution")
    latents = None if answer is None else _latent_shape(answer)
    if latents and len(latents) > 1:
        conventions = dataclasses.replace(conventions, latent_shape=latents)

    def forward(x: Tensor) -> Any:
        return signatures.outputs(model(x), x, latents)

    return dataclasses.replace(subject, forward=forward, conventions=conventions)


def _then(read: Callable[[Any], Any], function: Any) -> Callable[[Tensor], Any] | None:
    """Read what a function returns, if there is one."""
    return None if function is None else lambda tensor: read(function(tensor))


def _latent_shape(answer: Any) -> tuple[int, ...] | None:
    mean = answer.mean if hasattr(answer, "stddev") else answer[0]
    return tuple(mean.shape[1:]) if isinstance(mean, Tensor) else None
