"""Elementwise functions with a separate formula for the derivative."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["elementwise"]

Function = Callable[[Tensor], Tensor]


def elementwise(value: Function, derivative: Function) -> Function:
    """Join two formulas into one differentiable function.

    Automatic differentiation of a formula that avoids cancellation gives a derivative that is
    neither accurate nor cheap. Here the derivative has its own formula, which can be
    differentiated again. Both modes of differentiation and ``torch.func.vmap`` work.

    Args:
        value: Computes f(x); autograd does not record its operations.
        derivative: Computes f'(x) with differentiable operations.

    Example:
        >>> square = elementwise(lambda x: x * x, lambda x: 2 * x)
        >>> torch.func.grad(square)(torch.tensor(3.0))
        tensor(6.)
    """

    def function(x: Tensor) -> Tensor:
        return _Elementwise.apply(x, value, derivative)  # type: ignore[no-any-return]

    return function


class _Elementwise(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, value: Function, derivative: Function) -> Tensor:
        return value(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Function, Function], output: Tensor) -> None:
        x, _, ctx.derivative = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.derivative(x), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (x,) = ctx.saved_tensors
        derivative: Tensor = ctx.derivative(x)
        return tangent * derivative
