"""What the operations of JAX are in torch: one function for each, by its name in a jaxpr.

Each takes the parameters of its equation, and its inputs as tensors or, where one number is meant
for all, as numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ELEMENTWISE", "MOVING", "Primitive", "dtype_of", "primitive"]

Params = dict[str, Any]


class Primitive(NamedTuple):
    """An operation.

    Attributes:
        name: What it is called among the operations of torch.
        call: ``call(params, *inputs)``.
    """

    name: str
    call: Callable[..., Any]


_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    **{
        name: getattr(torch, name)
        for name in [
            *("abs", "neg", "exp", "exp2", "log", "log1p", "expm1", "sqrt", "rsqrt", "square"),
            *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh"),
            *("acosh", "atanh", "sign", "floor", "ceil", "erf", "erfc", "lgamma", "digamma"),
        ]
    },
    "logistic": torch.sigmoid,
    "erf_inv": torch.erfinv,
    "round": torch.round,
    "is_finite": torch.isfinite,
    "not": torch.bitwise_not,
    "cbrt": lambda x: torch.sign(x) * torch.abs(x) ** (1 / 3),
    "stop_gradient": torch.detach,
    **dict.fromkeys(("copy", "copy_p", "optimization_barrier", "reduce_precision"), torch.clone),
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "add_any": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "max": torch.maximum,
    "min": torch.minimum,
    "pow": torch.pow,
    "rem": torch.fmod,
    "atan2": torch.atan2,
    "div": lambda a, b: torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc"),
    "and": torch.bitwise_and,
    "or": torch.bitwise_or,
    "xor": torch.bitwise_xor,
    **{name: getattr(torch, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}
_RENAMED = {"logistic": "sigmoid", "stop_gradient": "detach", "erf_inv": "erfinv"}
ELEMENTWISE = {*_UNARY, *_BINARY, "select_n", "clamp", "integer_pow"}
"""The operations whose inputs may be one number for all."""

MOVING = {"gather", "dynamic_slice", "rev"}
"""The operations that only choose among the numbers of their first input, or repeat them."""


def primitive(name: str, params: Params) -> Primitive | None:
    """Return the operation of torch for one of JAX; None if it is not known."""
    if name in _UNARY:
        return Primitive(_RENAMED.get(name, name), lambda _, x: _UNARY[name](x))
    if name in _BINARY:
        return Primitive(name, lambda _, a, b: _BINARY[name](*_tensors(a, b)))
    if name == "conv_general_dilated":
        return _convolution(params)
    if any(d != 1 for key in _DILATIONS for d in params.get(key, ())):
        return None
    return _OTHERS.get(name)


def _tensors(*inputs: Any) -> list[Tensor]:
    """Return numbers as tensors of the precision of the others."""
    like = next(x for x in inputs if isinstance(x, Tensor))
    return [x if isinstance(x, Tensor) else torch.tensor(x, dtype=like.dtype) for x in inputs]


def dtype_of(dtype: Any) -> torch.dtype:
    """Return the precision of torch for that of an array."""
    name = {"bool": "bool", "uint16": "int32", "uint32": "int64"}.get(str(dtype), str(dtype))
    found: torch.dtype = getattr(torch, name)
    return found


# Shapes.


def _broadcast(params: Params, x: Tensor) -> Tensor:
    shape, places = params["shape"], params["broadcast_dimensions"]
    whole = [1] * len(shape)
    for size, place in zip(x.shape, places, strict=True):
        whole[place] = size
    return x.reshape(whole).expand(shape)


def _slice(params: Params, x: Tensor) -> Tensor:
    strides = params["strides"] or [1] * x.dim()
    parts = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[tuple(slice(*part) for part in parts)]


def _split(params: Params, x: Tensor) -> Any:
    return x.split([int(size) for size in params["sizes"]], params["axis"])


def _squeeze(params: Params, x: Tensor) -> Tensor:
    return x.squeeze(tuple(params["dimensions"]))


def _padded(params: Params, x: Tensor, value: Any) -> Tensor:
    """Pad with a number, also between the numbers; padding below nothing cuts."""
    for axis, (low, high, between) in enumerate(params["padding_config"]):
        if between:
            parts = x.unsqueeze(axis + 1)
            rest = torch.zeros_like(parts).expand(_set(parts.shape, axis + 1, between)) + value
            x = torch.cat([parts, rest], axis + 1).flatten(axis, axis + 1)
            x = x.narrow(axis, 0, x.shape[axis] - between)
        for size, first in ((low, True), (high, False)):
            if size > 0:
                rest = x.new_zeros(_set(x.shape, axis, size)) + value
                x = torch.cat([rest, x] if first else [x, rest], axis)
            elif size < 0:
                x = x.narrow(axis, -size if first else 0, x.shape[axis] + size)
    return x


def _set(shape: Sequence[int], axis: int, size: int) -> list[int]:
    return [*shape[:axis], size, *shape[axis + 1 :]]


# Sums and their like.


def _reduced(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(params: Params, x: Tensor) -> Tensor:
        axes = tuple(params["axes"])
        return function(x, axes) if axes else x.clone()

    return call


def _product(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis)
    return x


def _argument(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda params, x: function(x, params["axes"][0])


def _cumulated(function: Callable[..., Any]) -> Callable[..., Tensor]:
    def call(params: Params, x: Tensor) -> Tensor:
        axis, back = params["axis"], params["reverse"]
        found = function(x.flip(axis) if back else x, axis)
        found = found if isinstance(found, Tensor) else found[0]
        return found.flip(axis) if back else found

    return call


_DILATIONS = ("base_dilation", "window_dilation")
"""The parameters of a pooling that torch does not have."""


def _windows(params: Params, x: Tensor, value: float) -> Tensor:
    """Return the windows of a pooling in one last axis, with a number in the padding."""
    padding = [(low, high, 0) for low, high in params["padding"]]
    x = _padded({"padding_config": padding}, x, value)
    sizes, strides = params["window_dimensions"], params["window_strides"]
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        x = x.unfold(axis, size, stride)
    return x.flatten(-len(sizes))


# With weights.


def _dot(params: Params, a: Tensor, b: Tensor) -> Tensor:
    """Multiply and sum over axes; others go along, and come first."""
    (over_a, over_b), (along_a, along_b) = params["dimension_numbers"]
    if a.dtype != b.dtype:
        a, b = (t.to(torch.promote_types(a.dtype, b.dtype)) for t in (a, b))
    if not along_a and b.dim() == 2 and over_a == (a.dim() - 1,) and len(over_b) == 1:
        return torch.matmul(a, b if over_b == (0,) else b.T)
    letters = iter(range(a.dim() + b.dim()))
    axes_a, axes_b = [next(letters) for _ in range(a.dim())], [-1] * b.dim()
    for i, j in zip((*over_a, *along_a), (*over_b, *along_b), strict=True):
        axes_b[j] = axes_a[i]
    axes_b = [next(letters) if axis < 0 else axis for axis in axes_b]
    first = [axes_a[i] for i in along_a]
    free = [axis for i, axis in enumerate(axes_a) if i not in (*over_a, *along_a)]
    free += [axis for j, axis in enumerate(axes_b) if j not in (*over_b, *along_b)]
    return torch.einsum(a, axes_a, b, axes_b, first + free)


def _convolution(params: Params) -> Primitive | None:
    spec = params["dimension_numbers"]
    dims = len(spec.lhs_spec) - 2
    if dims not in (1, 2, 3) or params["batch_group_count"] != 1:
        return None
    apart, strides = params["lhs_dilation"], params["window_strides"]
    is_transposed = any(d != 1 for d in apart)
    if is_transposed and (any(s != 1 for s in strides) or params["feature_group_count"] != 1):
        return None

    def call(params: Params, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = x.permute(spec.lhs_spec), weight.permute(spec.rhs_spec)
        padding, dilation = params["padding"], tuple(params["rhs_dilation"])
        if is_transposed:
            spread = getattr(F, f"conv_transpose{dims}d")
            flipped = weight.flip(tuple(range(2, 2 + dims))).transpose(0, 1)
            x = spread(x, flipped, stride=tuple(apart), dilation=dilation)
            reach = [(k - 1) * d for k, d in zip(weight.shape[2:], dilation, strict=True)]
            cut = [(p[0] - r, p[1] - r, 0) for p, r in zip(padding, reach, strict=True)]
            x = _padded({"padding_config": [(0, 0, 0), (0, 0, 0), *cut]}, x, 0.0)
        else:
            around = [(low, high, 0) for low, high in padding]
            x = _padded({"padding_config": [(0, 0, 0), (0, 0, 0), *around]}, x, 0.0)
            groups = params["feature_group_count"]
            x = getattr(F, f"conv{dims}d")(x, weight, None, tuple(strides), 0, dilation, groups)
        back = [0] * (dims + 2)
        for place, axis in enumerate(spec.out_spec):
            back[axis] = place
        return x.permute(back)

    return Primitive(f"conv_transpose{dims}d" if is_transposed else f"conv{dims}d", call)


def _select(params: Params, which: Tensor, *cases: Any) -> Tensor:
    like = next(c for c in cases if isinstance(c, Tensor))
    if which.dtype is torch.bool:
        no, yes = cases
        return torch.where(which, yes, no)
    found = like.new_zeros(which.shape)
    for number, case in enumerate(cases):
        found = torch.where(which == number, case, found)
    return found


def _clamped(_: Params, low: Any, x: Any, high: Any) -> Tensor:
    low, x, high = _tensors(low, x, high)
    return torch.minimum(torch.maximum(x, low), high)


def _sorted(params: Params, x: Tensor) -> tuple[Tensor]:
    return (torch.sort(x, dim=params["dimension"], stable=True).values,)


_OTHERS: dict[str, Primitive] = {
    "integer_pow": Primitive("pow", lambda params, x: x ** params["y"]),
    "select_n": Primitive("where", _select),
    "clamp": Primitive("clamp", _clamped),
    "broadcast_in_dim": Primitive("expand", _broadcast),
    "reshape": Primitive("reshape", lambda params, x: x.reshape(tuple(params["new_sizes"]))),
    "squeeze": Primitive("squeeze", _squeeze),
    "transpose": Primitive("permute", lambda params, x: x.permute(tuple(params["permutation"]))),
    "slice": Primitive("__getitem__", _slice),
    "split": Primitive("split", _split),
    "concatenate": Primitive("cat", lambda params, *parts: torch.cat(parts, params["dimension"])),
    "pad": Primitive("pad", _padded),
    "reduce_sum": Primitive("sum", _reduced(torch.sum)),
    "reduce_max": Primitive("amax", _reduced(torch.amax)),
    "reduce_min": Primitive("amin", _reduced(torch.amin)),
    "reduce_prod": Primitive("prod", _reduced(_product)),
    "reduce_and": Primitive("all", _reduced(torch.all)),
    "reduce_or": Primitive("any", _reduced(torch.any)),
    "argmax": Primitive("argmax", _argument(torch.argmax)),
    "argmin": Primitive("argmin", _argument(torch.argmin)),
    "cumsum": Primitive("cumsum", _cumulated(torch.cumsum)),
    "cumprod": Primitive("cumprod", _cumulated(torch.cumprod)),
    "cummax": Primitive("cummax", _cumulated(torch.cummax)),
    "cummin": Primitive("cummin", _cumulated(torch.cummin)),
    "cumlogsumexp": Primitive("logcumsumexp", _cumulated(torch.logcumsumexp)),
    "sort": Primitive("sort", _sorted),
    "dot_general": Primitive("matmul", _dot),
    "reduce_window_sum": Primitive("avg_pool", lambda params, x: _windows(params, x, 0.0).sum(-1)),
    "reduce_window_max": Primitive(
        "max_pool", lambda params, x: _windows(params, x, -torch.inf).amax(-1)
    ),
}
