"""Replace a file completely or not at all."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["remove_unfinished", "replacing", "require_writable"]

_SUFFIX = ".unfinished"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` when all of it has reached the disk.

    Whatever interrupts the writing, ``path`` has either its old content or all of the new one. The
    unfinished file is removed. If the process is killed, it stays next to ``path`` until
    `remove_unfinished` is called.

    Args:
        path: The file to create or replace; its directory must exist. A device or a pipe, such as
            ``/dev/stdout``, is written to directly.

    Raises:
        OSError: If it cannot be written, or the disk is full. The error names ``path``.
    """
    direct = path.exists() and not path.is_file()
    target = path if direct else path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")
    try:
        with open(target, "wb") as file:
            yield file
            file.flush()
            if not direct:
                os.fsync(file.fileno())
        if not direct:
            os.replace(target, path)
            _sync(path.parent)
    except BaseException as error:
        if not direct:
            with contextlib.suppress(OSError):
                target.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(target)):
            error.filename = str(path)  # a full disk does not say where
            del error.filename2
        raise


def require_writable(path: Path) -> None:
    """Raise the `OSError` that writing to ``path`` would raise, if it can be foreseen."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    target = path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")
    try:
        with open(target, "wb"):
            pass
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            target.unlink(missing_ok=True)


def remove_unfinished(directory: Path) -> None:
    """Remove the unfinished files of processes that were killed."""
    for file in directory.glob(f".*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            file.unlink()


def _sync(directory: Path) -> None:
    """Write a directory's entries to the disk, so that replacements keep their order."""
    if os.name != "posix":  # elsewhere a directory cannot be opened
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
