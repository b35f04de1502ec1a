"""Find the VAE in a file or a module; one with the textbook's names needs no adapter."""

import ast
import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from vae_ref.conformance import guards
from vae_ref.conformance.loading import signatures, steps
from vae_ref.conformance.loading.adapters import (
    NeedsArgumentsError,
    has_parts,
    instance_of,
    subject_of,
)
from vae_ref.conformance.subject import Subject
from vae_ref.support.errors import UserError

__all__ = ["TargetError", "load"]

_IMPORT_SECONDS = 60.0
"""The seconds of CPU time that importing a target may take."""

IMPORT_PATIENCE = 300.0
"""The seconds of wall time that it may take, on a machine that is busy with other work."""


class TargetError(UserError, ValueError):
    """A target cannot be loaded, or has no VAE; the message says what to do."""


def load(
    target: str, declarations: Mapping[str, str] | None = None, *, batch: str | None = None
) -> Subject:
    """Load a subject from ``module``, ``module:name``, ``file.py`` or ``file.py:name``.

    A module is searched for a `Subject`, for a class ``VAE`` (or its one module with ``encode``
    and ``decode``), and for ``loss_function``, ``reparameterize`` and ``kl_divergence``; where
    these are not found, for a function that computes a loss, which is audited. ``name`` may be a
    function that returns a loss, or a call such as ``VAE(784, 400, 20)``.

    Args:
        target: What to load.
        declarations: The values of conventions by their names, as text; see `Conventions`.
        batch: How the input of a step is made: the name of a function or of a value in the
            module, or shapes such as ``16x784``. By default usual shapes are tried.

    Raises:
        TargetError: If it cannot be imported or has no VAE.
        DeclarationError: If a convention does not exist.
    """
    place, name = _parted(target)
    with _guarded(f"importing {place}", place, hint=_MAIN_HINT):
        module = _import(place)
        found = _named(module, place, name) if name else None
        if name and not isinstance(found, Subject) and not _could_be_step(found):
            raise TargetError(
                f"{target} is {type(found).__name__}, neither a torch module, nor a function that "
                "returns a loss, nor a vae_ref.conformance.Subject"
            )
        problem = None
        if not name or _is_vae(found):
            try:
                found = instance_of(
                    found if name else _subject(module, place) or _model(module, place)
                )
            except (TargetError, NeedsArgumentsError) as error:
                if name:
                    raise
                problem = error
    with _guarded(f"trying {target}", place):
        if isinstance(found, Subject):
            subject = found
        elif name and not _is_vae(found):
            subject = _of_step(module, found, target, batch)
        elif name:
            subject = subject_of(module, found, target)
        else:
            subject = _of_module(module, found, problem, target, batch)
    conventions = subject.conventions.declaring(declarations or {})
    return dataclasses.replace(subject, conventions=conventions)


def _parted(target: str) -> tuple[str, str]:
    """Cut a target into its module or file and the name, or the call, after the colon."""
    place, colon, name = target.partition(".py:")
    if colon:
        place += ".py"
    else:
        place, _, name = target.partition(":")
    is_name = name.partition("(")[0].replace(".", "").isidentifier()
    return (place, name) if is_name and not Path(target).is_file() else (target, "")


def _named(module: ModuleType, place: str, name: str) -> Any:
    """Return what a name or a call stands for in a module."""
    path, call, _ = name.partition("(")
    found: Any = module
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise TargetError(f"{place} has no {path}. {_definitions(module)}")
        found = getattr(found, attribute)
    if call:
        found = eval(name, vars(module))  # the user's own file, with the user's own call
    return getattr(found, "_orig_mod", found)  # of a compiled module


def _could_be_step(found: Any) -> bool:
    return _is_module_class(found) or steps.step_of(found) is not None


def _is_vae(found: Any) -> bool:
    """Whether it is judged by its parts: a class, or a module with an encoder and a decoder."""
    if _is_module_class(found):
        return True
    has_both = hasattr(found, "encode") and hasattr(found, "decode")
    return isinstance(found, nn.Module) and has_both and not hasattr(found, "training_step")


