"""From a training step in JAX to the same in torch: trace it, find its weights, compare both.

The step is traced in double precision, if it takes it, so that its constants are exact. Weights
are the parameters of a module or of a state, or else the float arrays of a tree whose arrays are
not those of a batch; they may be arguments, or what the step reaches by name. The jaxpr has no
gradients of its own, so the value and the gradients of the evaluation by torch are compared with
those of JAX before anything is judged.
"""

import contextlib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_ref.conformance import guards
from vae_ref.conformance.auditing.jaxpr import JaxError, Step, is_key

__all__ = ["double_precision", "facts", "holds_weights", "in_torch", "is_jax", "reached"]

_LIBRARIES = {"jax", "jaxlib", "flax", "equinox", "optax", "haiku", "distrax", "numpyro"}
_SAME = 1e-6
"""By how much value and gradients may differ from those of JAX, relatively, in doubles."""

_SAME_SINGLE = 1e-3
"""The same where the step insists on a lower precision."""


def is_jax(step: Any, arguments: Sequence[Any] = ()) -> bool:
    """Whether a function computes by JAX: by what it is, is called with, or reaches by name."""
    if "jax" not in sys.modules:
        return False
    import jax

    if any(_library(leaf) in _LIBRARIES for leaf in jax.tree_util.tree_leaves(arguments)):
        return True
    found = {_library(step), *(_library(value) for value in reached(step))}
    return not found.isdisjoint(_LIBRARIES) and "torch" not in found


def _library(value: Any) -> str:
    """Return the library that a module, a function or an object is from."""
    if isinstance(value, ModuleType):
        return value.__name__.partition(".")[0]
    of_type = type(value).__module__.partition(".")[0]
    if of_type in _LIBRARIES or not callable(value):
        return of_type
    kinds = value.__mro__ if inspect.isclass(value) else (value,)
    names = [str(getattr(kind, "__module__", "")).partition(".")[0] for kind in kinds]
    return next((name for name in names if name in {*_LIBRARIES, "torch"}), names[0])


def reached(step: Any) -> list[Any]:
    """Return what a function reaches by name: globals and what it closes over, step by step."""
    found: dict[int, Any] = {}
    todo = [step]
    while todo:
        value = todo.pop()
        if isinstance(value, functools.partial):
            todo += [value.func, *value.args, *value.keywords.values()]
            continue
        if inspect.ismethod(value):
            todo += [value.__func__, value.__self__]
            continue
        function = inspect.unwrap(value) if callable(value) else value
        if id(function) in found:
            continue
        found[id(function)] = function
        if not inspect.isfunction(function) or _library(function) in {*_LIBRARIES, "torch"}:
            continue
        names = set(_names(function.__code__))
        todo += [v for n, v in function.__globals__.items() if n in names]
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # it is empty
                todo.append(cell.cell_contents)
    return list(found.values())


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _names(const)


@contextlib.contextmanager
def double_precision(on: bool = True) -> Iterator[None]:
    """Have JAX compute in double precision in the block."""
    import jax

    place = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
    with place.enable_x64(on):
        yield


def in_torch(step: Callable[..., Any], *arguments: Any) -> Callable[[], Tensor]:
    """Return the loss of a step of JAX, called with arguments, as a module of torch.

    Raises:
        JaxError: If an operation cannot be replayed, or if the two do not agree.
    """
    tree = _Tree(arguments)
    problem: Exception | None = None
    for double in (True, False):
        with double_precision(double):
            leaves = tree.arrays(double=double)
            try:
                closed, loss = _traced(step, tree, leaves)
            except Exception as error:
                problem = error
                continue
            weights = _weights(step, tree, closed)
            if not weights:
                raise JaxError(
                    "no loss was computed: no scalar that depends on parameters; hand over the "
                    "weights as one argument, such as params"
                )
            found = _InPrecision(closed, leaves, weights, loss, double=double)
            found.require_same()
            return found
    assert problem is not None  # noqa: S101 - or it was returned
    raise problem


