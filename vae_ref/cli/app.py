"""The command line: every command by its name."""

import typer

from vae_ref.cli.adapt import adapt_command
from vae_ref.cli.badge import badge_command
from vae_ref.cli.run import run_command
from vae_ref.cli.train import evaluate_command, sample_command, train_command
from vae_ref.cli.vectors import grade_command, vectors_command
from vae_ref.cli.verify import claims_command, verify_command
from vae_ref.support import command

__all__ = ["app", "run"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Verify and train variational autoencoders.",
)
app.command("verify")(verify_command)
app.command("run", context_settings={"allow_interspersed_args": False, "allow_extra_args": True})(
    run_command
)
app.command("adapt")(adapt_command)
app.command("badge")(badge_command)
app.command("claims")(claims_command)
app.command("vectors")(vectors_command)
app.command("grade")(grade_command)
app.command("train")(train_command)
app.command("evaluate")(evaluate_command)
app.command("sample")(sample_command)


def run() -> int:
    """Run the command of ``sys.argv``, and return its exit status."""
    return command.run(app, "vae-ref")
