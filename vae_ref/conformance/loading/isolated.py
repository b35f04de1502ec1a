"""Start a target in a process of its own, and ask it as a program in another language is asked.

No line of the target is run here. It is given no pipe but that of the questions, and where the
machine lets us it sees no other process: not the one that judges it, nor its files in /proc.
"""

import ast
import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from vae_ref.conformance.loading.adapters import KL, LOSS, SAMPLE
from vae_ref.conformance.loading.process import (
    FUNCTIONS,
    AnswerOfProcessError,
    Process,
    ProcessError,
    subject_of,
)
from vae_ref.conformance.subject import Subject
from vae_ref.support.excerpt import excerpt

__all__ = ["close_memory", "isolated"]

_CODE = "from vae_ref.conformance.loading.serve import main; main()"
_UNSHARE = ("--user", "--map-current-user", "--pid", "--fork", "--kill-child", "--mount-proc")
_PRIVATE = ("PYTEST", "VAE_REF")
"""How the names of variables begin by which a target might learn that it is judged."""

_FOUND = ("spread", "seeded", "latent_shape", "pixel_shape")
"""The conventions that are found without a declaration."""

_NAMES = {"loss": LOSS, "reparameterize": SAMPLE, "kl": KL}
_MOST_SAID, _MOST_FACTS = 300, 20
_SET_DUMPABLE = 4  # of prctl


def isolated(target: str, declarations: Mapping[str, str], *, memory: float) -> Subject:
    """Start a target, and return the VAE that it says it is.

    Args:
        target: What to load, in its own process.
        declarations: The values of conventions by their names, as text.
        memory: The GiB of data that it may hold.

    Raises:
        ProcessError: If it cannot be loaded, or has no parts that could be asked for.
    """
    tree = _tree_of(target)  # before the process could write it anew
    told = {"target": target, "declarations": dict(declarations), "memory": memory}
    path = json.dumps([entry for entry in sys.path if entry])
    code = f"import sys; sys.path[:] = {path}; {_CODE}"
    words = [*_namespaces(), sys.executable, "-c", code, json.dumps(told)]
    process = Process(words, _environment())
    process.may_lack_slopes = tree is None
    try:
        process.start()
    except AnswerOfProcessError as error:
        raise ProcessError(f"{target} could not be loaded; {error}.") from None
    about = process.about
    subject = subject_of(process)
    told_more = sorted(subject.conventions.declared.keys() - {*_FOUND, *declarations})
    if tree is not None and told_more:
        raise ProcessError(
            f"the process declares {', '.join(told_more)}, and its file has no Subject that does"
        )
    hidden = [] if tree is None else list(_hidden(tree, subject))
    undecided = excerpt(str(about.get("undecided") or ""), _MOST_SAID)
    if hidden:
        undecided = f"the file defines {', '.join(hidden)}, which its process does not offer"
    place = "a process and namespaces of its own" if _namespaces() else "a process of its own"
    mine = {key: value for key, value in declarations.items() if value != "distribution"}
    return replace(
        subject,
        name=target,
        found=_facts(about.get("found")) | {"isolated": place},
        conventions=subject.conventions.declaring(mine),
        undecided=undecided,
    )


def close_memory() -> None:
    """Keep other processes of the same user out of this one's memory and files; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)


@cache
def _namespaces() -> tuple[str, ...]:
    """Return a command that starts another in namespaces of its own; nothing if it may not."""
    tool = shutil.which("unshare")
    if sys.platform != "linux" or tool is None:
        return ()
    words = (tool, *_UNSHARE)
    try:
        subprocess.run([*words, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return words


def _environment() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith(_PRIVATE)}


def _facts(found: object) -> dict[str, str]:
    """Return what the process says of itself, cut to what a report has room for."""
    pairs = list(found.items())[:_MOST_FACTS] if isinstance(found, dict) else []
    return {excerpt(key, 60): excerpt(value, _MOST_SAID) for key, value in pairs}


def _tree_of(target: str) -> ast.Module | None:
    """Return the syntax of the file that a target names; nothing if it has an adapter."""
    place = target.partition(":")[0]
    path = Path(place if place.endswith(".py") else f"{place.replace('.', '/')}.py")
    try:
        tree = ast.parse(path.read_text())
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
        return None
    names = {
        name
        for node in ast.walk(tree)
        for name in (getattr(node, key, None) for key in ("id", "attr", "name"))
    }
    return None if names & {"Subject", "subject"} else tree


def _hidden(tree: ast.Module, subject: Subject) -> Iterator[str]:
    """Yield what a file in the textbook's form defines and its process does not offer."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for part, names in _NAMES.items():
        if getattr(subject, part) is None:
            yield from sorted({f.name for f in functions} & {*names})
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        methods = {f.name: f for f in kind.body if isinstance(f, ast.FunctionDef)}
        if {"encode", "decode"} <= methods.keys():
            for name in ("encode", "decode", "forward"):
                if _takes_one(methods.get(name)) and getattr(subject, name) is None:
                    yield name
    offered = [name for name in FUNCTIONS if getattr(subject, name) is not None]
    if not all(getattr(subject, name).differentiable for name in offered):
        yield "functions with slopes"


def _takes_one(method: ast.FunctionDef | None) -> bool:
    """Return whether a method takes one argument beside its object."""
    return method is not None and len(method.args.args) == 2 and not method.args.defaults