class _InPrecision(Step):
    """A step that JAX traced in one precision, in which it computes what is known."""

    def __init__(
        self, closed: Any, leaves: list[Any], weights: dict[int, str], loss: int, *, double: bool
    ) -> None:
        super().__init__(closed, leaves, weights, loss)
        self._closed, self._leaves, self._which, self._double = closed, leaves, weights, double

    def forward(self) -> Tensor:
        """Return the loss."""
        with double_precision(self._double):
            return super().forward()

    def require_same(self) -> None:
        """Raise `JaxError` unless value and gradients are those of JAX."""
        loss = self()
        if loss.numel() != 1 or not loss.is_floating_point():
            return
        value, slopes = self._by_jax()
        same = _SAME if loss.dtype == torch.float64 else _SAME_SINGLE
        _require(loss.detach().numpy(), value, same, "the loss")
        if not loss.requires_grad:
            return
        parameters = dict(self.named_parameters())
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        size = max(float(np.abs(slope).max(initial=0.0)) for slope in slopes)
        for (name, parameter), ours, theirs in zip(parameters.items(), found, slopes, strict=True):
            slope = torch.zeros_like(parameter) if ours is None else ours
            what = f"the gradient of {name}, which may have a formula of its own (custom_vjp),"
            _require(slope.numpy(), theirs, same, what, size)

    def _by_jax(self) -> tuple[Any, list[Any]]:
        """Return value and gradients."""
        import jax
        from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

        everything = [*self._closed.consts, *self._leaves]
        places, consts = list(self._which), len(self._closed.consts)

        def value(weights: list[Any], others: list[Any]) -> Any:
            whole = list(others)
            for place, weight in zip(places, weights, strict=True):
                whole[place] = weight
            closed = ClosedJaxpr(self._closed.jaxpr, whole[:consts])
            return jaxpr_as_fun(closed)(*whole[consts:])[self._loss].reshape(())

        weights = [everything[place] for place in places]
        try:
            found, slopes = jax.jit(jax.value_and_grad(value))(weights, everything)
        except Exception as error:  # a loop without a fixed number of turns, say
            reason = guards.kind_and_message(error)
            raise JaxError(f"JAX does not differentiate the step ({reason}): not judged") from None
        return np.asarray(found), [np.asarray(slope) for slope in slopes]


def _require(ours: Any, theirs: Any, same: float, what: str, size: float = 0.0) -> None:
    ours, theirs = (np.asarray(v, dtype=np.float64).reshape(-1) for v in (ours, theirs))
    allowed = same * max(size, float(np.abs(theirs).max(initial=0.0)), 1e-30)
    if not np.allclose(ours, theirs, rtol=same, atol=allowed, equal_nan=True):
        worst = int(np.nanargmax(np.abs(ours - theirs)))
        raise JaxError(
            f"{what} is {theirs[worst]:g} by JAX, but {ours[worst]:g} by its operations: "
            "not judged"
        )


