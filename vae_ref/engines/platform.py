"""What an engine asks of the machine, for as long as it runs."""

import contextlib
import functools
import inspect
from collections.abc import Iterator

import torch

__all__ = ["Adam", "constants_in_memory", "denormals_flushed"]


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take numbers below the smallest normal one for zero.

    Adam's moments of dead units decay into denormal numbers, whose arithmetic costs a fifth of
    an epoch's time from the third epoch on; the parameters are the same bit for bit.

    The setting is one of the calling thread, which threads inherit when they are created: enter
    before torch's first parallel operation for all of them to obey. Such threads keep it.
    """
    smallest = torch.tensor(torch.finfo(torch.float32).tiny, dtype=torch.float32, device="cpu")
    before = bool(smallest / 2 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


class Adam(torch.optim.Adam):
    """Torch's Adam, without the second that torch takes to import its compiler.

    These methods are wrapped, so that the compiler leaves them alone: the wrapper imports it.
    """

    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    state_dict = inspect.unwrap(torch.optim.Adam.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Adam.load_state_dict)


@functools.cache
def constants_in_memory() -> None:
    """Have the constants of log1p and expm1 in memory, for a softplus six times as fast.

    Torch's kernels for AVX-512 load what they return for -0 under a mask that is empty for all
    other numbers. From a page that is not in memory such a load costs some 400 cycles every
    time, and never fetches the page, for an empty mask cannot fault. A -0 does.
    """
    for function in (torch.log1p, torch.expm1):
        function(torch.full((16,), -0.0, dtype=torch.float32, device="cpu"))
