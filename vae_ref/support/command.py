"""Run a command of typer: bad input is answered by one line, and by an exit status."""

import os
import sys
from typing import Any

import typer

from vae_ref.support.errors import UserError
from vae_ref.support.excerpt import excerpt
from vae_ref.support.messages import translated

__all__ = ["complain", "run", "streams_opened"]

_UsageError: Any = typer.BadParameter.__bases__[0]  # typer has no public name for it
_MISUSE, _INTERNAL, _INTERRUPTED = 2, 70, 130


def run(app: typer.Typer, name: str, arguments: list[str] | None = None) -> int:
    """Run a command, and return its exit status.

    Args:
        app: The command.
        name: Its name, with which it complains.
        arguments: What it is given; by default ``sys.argv``.
    """
    streams_opened()
    try:
        return int(app(arguments, standalone_mode=False) or 0)
    except _UsageError as error:
        if message := error.format_message():  # none, if the help was printed
            complain(name, excerpt(message, 200))
        return _MISUSE
    except (UserError, OSError) as error:
        complain(name, str(error))
        return _MISUSE
    except (KeyboardInterrupt, typer.Abort):
        complain(name, "stopped")
        return _INTERRUPTED
    except Exception as error:
        if "VAE_REF_TRACEBACK" in os.environ:
            raise
        first = next(iter(str(error).splitlines()), "")
        complain(
            name,
            f"internal error, {type(error).__name__}: {first} "
            "(VAE_REF_TRACEBACK=1 in the environment shows where)",
        )
        return _INTERNAL


def complain(name: str, message: str) -> None:
    """Say what is wrong on the standard error stream."""
    print(f"{name}: {translated(message)}", file=sys.stderr)


def streams_opened() -> None:
    """Open the standard streams that were closed; what is written to them is lost."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for good
