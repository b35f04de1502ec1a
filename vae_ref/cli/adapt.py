"""The command adapt: print the skeleton of an adapter."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["adapt_command"]


def adapt_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file of a VAE; it is read, and not run.")
    ],
) -> None:
    """Print the skeleton of an adapter, for a VAE that verify cannot judge as it is.

    The names of the file are filled in; what they do not tell is marked TODO. Save it beside the
    file under another name, complete it, and verify that.

    Try: vae-ref adapt conv.py > subject.py
    """
    from vae_ref.conformance.loading.skeleton import skeleton

    typer.echo(skeleton(file), nl=False)
