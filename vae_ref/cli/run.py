"""The command run: audit the training step of a script, without touching it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_ref.cli.files import require_outputs, write_files
from vae_ref.cli.output import Output
from vae_ref.support.errors import InputError

if TYPE_CHECKING:
    from vae_ref.conformance.records import Report

__all__ = ["run_command"]

_CHILD = "from vae_ref.conformance.watch import main; main()"


def run_command(
    context: typer.Context,
    script: Annotated[
        Path, typer.Argument(metavar="SCRIPT", help="A script that trains, as python runs it.")
    ],
    *,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the report there as JSON."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the report there as one HTML page, with a drawing."
        ),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Let the script go on when its step was audited.")
    ] = False,
) -> None:
    """Audit the training step of a script, without touching it.

    The script is run as it is, with the arguments that follow. The first of its losses that has a
    VAE is audited when the script calls backward(), and the script is stopped. The status is that
    of verify: 0, 1 if a claim is violated, 2 if the script cannot be run, and 3 if nothing was
    judged.

    Try: vae-ref run train.py --epochs 1
    """
    if not script.is_file():
        raise InputError("SCRIPT", "be a file", script, "Name a Python script.")
    require_outputs({"--json": json_file, "--html": html}, [script])
    report = _watch(script, context.args, go_on=go_on)
    write_files(report, [], json_file=json_file, junit=None, html=html)
    from vae_ref.conformance.reports.terminal import show

    show(report, Output())
    raise typer.Exit(report.exit_status)


def _watch(script: Path, arguments: list[str], *, go_on: bool) -> "Report":
    """Run the script in a child, and return the report on its step."""
    from vae_ref.conformance.transfer import report_from

    reading, writing = os.pipe()
    path = json.dumps([entry for entry in sys.path if entry])
    code = f"import sys; sys.path[:] = {path}; {_CHILD}"
    command = [sys.executable, "-c", code, str(writing), str(int(go_on)), str(script), *arguments]
    with subprocess.Popen(command, pass_fds=(writing,)) as child:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        status = child.wait()
    if not text:
        raise InputError("SCRIPT", "run to its first steps", script, f"It ended with {status}.")
    message = json.loads(text)
    if message["report"] is None:
        seen = f"It differentiated {message['steps']} losses, and two are needed"
        ended = f"; {message['problem']}" if message["problem"] else ""
        raise InputError("SCRIPT", "train for two steps", script, f"{seen}{ended}.")
    return report_from(message["report"])
