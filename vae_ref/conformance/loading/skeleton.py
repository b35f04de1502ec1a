"""Write the skeleton of an adapter from the names in a file, which is read and not run."""

import ast
import keyword
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeGuard

from vae_ref.conformance.loading import signatures
from vae_ref.support.errors import InputError

__all__ = ["skeleton"]


class _Slot(NamedTuple):
    """A function that a subject may have.

    Attributes:
        name: Its name.
        arguments: What it takes, in this order.
        returns: What it returns, in words.
        pattern: How such functions are called.
        roles: The arguments by which one is known, if its name does not tell.
    """

    name: str
    arguments: tuple[str, ...]
    returns: str
    pattern: str
    roles: frozenset[str] = frozenset()


_POSTERIOR = frozenset({"mu", "spread"})
_SLOTS = (
    _Slot(
        "loss",
        ("outputs", "x", "mu", "spread"),
        "the loss of a batch, a number, or one for each example",
        signatures.LOSS,
        frozenset(signatures.LOSS_ROLES),
    ),
    _Slot(
        "kl",
        ("mu", "spread"),
        "KL(N(mu, sigma^2) || N(0, I)), a number, or one for each example",
        r"kl|diverg",
        _POSTERIOR,
    ),
    _Slot(
        "nll",
        ("outputs", "x"),
        "-log p(x | z), a number, or one for each example",
        r"rec|nll|bce|mse|likelihood",
        frozenset({"outputs", "x"}),
    ),
    _Slot(
        "reparameterize",
        ("mu", "spread"),
        "z = mu + sigma * eps with fresh noise",
        r"repar|sampl|draw",
        _POSTERIOR,
    ),
    _Slot("encode", ("x",), "(mu, {spread})", r"encode$"),
    _Slot("decode", ("z",), "the outputs for codes", r"decode$"),
    _Slot("forward", ("x",), "(outputs, mu, {spread})", r"forward$"),
)


class _Function(NamedTuple):
    """A function of the file, or a method of its model, and the arguments that it requires."""

    path: str
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    def call(self, slot: _Slot, spread: str) -> str:
        """Write the call with the arguments of a slot; what is not known is left open."""
        if len(self.arguments) == len(slot.arguments) == 1:
            return f"{self.path}({slot.arguments[0]})"
        known, open_ = list[str](), list[str]()
        for argument in self.arguments:
            role = signatures.role_of(argument)
            if role in slot.arguments:
                value = spread if role == "spread" else str(role)
                known.append(f"{argument}={value}" if open_ else value)
            else:
                open_.append(argument)
                known.append(f"{argument}=...")
        todo = f"  # TODO: {', '.join(open_)}" if open_ else ""
        return f"{self.path}({', '.join(known)}){todo}"


def skeleton(path: Path) -> str:
    """Return the text of a file with a `Subject`, to be completed where it says TODO.

    Args:
        path: The file with the VAE; the skeleton is to be saved beside it.

    Raises:
        InputError: If the file is missing, is no Python, or defines nothing.
    """
    if not path.is_file():
        raise InputError("FILE", "be a file", path, "Name the file of your VAE.")
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise InputError("FILE", "be Python", path, f"It is not, from line {line} on.") from None
    functions = [node for node in tree.body if _is_called(node)]
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    if not functions and not classes:
        raise InputError("FILE", "define a class or a function", path, "Name another file.")
    model = max(classes, key=_likeness, default=None)
    model = model if model and _likeness(model) else None
    instance = _instance(tree, model)
    methods = [n for n in model.body if _is_called(n)] if model else []
    module = path.stem if _is_free(path.stem) else "vae_file"
    own = f"{module}.{instance}" if instance else "model" if model else ""
    known = [
        *(_Function(f"{own}.{m.name}", _required(m)[1:]) for m in methods),
        *(_Function(f"{module}.{f.name}", _required(f)) for f in functions),
    ]
    making = ""
    if model and not instance:
        sizes = ", ".join(f"{argument}=..." for argument in _of_init(model))
        todo = "  # TODO: as you train it" if sizes else ""
        making = f"model = {module}.{model.name}({sizes}){todo}"
    return _text(path, module, known, own, making)


