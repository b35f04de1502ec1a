"""Take denormal numbers for zero while something is trained."""

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["denormals_flushed"]


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take numbers below the smallest normal one for zero.

    Adam's moments of dead units decay into denormal numbers, whose arithmetic costs a fifth of
    an epoch's time from the third epoch on; the parameters are the same bit for bit.

    The setting is one of the calling thread, which threads inherit when they are created: enter
    before torch's first parallel operation for all of them to obey. Such threads keep it.
    """
    smallest = torch.tensor(torch.finfo(torch.float32).tiny, dtype=torch.float32)
    before = bool(smallest / 2 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
