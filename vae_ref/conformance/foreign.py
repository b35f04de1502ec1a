"""Functions of other libraries as functions of tensors, with the gradients they bring along."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Foreign", "from_jax", "from_numpy"]


class Foreign:
    """A function that torch cannot look into.

    Attributes:
        differentiable: Whether it brings its own gradient.
    """

    def __init__(
        self,
        value: Callable[..., Any],
        pullback: Callable[..., Sequence[Any]] | None,
    ) -> None:
        self.differentiable = pullback is not None

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *tensors: Tensor) -> Tensor:
                ctx.save_for_backward(*tensors)
                return _tensor(value(*(_array(tensor) for tensor in tensors)))

            @staticmethod
            def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, ...]:
                if pullback is None:
                    raise NotImplementedError("the function brings no gradient")
                tensors = ctx.saved_tensors
                arrays = [_array(tensor) for tensor in tensors]
                gradients = pullback(*arrays, _array(cotangents[0]))
                return tuple(
                    _tensor(gradient).to(tensor.dtype)
                    for gradient, tensor in zip(gradients, tensors, strict=True)
                )

        self._apply = Function.apply

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Call the function; gradients go through its own."""
        return self._apply(*tensors)  # type: ignore[no-any-return]


def from_numpy(
    function: Callable[..., Any], gradient: Callable[..., Sequence[Any]] | None = None
) -> Foreign:
    """Make a function of NumPy arrays one of tensors.

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
    return Foreign(function, gradient)


def from_jax(function: Callable[..., Any]) -> Foreign:
    """Make a function of JAX arrays one of tensors; its gradient is JAX's own."""
    import jax

    def pullback(*arguments: Any) -> Sequence[Any]:
        *inputs, cotangent = arguments
        value, pull = jax.vjp(function, *inputs)
        return pull(jax.numpy.asarray(cotangent, dtype=value.dtype))  # type: ignore[no-any-return]

    return Foreign(function, pullback)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array))