def _text(path: Path, module: str, known: list[_Function], own: str, making: str) -> str:
    found = {slot: function for slot in _SLOTS if (function := _best(slot, known))}
    spreads = (signatures.spread_named(a) for f in found.values() for a in f.arguments)
    spread = next(filter(None, spreads), "logvar")
    is_name = module == path.stem
    title = path.name.encode("unicode_escape").decode().replace('"', "'")
    lines = [
        f'"""What vae-ref has to know of {title}.',
        "",
        "Save this beside it under another name, complete what says TODO, and verify that.",
        '"""',
        "",
        f"import {module}" if is_name else "import importlib",
        "",
        "from vae_ref.conformance import Conventions, Subject",
        "",
    ]
    if not is_name:
        lines += [f"{module} = importlib.import_module({path.stem!r})"]
    lines += [making, ""] if making else [] if is_name else [""]
    inputs = {s: ", ".join(spread if a == "spread" else a for a in s.arguments) for s in _SLOTS}
    for slot, function in found.items():
        lines += [
            "",
            f"def {slot.name}({inputs[slot]}):",
            f'    """Return {slot.returns.format(spread=spread)}."""',
            f"    return {function.call(slot, spread)}",
            "",
        ]
    lines += ["", "subject = Subject(", f"    name={path.name!r},"]
    if own:
        lines.append(f"    module={own},")
    for slot in _SLOTS:
        missing = f"    # {slot.name}=...,  # of ({inputs[slot]})"
        lines.append(f"    {slot.name}={slot.name}," if slot in found else missing)
    lines += [
        "    conventions=Conventions(",
        *([f'        spread="{spread}",'] if spread != "logvar" else []),
        "        # pixel_shape=(1, 28, 28),  # TODO: if the networks take images",
        "        # latent_shape=(4, 7, 7),  # TODO: if the codes are images",
        "    ),",
        ")",
    ]
    return "\n".join(lines) + "\n"


def _is_free(name: str) -> bool:
    """Whether the skeleton can give a module this name."""
    taken = {*(slot.name for slot in _SLOTS), "subject", "model", "importlib", "torch", "vae_ref"}
    return name.isidentifier() and not keyword.iskeyword(name) and name not in taken


def _is_called(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    """Whether a definition is one of a function that is called; a property is not."""
    if not isinstance(node, ast.FunctionDef):
        return False
    return not any("property" in ast.unparse(mark) for mark in node.decorator_list)


def _best(slot: _Slot, known: list[_Function]) -> _Function | None:
    """Return the function that a slot is for: by its name and its arguments, or by these alone."""

    def fitness(function: _Function) -> tuple[bool, bool]:
        roles = {signatures.role_of(argument) for argument in function.arguments}
        by_roles = bool(slot.roles) and slot.roles <= roles and len(roles) <= len(slot.roles) + 1
        return bool(re.search(slot.pattern, function.name, re.IGNORECASE)), by_roles

    fitting = [f for f in known if fitness(f)[0] and (fitness(f)[1] or not slot.roles)]
    return max(fitting, key=fitness, default=None)


def _likeness(node: ast.ClassDef) -> int:
    """Return how many methods of a VAE a class has."""
    names = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    return sum(any(re.search(slot.pattern, n, re.IGNORECASE) for n in names) for slot in _SLOTS)


def _instance(tree: ast.Module, model: ast.ClassDef | None) -> str:
    """Return the name under which the file has a model, if it has one."""
    for name, call in _assignments(tree):
        called = ast.unparse(call.func)
        if called == (model.name if model else called) and called[:1].isupper():
            return name
    return ""


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value


def _of_init(model: ast.ClassDef) -> tuple[str, ...]:
    inits = [n for n in model.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    return _required(inits[0])[1:] if inits else ()


def _required(function: ast.FunctionDef) -> tuple[str, ...]:
    """Return the arguments without which a function cannot be called."""
    of = function.args
    positional = [a.arg for a in (*of.posonlyargs, *of.args)]
    keywords = zip(of.kwonlyargs, of.kw_defaults, strict=True)
    plain = positional[: len(positional) - len(of.defaults)]
    required = (*plain, *(a.arg for a, default in keywords if default is None))
    is_open = of.vararg is not None and not {*required} - {"self"}
    return (*required, of.vararg.arg) if is_open and of.vararg else required
