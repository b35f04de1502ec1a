"""Print to the standard output, which may be closed, and complain in one line."""

import os
import sys

from rich.console import Console

from vae_ref.support import command

__all__ = ["Output", "complain"]


class Output(Console):
    """The standard output. If nobody reads it any more, the command goes on without it."""

    def __init__(self) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Write to nowhere from now on; the files of a run are still wanted."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def complain(message: str) -> None:
    """Say what is wrong on the standard error stream."""
    command.complain("vae-ref", message)
