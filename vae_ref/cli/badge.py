"""The command badge: a report in a picture, for the README of a project."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["badge_command"]


def badge_command(
    report: Annotated[
        Path, typer.Argument(metavar="REPORT", help="What vae-ref verify --json has written.")
    ],
) -> None:
    """Print a badge, as SVG: how many claims hold, or are violated, and the kit's version.

    It is green if all claims that apply hold, red if one is violated or the run broke off, and
    grey if one could not be decided, is a known failure, or if none was judged.

    Try: vae-ref badge report.json > badge.svg
    """
    from vae_ref.conformance.reports.badge import badge, read

    typer.echo(badge(read(report)), nl=False)
