"""Which cases of a large family of tests run: every nth, and others with every commit."""

import subprocess
import zlib
from functools import cache
from pathlib import Path

__all__ = ["is_due", "revision"]


def is_due(family: str, index: int, one_in: int, commit: int) -> bool:
    """Return whether a case is in the sample of a commit; of many commits, all get their turn.

    Of a family of at least ``one_in`` cases, some run with every commit.
    """
    return (zlib.crc32(family.encode()) + index + commit) % one_in == 0


@cache
def revision() -> int | None:
    """Return the hash of the commit as a number; None where there is no history."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return int(run.stdout, 16)
