"""A jaxpr evaluated by torch, equation by equation, so that a recorder sees its operations.

Each equation is one operation, with the line of the equation. Two kinds of values run through
them: tensors, which depend on weights, data or noise; and what is *known*, which depends on none
of these (constants, counters, keys), and is computed by JAX itself. A draw of ``jax.random`` is an
operation that gives the numbers that JAX draws the first time, and others when it is replayed.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from vae_ref.conformance.auditing.graph import Place
from vae_ref.conformance.auditing.primitives import ELEMENTWISE, MOVING, dtype_of, primitive
from vae_ref.conformance.auditing.recorder import placed, suspended
from vae_ref.support.errors import UserError

__all__ = ["JaxError", "Step", "is_key", "stays"]

_MOST_TURNS = 10_000
_CALLS = {
    *("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
}
_DRAWS = {
    "_normal": "randn",
    "_normal_real": "randn",
    "_uniform": "rand",
    "_bernoulli": "bernoulli",
    "_gumbel": "gumbel",
    "_exponential": "exponential",
}
_KIT = str(Path(__file__).parents[1])
_OF_JAX = re.compile(r"[/\\](site|dist)-packages[/\\]jax[/\\]")
_LIBRARY = re.compile(r"^<|[/\\](site|dist)-packages[/\\]|[/\\]lib[/\\]python3[^/\\]*[/\\]")


class JaxError(UserError, ValueError):
    """A step in JAX cannot be replayed; the message says why."""


@dataclass
class _Equation:
    """An equation with numbers for variables; what is called is inlined, but draws are not."""

    name: str
    of: Any
    inputs: list[int]
    outputs: list[int]
    place: Place | None


class Step(nn.Module):
    """The loss of a step of JAX as a module of torch.

    Args:
        closed: The jaxpr of the step.
        arguments: What it is evaluated with.
        weights: Which of its constants and of its arguments are weights, by their places in the
            two lists one after the other, with their names.
        loss: Which of its outputs is the loss.
    """

    def __init__(
        self, closed: Any, arguments: Sequence[Any], weights: dict[int, str], loss: int
    ) -> None:
        super().__init__()
        self._jaxpr, self._loss = closed.jaxpr, loss
        self._inputs: list[Any] = []
        for place, value in enumerate([*closed.consts, *arguments]):
            given = value if stays(value) else _tensor(value)
            if place in weights:
                given = nn.Parameter(given)
                self.register_parameter(_free(self, weights[place]), given)
            self._inputs.append(given)

    def forward(self) -> Tensor:
        """Return the loss."""
        (loss,) = _Evaluation().run(self._jaxpr, self._inputs, [self._loss])
        if not isinstance(loss, Tensor):
            raise JaxError("the loss depends neither on weights nor on data")
        return loss


def _free(module: nn.Module, name: str) -> str:
    """Return a name that a module can give to a parameter."""
    return name if not hasattr(module, name) else _free(module, name + "_")


def is_key(value: Any) -> bool:
    """Whether an array is a key of ``jax.random``, or may be one."""
    dtype = str(getattr(value, "dtype", ""))
    return dtype.startswith("key<") or (dtype == "uint32" and np.shape(value)[-1:] in ((2,), (4,)))


def stays(value: Any) -> bool:
    """Whether JAX computes with a value itself: keys, counters and what else is no data."""
    dtype = str(value.dtype)
    return dtype.startswith(("key<", "uint32", "uint64")) or (
        np.ndim(value) == 0 and not dtype.startswith(("float", "bfloat"))
    )


def _tensor(value: Any) -> Tensor:
    """Return an array as a tensor, unseen by recorders."""
    with suspended():
        array = np.asarray(value)
        if array.dtype.kind == "V" or str(array.dtype) == "bfloat16":
            return torch.from_numpy(array.astype(np.float32)).to(dtype_of(array.dtype))
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int64)
        return torch.from_numpy(array.copy())


class _Evaluation:
    """One evaluation of a step; the same draws of the same key are one."""

    def __init__(self) -> None:
        self._drawn: dict[Any, Tensor] = {}
        self._place: Place | None = None

    def run(self, jaxpr: Any, inputs: Sequence[Any], wanted: Sequence[int]) -> list[Any]:
        """Return the wanted outputs of a jaxpr; ``inputs`` begin with those for its constants."""
        equations, values, outputs = _flat(jaxpr, inputs, self._place)
        targets = [outputs[i] for i in wanted]
        needed, todo = set(targets), list[_Equation]()
        for equation in reversed(equations):
            if not needed.isdisjoint(equation.outputs):
                needed.update(equation.inputs)
                todo.append(equation)
        bits: dict[int, Place | None] = {}
        for equation in reversed(todo):
            self._place = equation.place or self._place
            given = [values[i] for i in equation.inputs]
            is_draw = equation.name in _DRAWS
            if not is_draw and any(i in bits for i in equation.inputs):
                if any(isinstance(v, Tensor) for v in given):
                    _require_whole(given, equation)
                bits.update(dict.fromkeys(equation.outputs, equation.place))
            if equation.name in ("random_bits", "random_gamma"):
                bits.update(dict.fromkeys(equation.outputs, equation.place))
            with placed(self._place):
                answers = self._answers(equation, given)
            values.update(zip(equation.outputs, answers, strict=True))
        return [values[i] for i in targets]

    def _answers(self, equation: _Equation, given: list[Any]) -> Sequence[Any]:
        name, params = equation.name, equation.of.params
        if name in _DRAWS:
            return [self._draw(equation, given)]
        if name in _TURNS:
            return list(_TURNS[name](self, params, given))
        if not any(isinstance(v, Tensor) for v in given):
            return _known(equation.of, given)
        shapes = [getattr(v.aval, "shape", ()) for v in equation.of.outvars]
        answer = _in_torch(name, params, given, shapes[0])
        if answer is None:
            raise JaxError(_refusal(name, equation.place))
        return answer if isinstance(answer, tuple) else (answer,)

    # Draws.

    def _draw(self, equation: _Equation, given: list[Any]) -> Any:
        """Return what JAX draws, as an operation that draws anew when it is replayed."""
        key, *others = given
        if isinstance(key, Tensor):
            raise JaxError(f"a key depends on data ({equation.place}): noise cannot be replayed")
        out = equation.of.outvars[0].aval
        if equation.name == "_bernoulli" and isinstance(others[0], Tensor):
            return self._bernoulli(equation, key, others[0])
        if any(isinstance(v, Tensor) for v in others):
            raise JaxError(_refusal(equation.name.strip("_"), equation.place))
        low, high = map(_number, map(np.max, others)) if equation.name == "_uniform" else (0, 1)
        if equation.name == "_uniform":
            others = [np.full_like(v, n) for v, n in zip(others, (0, 1), strict=True)]
        parts = (equation.name, _bytes(key), out.shape, str(out.dtype), str(others))
        if parts not in self._drawn:
            _require_different(key, equation.place)
            self._drawn[parts] = self._noise(equation, [key, *others])
        found = self._drawn[parts]
        if (low, high) != (0, 1):
            found = _operation("add", lambda u, a, b: u * (b - a) + a, found, low, high)
        return found

    def _noise(self, equation: _Equation, known: list[Any]) -> Any:
        from jax.extend.core import jaxpr_as_fun

        (numbers,) = jaxpr_as_fun(equation.of.params["jaxpr"])(*known)
        name, first = _DRAWS[equation.name], [_tensor(numbers)]
        shape, dtype = tuple(first[0].shape), first[0].dtype
        if name == "bernoulli":  # with a probability that is fixed, it is a mask
            p = float(np.mean(known[1]))
            return _mask(first, 1 - p)

        def again(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
            if first:
                return first.pop()
            if name == "randn":
                return torch.randn(shape, dtype=dtype)
            uniform = torch.rand(shape, dtype=dtype)
            if name == "rand":
                return uniform
            exponential = -torch.log1p(-uniform)
            return exponential if name == "exponential" else -torch.log(exponential)

        return _operation(name, again, shape, dtype=dtype)

    def _bernoulli(self, equation: _Equation, key: Any, p: Tensor) -> Any:
        """Draw with probabilities that the step computes: the numbers of JAX are below them."""
        from jax.extend.core import jaxpr_as_fun

        (numbers,) = jaxpr_as_fun(equation.of.params["jaxpr"])(key, p.detach().numpy())
        first = [_tensor(numbers)]

        def again(p: Tensor) -> Tensor:
            return first.pop() if first else torch.bernoulli(p).bool()

        return _operation("bernoulli", again, p)

    # What is done several times, or not at all.

    def call(self, closed: Any, inputs: Sequence[Any]) -> list[Any]:
        """Return all outputs of a jaxpr."""
        every = range(len(closed.jaxpr.outvars))
        return self.run(closed.jaxpr, [*closed.consts, *inputs], every)

    def _scanned(self, params: dict[str, Any], given: list[Any]) -> Iterator[Any]:
        consts, carried = params["num_consts"], params["num_carry"]
        fixed, carry, rest = (
            given[:consts],
            given[consts : consts + carried],
            given[consts + carried :],
        )
        order = range(params["length"])
        rows: list[list[Any]] = []
        for turn in reversed(order) if params["reverse"] else order:
            answer = self.call(params["jaxpr"], [*fixed, *carry, *(_row(v, turn) for v in rest)])
            carry = answer[:carried]
            rows.append(answer[carried:])
        if params["reverse"]:
            rows.reverse()
        yield from carry
        for column in zip(*rows, strict=True):
            yield _stacked(column)

    def _repeated(self, params: dict[str, Any], given: list[Any]) -> Iterator[Any]:
        ends = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        asked, fixed, carry = given[: ends[0]], given[ends[0] : ends[1]], given[ends[1] :]
        for _ in range(_MOST_TURNS):
            if not bool(self.call(params["cond_jaxpr"], [*asked, *carry])[0]):
                yield from carry
                return
            carry = self.call(params["body_jaxpr"], [*fixed, *carry])
        raise JaxError(f"a loop does not end in {_MOST_TURNS:,} turns ({self._place})")

    def _branched(self, params: dict[str, Any], given: list[Any]) -> list[Any]:
        which, *rest = given
        branches = params["branches"]
        return self.call(branches[min(max(int(which), 0), len(branches) - 1)], rest)


_TURNS: dict[str, Callable[..., Any]] = {
    "scan": _Evaluation._scanned,
    "while": _Evaluation._repeated,
    "cond": _Evaluation._branched,
}


def _row(values: Any, turn: int) -> Any:
    if isinstance(values, Tensor):
        return _operation("__getitem__", lambda x: x[turn], values)
    return values[turn]


def _stacked(rows: Sequence[Any]) -> Any:
    if any(isinstance(row, Tensor) for row in rows):
        parts = [row if isinstance(row, Tensor) else _tensor(row) for row in rows]
        return _operation("stack", lambda *parts: torch.stack(parts), *parts)
    import jax

    return jax.numpy.stack(rows)


def _mask(first: list[Tensor], p: float) -> Any:
    """Return a mask whose numbers are 0 with probability p, as dropout of ones."""
    with suspended():
        ones = torch.ones(first[0].shape)

    def again(ones: Tensor, p: float, training: bool) -> Tensor:
        kept = first.pop() if first else torch.rand_like(ones) >= p
        return kept.to(ones.dtype) * training / max(1 - p, 1e-12)

    factors = _operation("dropout", again, ones, p, True)
    return _operation("ne", lambda factors: factors != 0, factors)


def _bytes(key: Any) -> bytes:
    import jax

    is_typed = str(key.dtype).startswith("key<")
    return np.asarray(jax.random.key_data(key) if is_typed else key).tobytes()


def _require_different(key: Any, place: Place | None) -> None:
    """Raise if several draws in one have the same key."""
    import jax

    is_typed = str(key.dtype).startswith("key<")
    rows = np.asarray(jax.random.key_data(key) if is_typed else key)
    rows = rows.reshape(-1, rows.shape[-1])
    if len(np.unique(rows, axis=0)) < len(rows):
        raise JaxError(f"several examples draw with the same key ({place}): not judged")


# What is known.


def _known(equation: Any, given: list[Any]) -> Sequence[Any]:
    """Compute an equation by JAX itself."""
    answer = equation.primitive.bind(*given, **equation.params)
    return answer if equation.primitive.multiple_results else (answer,)


def _require_whole(given: list[Any], equation: _Equation) -> None:
    """Raise if random bits have become numbers that are no integers."""
    for value in given:
        if not isinstance(value, Tensor) and str(value.dtype).startswith(("float", "bfloat")):
            raise JaxError(
                f"noise is made of random bits ({equation.place}), and cannot be drawn again: "
                "draw it by jax.random.normal or jax.random.uniform"
            )


def _number(value: Any) -> Any:
    """Return the one number of an array, as it was written."""
    kind = str(value.dtype)
    if kind == "bool":
        return bool(value)
    if kind.startswith(("int", "uint")):
        return int(value)
    return float(value) if kind == "float64" else float(str(np.float32(value)))


def _in_torch(name: str, params: dict[str, Any], given: list[Any], shape: tuple[int, ...]) -> Any:
    """Compute an equation by torch; return None if it cannot."""
    if name in ELEMENTWISE:
        inputs = [
            v
            if isinstance(v, Tensor)
            else _number(np.ravel(v)[0])
            if v.size and (np.ravel(v) == np.ravel(v)[0]).all()
            else _tensor(v)
            for v in given
        ]
        whole = any(isinstance(v, Tensor) and tuple(v.shape) == shape for v in inputs)
        chosen = name == "select_n" and not (
            isinstance(inputs[0], Tensor) and any(isinstance(v, Tensor) for v in inputs[1:])
        )
        if not whole or chosen:
            inputs = [v if isinstance(v, Tensor) else _tensor(v) for v in given]
    else:
        inputs = [v if isinstance(v, Tensor) else _tensor(v) for v in given]
    if name == "convert_element_type":
        dtype = dtype_of(params["new_dtype"])
        return _operation("to", lambda x, dtype: x.to(dtype), inputs[0], dtype=dtype)
    if name in MOVING and isinstance(given[0], Tensor):
        return _moved(name, params, inputs)
    if name == "dynamic_update_slice":
        return _updated(inputs)
    found = primitive(name, params)
    if found is None:
        return None
    return _operation(found.name, lambda *inputs: found.call(params, *inputs), *inputs)


def _moved(name: str, params: dict[str, Any], inputs: list[Tensor]) -> Any:
    """Choose numbers by their places, which JAX says."""
    from jax import lax

    source, *rest = inputs
    if name == "gather" and _is_lookup(params, source, rest[0]):
        return _operation("embedding", lambda x, i: x[i.squeeze(-1)], source, rest[0])
    if any(index.requires_grad for index in rest):
        return None
    places = np.arange(source.numel(), dtype=np.int32).reshape(source.shape)
    indices = [index.detach().numpy() for index in rest]
    outside = {"fill_value": -1} if name == "gather" else {}
    chosen = np.asarray(getattr(lax, f"{name}_p").bind(places, *indices, **(params | outside)))
    if (chosen < 0).any():
        return None
    with suspended():
        numbers = torch.from_numpy(chosen.astype(np.int64))
    return _operation("__getitem__", lambda x, i: x.reshape(-1)[i], source, numbers)


def _is_lookup(params: dict[str, Any], source: Tensor, index: Tensor) -> bool:
    """Whether a gather takes whole rows of a table."""
    found = params["dimension_numbers"]
    return (
        tuple(found.start_index_map) == (0,) == tuple(found.collapsed_slice_dims)
        and not getattr(found, "operand_batching_dims", ())
        and tuple(params["slice_sizes"]) == (1, *source.shape[1:])
        and tuple(found.offset_dims) == tuple(i + index.dim() - 1 for i in range(source.dim() - 1))
        and bool(((index >= 0) & (index < len(source))).all())
    )


def _updated(inputs: list[Tensor]) -> Any:
    source, part, *starts = inputs
    sizes = zip(starts, source.shape, part.shape, strict=True)
    at = [min(max(int(start), 0), whole - size) for start, whole, size in sizes]
    inside = tuple(slice(a, a + size) for a, size in zip(at, part.shape, strict=True))

    def call(source: Tensor, part: Tensor) -> Tensor:
        found = source.clone()
        found[inside] = part
        return found

    return _operation("slice_scatter", call, source, part)


_SEEN = torch.empty(0)


def _operation(name: str, function: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    """Call a function as one operation of torch, which a recorder sees under a name."""

    def call(*inputs: Any, **named: Any) -> Any:
        return function(*inputs, **named)

    call.__name__ = name
    if not has_torch_function((_SEEN,)):
        return call(*inputs, **named)
    return handle_torch_function(call, (), *inputs, **named)


def _refusal(name: str, place: Place | None) -> str:
    where = f" ({Path(place.file).name}:{place.line})" if place else ""
    return f"the operation {name} of JAX{where} cannot be replayed"


# The jaxpr as a flat list.


def _flat(
    jaxpr: Any, inputs: Sequence[Any], place: Place | None
) -> tuple[list[_Equation], dict[int, Any], list[int]]:
    """Return all equations, what the first numbers stand for, and the numbers of the outputs."""
    numbers, equations, values = count(), list[_Equation](), dict[int, Any]()

    def new(value: Any = None) -> int:
        number = next(numbers)
        if value is not None:
            values[number] = value
        return number

    def inline(jaxpr: Any, given: list[int], outer: Place | None, *, is_own: bool) -> list[int]:
        names = dict(zip([*jaxpr.constvars, *jaxpr.invars], given, strict=True))

        def number(atom: Any) -> int:
            return new(_array(atom)) if hasattr(atom, "val") else names[atom]

        for equation in jaxpr.eqns:
            name, params = equation.primitive.name, equation.params
            place = (_place(equation) if is_own else None) or outer
            inputs = [number(atom) for atom in equation.invars]
            inner = next((params[k] for k in _INNER if k in params), None)
            if name in _CALLS and inner is not None:
                closed, consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
                is_library = _is_of_a_library(closed)
                if not (is_library and params.get("name") in _DRAWS):
                    given = [*(new(c) for c in consts), *inputs]
                    outputs = inline(closed, given, place, is_own=is_own and not is_library)
                    names.update(zip(equation.outvars, outputs, strict=True))
                    continue
                name = params["name"]
            outputs = [new() for _ in equation.outvars]
            names.update(zip(equation.outvars, outputs, strict=True))
            equations.append(_Equation(name, equation, inputs, outputs, place))
        return [number(atom) for atom in jaxpr.outvars]

    outputs = inline(jaxpr, [new(value) for value in inputs], place, is_own=True)
    return equations, values, outputs


_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def _array(literal: Any) -> Any:
    return np.asarray(literal.val, dtype=literal.aval.dtype)


def _is_of_a_library(jaxpr: Any) -> bool:
    """Whether a function is JAX's own: it is traced once, so its lines are those of one call."""
    source = str(getattr(jaxpr.debug_info, "func_src_info", "")).partition(" at ")[2]
    return bool(_OF_JAX.search(source))


def _place(equation: Any) -> Place | None:
    """Return the line of the user's own source that an equation is from."""
    traceback = equation.source_info.traceback
    for frame in traceback.frames if traceback else ():
        if frame.file_name.startswith(_KIT):
            return None
        if not _LIBRARY.search(frame.file_name):
            return Place(frame.file_name, frame.line_num)
    return None
