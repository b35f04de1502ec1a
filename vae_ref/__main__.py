"""Run the command as ``python -m vae_ref``."""

from vae_ref.cli import main

if __name__ == "__main__":
    main()