def _of_step(module: ModuleType, found: Any, name: str, batch: str | None) -> Subject:
    step = steps.step_of(found)
    assert step is not None  # noqa: S101 - it was asked before
    try:
        return steps.subject_of_step(module, step, name, batch)
    except steps.NeedsBatchError as error:
        raise _refusal(name, str(error)) from None
    except UserError as error:
        raise TargetError(str(error)) from None


def _of_module(
    module: ModuleType, model: Any, problem: Exception | None, target: str, batch: str | None
) -> Subject:
    """Return the subject that a module has: by its names, or else by its step.

    Args:
        module: The module.
        model: The VAE that it has by its names, if any.
        problem: Why it has none.
        target: The name for the report.
        batch: See `load`.
    """
    if problem is not None:
        audited, needs = _audited(module, target, batch)
        if audited is None:
            if needs or isinstance(problem, TargetError):
                raise _refusal(target, needs or str(problem))
            raise problem
        return audited
    subject = subject_of(module, model, target)
    if subject.loss or (subject.kl and subject.nll):
        return subject
    audited, needs = _audited(module, target, batch, model)
    is_empty = not any((subject.kl, subject.reparameterize, subject.module))
    if audited and (audited.kl or audited.reparameterize or is_empty):
        return audited
    if needs and is_empty:
        raise _refusal(target, needs)
    is_all = bool(subject.kl) and not subject.module
    reason = audited.undecided if audited else needs or ("" if is_all else _WITHOUT_LOSS)
    return dataclasses.replace(subject, undecided=reason)


def _refusal(target: str, reason: str) -> TargetError:
    """Return the error that says why a target cannot be judged, and that a script can be run."""
    place, _ = _parted(target)
    if _is_script(Path(place)):
        reason = f"If it is a script that trains, try: vae-ref run {place}. {reason}"
    return TargetError(reason)


def _is_script(file: Path) -> bool:
    """Whether a file does something when it is run, which may be a training in torch."""
    source = file.read_bytes() if file.is_file() else b""
    return b"jax" not in source and any(
        re.search(r"__main__|\.backward\(", ast.unparse(node))
        for node in ast.parse(source).body
        if not isinstance(node, ast.FunctionDef | ast.ClassDef)
    )


_WITHOUT_LOSS = (
    "no loss was found by its name: name the step that computes it, as in file.py:step, or put "
    f"two lines into your loop: {steps.LOOP}"
)


def _audited(
    module: ModuleType, target: str, batch: str | None, model: Any = None
) -> tuple[Subject | None, str]:
    """Audit the first function of a module that turns out to be a step that can be judged.

    Args:
        module: The module.
        target: The name for the report.
        batch: See `load`.
        model: The VAE that was found by its names, whose parts may make a step together.

    Returns:
        The subject or, if there is none, what the last function that may be a step needs.
    """
    needs, unjudged = "", None
    for name, step in (*steps.composed(module, model), *steps.found_steps(module)):
        try:
            found = steps.subject_of_step(module, step, f"{target}:{name}", batch)
            if found.kl or found.reparameterize:
                return found, ""
            unjudged = unjudged or found
        except steps.NeedsBatchError as error:
            needs = str(error)
        except UserError:
            continue
    return unjudged, needs


_MAIN_HINT = '; put what trains under if __name__ == "__main__":'


@contextlib.contextmanager
def _guarded(doing: str, place: str, hint: str = "") -> Iterator[None]:
    """Run a stranger's code with limits; turn whatever it raises into a `TargetError`."""
    arguments, sys.argv = sys.argv, [place]
    try:
        with (
            guards.global_state_kept(),
            guards.quiet(),
            guards.time_limit(_IMPORT_SECONDS, wall=IMPORT_PATIENCE),
        ):
            warnings.simplefilter("ignore")
            yield
    except (TargetError, KeyboardInterrupt):
        raise
    except NeedsArgumentsError as error:
        raise _refusal(place, f"{error}; name an instance, as in {place}:model") from None
    except guards.TimeLimit as limit:
        raise TargetError(f"{doing} took more than {_in_words(limit)}{hint}") from None
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        kit = Path(__file__).parents[1]
        own = [
            frame
            for frame in frames
            if "importlib" not in frame.filename and not Path(frame.filename).is_relative_to(kit)
        ]
        at = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
        raise TargetError(f"{doing} raised {guards.kind_and_message(error)}{at}") from error
    finally:
        sys.argv = arguments


