"""The command line: every command by its name."""

from typing import Annotated

import typer

from vae_ref.cli.adapt import adapt_command
from vae_ref.cli.badge import badge_command
from vae_ref.cli.claims import claims_command
from vae_ref.cli.help import Command, Group
from vae_ref.cli.run import run_command
from vae_ref.cli.train import evaluate_command, sample_command, train_command
from vae_ref.cli.vectors import grade_command, vectors_command
from vae_ref.cli.verify import verify_command
from vae_ref.support import command, messages

__all__ = ["app", "run"]

app = typer.Typer(
    cls=Group,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"vae-ref {version('vae_ref')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _all(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Verify and train variational autoencoders."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


app.command("verify", cls=Command)(verify_command)
app.command(
    "run",
    cls=Command,
    context_settings={"allow_interspersed_args": False, "allow_extra_args": True},
)(run_command)
app.command("adapt", cls=Command)(adapt_command)
app.command("badge", cls=Command)(badge_command)
app.command("claims", cls=Command)(claims_command)
app.command("vectors", cls=Command)(vectors_command)
app.command("grade", cls=Command)(grade_command)
app.command("train", cls=Command)(train_command)
app.command("evaluate", cls=Command)(evaluate_command)
app.command("sample", cls=Command)(sample_command)


def run() -> int:
    """Run the command of ``sys.argv``, and return its exit status."""
    with messages.spoken():
        return command.run(app, "vae-ref")