class _Tree:
    """The arguments of a step as a list of arrays, and back.

    Attributes:
        paths: Where in the arguments each array is: the number of the argument, and the names.
        leaves: The arrays.
        parameters: Which of them a module of Flax calls its parameters.
    """

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        import jax

        self._nnx: Any = sys.modules.get("flax.nnx")
        self._graph: Any = None
        self.arguments, tree = arguments, arguments
        if self._nnx is not None and any(self._is_node(a) for a in self._nodes(arguments)):
            self._graph, parameters, rest = self._nnx.split(arguments, self._nnx.Param, ...)
            tree = parameters, rest
        flat, self._structure = jax.tree_util.tree_flatten_with_path(tree)
        self._all = [leaf for _, leaf in flat]
        self._places = [i for i, leaf in enumerate(self._all) if _is_array(leaf)]
        paths = [tuple(map(_key, path)) for path, _ in flat]
        self.leaves = [self._all[i] for i in self._places]
        self.parameters: set[int] = set()
        if self._graph is not None:
            self.parameters = {n for n, i in enumerate(self._places) if paths[i][0] == 0}
            paths = [path[1:] for path in paths]
        self.paths = [paths[i] for i in self._places]

    def _is_node(self, value: Any) -> bool:
        kinds = [getattr(self._nnx, n, None) for n in ("Pytree", "Module", "Optimizer", "Rngs")]
        return isinstance(value, tuple(kind for kind in kinds if kind is not None))

    def _nodes(self, arguments: Any) -> list[Any]:
        import jax

        return jax.tree_util.tree_leaves(arguments, is_leaf=self._is_node)

    def arrays(self, *, double: bool) -> list[Any]:
        """Return the arrays as those of JAX, single precision doubled if that is asked for."""
        import jax

        found = []
        for leaf in self.leaves:
            array = leaf.detach().cpu().numpy() if isinstance(leaf, Tensor) else leaf
            is_single = str(array.dtype) == "float32"
            if double and is_single:
                array = np.asarray(array, dtype=np.float64)
            found.append(jax.numpy.asarray(array))
        return found

    def back(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Return the arguments with other arrays."""
        import jax

        whole = list(self._all)
        for place, array in zip(self._places, arrays, strict=True):
            whole[place] = array
        tree = jax.tree_util.tree_unflatten(self._structure, whole)
        return tuple(tree if self._graph is None else self._nnx.merge(self._graph, *tree))

    def weights(self) -> set[int]:
        """Return which arrays are weights."""
        if self.parameters:
            return self.parameters
        found: set[int] = set()
        for number, argument in enumerate(self.arguments):
            mine = [i for i, path in enumerate(self.paths) if path[0] == number]
            floats = [i for i in mine if _is_float(self.leaves[i])]
            named = [i for i in floats if len(self.paths[i]) > 1 and self.paths[i][1] == "params"]
            if named or holds_weights(argument, [self.leaves[i] for i in floats]):
                found.update(named or floats)
        return found


def _key(entry: Any) -> Any:
    """Return the name, the number or the key of a step on the path to an array."""
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return getattr(entry, attribute)
    return str(entry)


def _is_array(value: Any) -> bool:
    import jax

    return isinstance(value, jax.Array | np.ndarray | np.generic | Tensor)


def _is_float(value: Any) -> bool:
    return str(value.dtype).removeprefix("torch.").startswith(("float", "bfloat"))


def holds_weights(tree: Any, arrays: Sequence[Any] | None = None) -> bool:
    """Whether the arrays of a tree are weights: those of a batch have a first axis in common.

    Args:
        tree: A tree; what is an array itself is none.
        arrays: Its arrays of floats, if they are known.
    """
    if arrays is None:
        import jax

        leaves = jax.tree_util.tree_leaves(tree)
        arrays = [leaf for leaf in leaves if _is_array(leaf) and _is_float(leaf)]
    if _is_array(tree) or not arrays:
        return False
    if any(kind.__module__.partition(".")[0] in _LIBRARIES for kind in type(tree).__mro__):
        return True
    return len({np.shape(array)[:1] for array in arrays} - {()}) > 1


def _weights(step: Any, tree: _Tree, closed: Any) -> dict[int, str]:
    """Return which constants and arguments of a jaxpr are weights, with their names."""
    import jax

    consts = len(closed.consts)
    found = {
        consts + i: "/".join(str(key) for key in tree.paths[i][1:] if key != "value")
        for i in sorted(tree.weights())
    }
    if found:
        return found
    named: dict[int, str] = {}
    for value in reached(step):
        flat = jax.tree_util.tree_flatten_with_path(value)[0]
        arrays = [(path, leaf) for path, leaf in flat if _is_array(leaf) and _is_float(leaf)]
        if holds_weights(value, [leaf for _, leaf in arrays]):
            for path, leaf in arrays:
                named[id(leaf)] = "/".join(str(_key(k)) for k in path if str(_key(k)) != "value")
    return {i: named[id(c)] for i, c in enumerate(closed.consts) if id(c) in named}


def _traced(step: Callable[..., Any], tree: _Tree, leaves: list[Any]) -> tuple[Any, int]:
    """Return the jaxpr of a step, and which of its outputs is the loss."""
    import jax

    def call(*arrays: Any) -> Any:
        return step(*tree.back(arrays))

    with guards.quiet():
        closed, shapes = jax.make_jaxpr(call, return_shape=True)(*leaves)
    flat, _ = jax.tree_util.tree_flatten_with_path(shapes)
    ranked = [
        (*_rank(tuple(map(_key, path)), leaf), number) for number, (path, leaf) in enumerate(flat)
    ]
    if not ranked or not _is_float(flat[min(ranked)[-1]][1]):
        raise JaxError("no loss was computed: no scalar that depends on parameters")
    return closed, min(ranked)[-1]


_NAMED = ("loss", "total_loss", "total")


def _rank(path: tuple[Any, ...], leaf: Any) -> tuple[bool, bool, int, int]:
    """Return how little an output looks like the loss."""
    names = [_NAMED.index(key) for key in path if key in _NAMED]
    return not _is_float(leaf), leaf.shape != (), min(names, default=len(_NAMED)), len(path)


def facts(arguments: Sequence[Any]) -> dict[str, str]:
    """Say what cannot be seen of a loop from a step in JAX."""
    import jax

    if any(is_key(leaf) for leaf in jax.tree_util.tree_leaves(arguments)):
        return {"key": "an argument of the step: whether the loop splits it is not judged"}
    return {}
