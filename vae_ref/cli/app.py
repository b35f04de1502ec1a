"""The commands, and the exit statuses of their errors."""

import os
from typing import Any

import typer

from vae_ref.cli.adapt import adapt_command
from vae_ref.cli.badge import badge_command
from vae_ref.cli.output import complain, streams_opened
from vae_ref.cli.run import run_command
from vae_ref.cli.train import evaluate_command, sample_command, train_command
from vae_ref.cli.vectors import grade_command, vectors_command
from vae_ref.cli.verify import claims_command, verify_command
from vae_ref.support.errors import UserError
from vae_ref.support.excerpt import excerpt

__all__ = ["app", "run"]

_UsageError: Any = typer.BadParameter.__bases__[0]  # typer has no public name for it
_MISUSE, _INTERNAL, _INTERRUPTED = 2, 70, 130

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
    streams_opened()
    try:
        return int(app(standalone_mode=False) or 0)
    except _UsageError as error:
        if message := error.format_message():  # none, if the help was printed
            complain(excerpt(message, 200))
        return _MISUSE
    except (UserError, OSError) as error:
        complain(str(error))
        return _MISUSE
    except (KeyboardInterrupt, typer.Abort):
        complain("stopped")
        return _INTERRUPTED
    except Exception as error:
        if "VAE_REF_TRACEBACK" in os.environ:
            raise
        first = next(iter(str(error).splitlines()), "")
        complain(
            f"internal error, {type(error).__name__}: {first} "
            "(VAE_REF_TRACEBACK=1 in the environment shows where)"
        )
        return _INTERNAL
