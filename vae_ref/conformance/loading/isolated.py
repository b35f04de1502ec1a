"""Start a target in a process of its own, and ask it as a program in another language is asked.

No line of the target is run here. It is given no pipe but that of the questions, and where the
machine lets us it sees no other process: not the one that judges it, nor its files in /proc.
"""

import ast
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from vae_ref.conformance.loading.adapters import KL, LOSS, SAMPLE
from vae_ref.conformance.loading.process import (
    FUNCTIONS,
    AnswerOfProcessError,
    Process,
    ProcessError,
    subject_of,
)
from vae_ref.conformance.loading.spawning import command_of, environment, namespaces
from vae_ref.conformance.subject import Subject
from vae_ref.support.excerpt import excerpt

__all__ = ["isolated"]

_FOUND = ("spread", "seeded", "latent_shape", "pixel_shape")
"""The conventions that are found without a declaration."""

_NAMES = {"loss": LOSS, "reparameterize": SAMPLE, "kl": KL}
_MOST_SAID, _MOST_FACTS = 300, 20


def isolated(
    target: str,
    declarations: Mapping[str, str],
    *,
    memory: float,
    running: "subprocess.Popen[bytes] | None" = None,
) -> Subject:
    """Start a target, and return the VAE that it says it is.

    Args:
        target: What to load, in its own process.
        declarations: The values of conventions by their names, as text.
        memory: The GiB of data that it may hold.
        running: The process, if it was started before; it has not loaded the target yet.

    Raises:
        ProcessError: If it cannot be loaded, or has no parts that could be asked for.
    """
    tree = _tree_of(target)  # before the process could write it anew
    process = Process(command_of(target, declarations, memory), environment(), running)
    process.may_lack_slopes = tree is None
    try:
        process.start()
    except AnswerOfProcessError as error:
        raise ProcessError(f"{target} could not be loaded; {error}.") from None
    about = process.about
    if "error" in about:
        raise ProcessError(excerpt(str(about["error"]), _MOST_SAID))
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
    place = "a process and namespaces of its own" if namespaces() else "a process of its own"
    mine = {key: value for key, value in declarations.items() if value != "distribution"}
    return replace(
        subject,
        name=target,
        found=_facts(about.get("found")) | {"isolated": place},
        conventions=subject.conventions.declaring(mine),
        undecided=undecided,
    )


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
