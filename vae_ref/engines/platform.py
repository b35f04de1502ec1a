"""What an engine asks of the machine, for as long as it runs."""

import functools
import inspect

import torch

__all__ = ["Adam", "constants_in_memory"]


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
