"""Replace a file whole or not at all."""

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
    """Open a file that takes the place of ``path`` when all of it has reached the disk.

    Whatever interrupts the writing, ``path`` holds either what it held before or the new
    content. What was written of it so far is removed, unless the process is killed: then it stays
    beside ``path``, for `remove_unfinished`.

    Args:
        path: The file to create or replace; its directory must exist. A device or a pipe, such as
            ``/dev/stdout``, is written to and not replaced.

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
    """Raise the `OSError` that writing to ``path`` would end in, if that can be known before."""
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
    """Remove what killed processes left of their writing."""
    for file in directory.glob(f".*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            file.unlink()


def _sync(directory: Path) -> None:
    """Have the directory's entries on the disk, in the order in which they were replaced."""
    if os.name != "posix":  # elsewhere a directory cannot be opened
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
