"""Two delays of torch, and how to avoid them."""

import functools
import inspect

import torch

__all__ = ["Adam", "constants_in_memory"]


class Adam(torch.optim.Adam):
    """Torch's Adam, without the seconds that torch takes to import its compiler.

    Torch wraps these methods for its compiler, and the wrappers import it.
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
    zero_grad = inspect.unwrap(torch.optim.Adam.zero_grad)
    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    state_dict = inspect.unwrap(torch.optim.Adam.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Adam.load_state_dict)


@functools.cache
def constants_in_memory() -> None:
    """Bring the constants of log1p and expm1 into memory; softplus is then six times as fast.

    Torch's kernels for AVX-512 load the result for -0 with a mask, which is empty for all other
    numbers. If the page of this constant is not in memory, a load with an empty mask takes some
    400 cycles. It never faults, so it does not bring the page into memory. A -0 does.
    """
    for function in (torch.log1p, torch.expm1):
        function(torch.full((16,), -0.0, dtype=torch.float32, device="cpu"))