def _in_words(limit: guards.TimeLimit) -> str:
    if limit.by_wall_clock:
        return f"{IMPORT_PATIENCE:g} s"
    return f"{_IMPORT_SECONDS:g} s of CPU time"


def _import(place: str) -> ModuleType:
    path = Path(place)
    if path.suffix == ".py" or "/" in place:
        return _import_file(path)
    if not place or not all(part.isidentifier() for part in place.split(".")):
        raise TargetError(f"{place!r} is neither a module nor a file such as my_model.py")
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


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"there is no file {path}")
    # As if the file were run: its own imports are found, now and when its functions are called.
    # The module has a name that no other module has, whatever the file is called.
    sys.path.insert(0, str(path.resolve().parent))
    name = f"vae_ref_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _is_module_class(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module)


def _objects(module: ModuleType, wanted: Callable[[Any], bool]) -> dict[str, Any]:
    """Return the wanted objects of a module, each under its first name."""
    found: dict[int, tuple[str, Any]] = {}
    for name, value in vars(module).items():
        if wanted(value):
            found.setdefault(id(value), (name, value))
    return dict(found.values())


def _require_at_most_one(found: dict[str, Any], place: str, what: str) -> Any:
    """Return the object that was found, or None; raise `TargetError` if there are several."""
    if len(found) > 1:
        names = ", ".join(found)
        raise TargetError(
            f"{place} has several {what}: {names}; name one, as in {place}:{next(iter(found))}"
        )
    return next(iter(found.values()), None)


def _subject(module: ModuleType, place: str) -> Subject | None:
    found: Subject | None = _require_at_most_one(
        _objects(module, lambda value: isinstance(value, Subject)), place, "subjects"
    )
    return found


def _model(module: ModuleType, place: str) -> Any:
    """Find the VAE by its name, or as the only class or instance with encode and decode."""

    def encodes_and_decodes(value: Any) -> bool:
        kind = value if inspect.isclass(value) else type(value)
        both = hasattr(value, "encode") and hasattr(value, "decode")
        return both and kind.__module__ == module.__name__

    vae = getattr(module, "VAE", None)
    if vae is not None and _is_module_class(vae) and signatures.required_arguments(vae):
        instances = _objects(module, lambda value: type(value) is vae)
        vae = _require_at_most_one(instances, place, "VAEs") or vae
    if _is_module_class(vae) or isinstance(vae, nn.Module):
        return getattr(vae, "_orig_mod", vae)
    classes = _objects(
        module, lambda value: _is_module_class(value) and encodes_and_decodes(value)
    )
    instances = _objects(
        module,
        lambda value: (
            isinstance(value, nn.Module)
            and encodes_and_decodes(getattr(value, "_orig_mod", value))
        ),
    )
    instances = {name: getattr(v, "_orig_mod", v) for name, v in instances.items()}
    kind = type(next(iter(instances.values()), None))
    if len(instances) == 1 and all(issubclass(kind, other) for other in classes.values()):
        return next(iter(instances.values()))
    found = _require_at_most_one(classes or instances, place, "VAEs")
    if found is None and not has_parts(module):
        raise TargetError(
            f"{place} has no VAE: neither a class VAE, nor one module with encode and decode, nor "
            f"loss_function, reparameterize or kl_divergence. {_definitions(module)} In a loop of "
            f"your own, two lines judge it: {steps.LOOP}. Or write an adapter; vae-ref adapt FILE "
            "prints one"
        )
    return found


_MOST_NAMES = 12


def _definitions(module: ModuleType) -> str:
    """Say what a module defines, as a sentence."""
    names = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    return f"It defines {', '.join(names[:_MOST_NAMES])}." if names else "It defines nothing."
