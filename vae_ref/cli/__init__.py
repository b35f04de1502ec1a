"""The command ``vae-ref``."""

__all__ = ["main"]


def main() -> None:
    """Run the command; answer bad input with one line and exit status 2."""
    import sys

    try:
        from vae_ref.cli.app import run

        status = run()
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
