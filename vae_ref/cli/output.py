"""What the command says: lines that nobody need read, and complaints in one line."""

import os
import sys

from rich.console import Console

__all__ = ["Output", "complain", "streams_opened"]


class Output(Console):
    """The standard output. Where nobody reads it any more, the command goes on without it."""

    def __init__(self) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Write to nowhere from now on: a run is there for its files."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def streams_opened() -> None:
    """Give a process whose standard streams were closed others, which lead nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for good


def complain(message: str) -> None:
    """Say what is wrong on the standard error stream."""
    print(f"vae-ref: {message}", file=sys.stderr)
