"""Print to the standard output, which may be closed, and complain in one line."""

import os
import sys

from rich.console import Console

__all__ = ["Output", "complain", "streams_opened"]


class Output(Console):
    """The standard output. If nobody reads it any more, the command goes on without it."""

    def __init__(self) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Write to nowhere from now on; the files of a run are still wanted."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def streams_opened() -> None:
    """Open the standard streams that were closed; what is written to them is lost."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for good


def complain(message: str) -> None:
    """Say what is wrong on the standard error stream."""
    print(f"vae-ref: {message}", file=sys.stderr)
