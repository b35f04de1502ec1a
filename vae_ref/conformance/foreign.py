"""Make functions of tensors from functions of other libraries, with their own gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Foreign", "NoGradientError", "from_jax", "from_numpy"]


class NoGradientError(Exception):
    """A function was differentiated that comes without a gradient."""


class Foreign:
    """A function of another library, which torch can call but not differentiate by itself.

    One that returns several arrays returns them as a tuple; its gradient takes as many cotangents.

    Attributes:
        differentiable: Whether the function comes with a gradient.
    """

    def __init__(
        self,
        linearize: Callable[..., tuple[Any, Callable[[Any], Sequence[Any]]]],
        *,
        differentiable: bool,
    ) -> None:
        self.differentiable = differentiable

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *tensors: Tensor) -> Any:
                value, ctx.pull = linearize(*(_to_array(tensor) for tensor in tensors))
                ctx.dtypes = [tensor.dtype for tensor in tensors]
                ctx.several = isinstance(value, tuple)
                return tuple(map(_to_tensor, value)) if ctx.several else _to_tensor(value)

            @staticmethod
            def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, ...]:
                if not differentiable:
                    raise NoGradientError
                arrays = tuple(map(_to_array, cotangents))
                gradients = ctx.pull(arrays if ctx.several else arrays[0])
                return tuple(
                    _to_tensor(gradient).to(dtype)
                    for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
                )

        self._apply = Function.apply

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Call the function; gradients are those that it comes with."""
        return self._apply(*tensors)  # type: ignore[no-any-return]


def from_numpy(
    function: Callable[..., Any], gradient: Callable[..., Sequence[Any]] | None = None
) -> Foreign:
    """Make a function of tensors from a function of NumPy arrays.

    Args:
        function: Takes and returns arrays.
        gradient: ``gradient(*arguments, cotangent)`` returns, for each argument, the derivative
            of ``(function(*arguments) * cotangent).sum()``. Without it, the claims about
            gradients do not apply.

    Example:
        >>> square = from_numpy(lambda x: x**2, lambda x, cotangent: [2 * x * cotangent])
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> square(x).backward()
        >>> x.grad
        tensor([6.])
    """

    def linearize(*arrays: Any) -> tuple[Any, Callable[[Any], Sequence[Any]]]:
        return function(*arrays), lambda cotangent: (gradient or _no_gradient)(*arrays, cotangent)

    return Foreign(linearize, differentiable=gradient is not None)


def _no_gradient(*arrays: Any) -> Sequence[Any]:
    raise NoGradientError


def from_jax(function: Callable[..., Any]) -> Foreign:
    """Make a function of tensors from a function of JAX arrays; its gradient is JAX's own."""
    import jax

    def linearize(*arrays: Any) -> tuple[Any, Callable[[Any], Sequence[Any]]]:
        value, pull = jax.vjp(function, *arrays)
        return value, lambda cotangent: pull(jax.numpy.asarray(cotangent, dtype=value.dtype))

    return Foreign(linearize, differentiable=True)


def _to_array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()


def _to_tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array))
