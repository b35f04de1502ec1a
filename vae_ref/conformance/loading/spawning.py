"""Start the process of a target: with pipes, and in namespaces of its own where it is isolated.

A process that is isolated runs no line of its target before it is asked to start. So it may be
started first of all, and imports torch while whoever judges it does. No import here is heavy.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache

__all__ = ["close_memory", "command_of", "environment", "namespaces", "spawned"]

_CODE = "from vae_ref.conformance.loading.serve import main; main()"
_UNSHARE = ("--user", "--map-current-user", "--pid", "--fork", "--kill-child", "--mount-proc")
_PRIVATE = ("PYTEST", "VAE_REF")
"""How the names of variables begin by which a target might learn that it is judged."""

_SET_DUMPABLE = 4  # of prctl


def spawned(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a process with pipes as its standard streams.

    Raises:
        OSError: If it cannot be started.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pipesize=2**20,  # where pipes can be that large
        env=environment,
        start_new_session=True,  # so that its own children end with it
    )


def command_of(target: str, declarations: Mapping[str, str], memory: float) -> list[str]:
    """Return the command that serves a target, isolated.

    Args:
        target: What to load, in its own process.
        declarations: The values of conventions by their names, as text.
        memory: The GiB of data that it may hold.
    """
    told = {"target": target, "declarations": dict(declarations), "memory": memory}
    path = json.dumps([entry for entry in sys.path if entry])
    code = f"import sys; sys.path[:] = {path}; {_CODE}"
    return [*namespaces(), sys.executable, "-c", code, json.dumps(told)]


def environment() -> dict[str, str]:
    """Return the variables that an isolated process gets."""
    return {name: text for name, text in os.environ.items() if not name.startswith(_PRIVATE)}


@cache
def namespaces() -> tuple[str, ...]:
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


def close_memory() -> None:
    """Keep other processes of the same user out of this one's memory and files; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)
