"""The command claims, and the completion of claim ids."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vae_ref.cli.output import Output

__all__ = ["claims_command", "complete"]

_KNOWN = Path(__file__).parents[1] / "conformance" / "diagnosis" / "kill_matrix.json"


def complete(incomplete: str) -> list[str]:
    """Return the claims, and the parts of a VAE with all of theirs, that begin like this.

    They are read from a file: to import them takes seconds.
    """
    claims = json.loads(_KNOWN.read_text())["claims"]
    parts = dict.fromkeys(f"{claim.partition('/')[0]}/*" for claim in claims)
    return [name for name in (*parts, *claims) if name.startswith(incomplete)]


def claims_command(
    only: Annotated[
        str | None,
        typer.Argument(
            metavar="GLOB",
            help="Show only these claims, such as 'kl/*'.",
            autocompletion=complete,
        ),
    ] = None,
) -> None:
    """List the claims; one claim alone is shown in full.

    Try: vae-ref claims kl/closed-form
    """
    from vae_ref.conformance.reports.claims import show_claim, show_claims
    from vae_ref.conformance.runner import select

    chosen, output = select(only, "trained"), Output()
    if len(chosen) == 1:
        show_claim(chosen[0], output)
    else:
        show_claims(chosen, output)
