"""One execution of a step as a graph: what was computed from what, and a replay with changes.

A `Value` is a tensor at one moment: what an operation returned, or what a tensor holds after an
operation has changed it in place. Values that no recorded operation made are external: weights,
data, constants. A replay runs the recorded operations again, in their order, with some values
replaced by others, and with the noise that was drawn or with fresh noise.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["REFUSED", "Graph", "Operation", "Place", "Ref", "Value", "at", "mapped"]


REFUSED = (RuntimeError, ValueError, IndexError)
"""What a replay raises with numbers that an operation does not take."""


@dataclass(frozen=True)
class Place:
    """A line of the subject's own source."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def at(place: Place | None) -> str:
    """Return a line of the source, as text."""
    return f"{Path(place.file).name}:{place.line}" if place else "no source"


@dataclass(frozen=True)
class Ref:
    """Stands for a value among the arguments of an operation."""

    value: int


@dataclass
class Value:
    """A tensor at one moment.

    Attributes:
        index: Its number.
        maker: The operation that made it; None if it is external.
        shape: Its shape.
        external: The tensor itself, if it is external.
        name: What it is called, if anything calls it.
        alias_of: The value that this one was before it was changed in place.
    """

    index: int
    maker: "Operation | None"
    shape: tuple[int, ...]
    dtype: torch.dtype
    external: Tensor | None = None
    name: str = ""
    alias_of: int | None = None
    parameter: bool = False

    @property
    def numel(self) -> int:
        """How many numbers it has."""
        return torch.Size(self.shape).numel()

    @property
    def is_one_number(self) -> bool:
        """Whether it is a constant that was repeated, as JAX does for a number beside an array."""
        numbers = None if self.parameter else self.external
        return numbers is not None and bool((numbers == numbers.flatten()[:1]).all())


@dataclass
class Operation:
    """A call of a function of torch.

    Attributes:
        index: Its place in the order of execution.
        name: The name of the function, such as ``linear``.
        call: The function.
        arguments: Its positional and keyword arguments, with `Ref` for tensors.
        inputs: The values among them.
        results: Where the values are in what was returned.
        changed: The values that are new because a tensor was changed in place, by their old ones.
        place: The line that called it.
        grad: Whether gradients were recorded.
        autocast: The precision of autocast on the CPU, if it was on.
        drawn: What a random operation drew: its results, or the factors of dropout.
        law: The distribution of a random operation.
    """

    index: int
    name: str
    call: Callable[..., Any]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    inputs: tuple[int, ...]
    results: dict[tuple[Any, ...], int] = field(default_factory=dict)
    changed: dict[int, int] = field(default_factory=dict)
    place: Place | None = None
    grad: bool = True
    autocast: torch.dtype | None = None
    law: str = ""
    drawn: dict[int, Tensor] = field(default_factory=dict)

    def bound(self, tensor: Callable[[int], Tensor]) -> tuple[Any, Any]:
        """Return the arguments with a tensor for every `Ref`."""
        args, kwargs = self.arguments
        if self._is_flat:
            return (
                [tensor(a.value) if type(a) is Ref else a for a in args],
                {k: tensor(a.value) if type(a) is Ref else a for k, a in kwargs.items()},
            )
        whole: tuple[Any, Any] = mapped(
            self.arguments, lambda item: tensor(item.value) if isinstance(item, Ref) else item
        )
        return whole

    @cached_property
    def _is_flat(self) -> bool:
        """Whether no `Ref` is inside of another argument."""
        args, kwargs = self.arguments
        nested = (tuple, list, dict, slice)
        return not any(isinstance(item, nested) for item in (*args, *kwargs.values()))

    @property
    def reads(self) -> tuple[int, ...]:
        """The inputs whose numbers matter, not their shape alone."""
        return () if self.name in _SHAPE_ONLY else self.inputs

    @property
    def outputs(self) -> tuple[int, ...]:
        """All values that the operation made."""
        return (*self.results.values(), *self.changed.values())


_DRAWS = {
    "randn": torch.randn,
    "randn_like": torch.randn,
    "rand": torch.rand,
    "rand_like": torch.rand,
}
"""The operations of which many draws are one draw of more numbers."""

_PRECISIONS = {"float", "half", "bfloat16"}
_SHAPE_ONLY = {
    *("randn_like", "rand_like", "randint_like", "zeros_like", "ones_like", "empty_like"),
    *("full_like", "normal_", "uniform_", "exponential_", "cauchy_", "log_normal_", "zero_"),
    *("fill_", "random_", "geometric_", "new_zeros", "new_ones", "new_empty", "new_full"),
}


@dataclass
class Graph:
    """The recorded operations of one execution of a step.

    Attributes:
        values: All values, by their numbers.
        operations: All operations, in their order.
        loss: The number of the value that the step returned.
        precision: The default precision of a replay, if it is not that of the moment.
        uniform: What is computed from inputs alone that have been made uniform.
        _live: Parameters that are taken as they are at the moment, such as a learned scale.
        obstacles: Why a replay may not be faithful, by the place where it is.
        opaque: Why no replay can be faithful; empty if one can.
        generators: The generators of the step, with those that a replay draws from.
    """

    values: list[Value] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    loss: int = -1
    obstacles: list[tuple[str, Place | None]] = field(default_factory=list)
    precision: torch.dtype | None = None
    opaque: str = ""
    generators: dict[torch.Generator, torch.Generator] = field(default_factory=dict)
    uniform: frozenset[int] = frozenset()
    _live: set[int] = field(default_factory=set)
    _chosen: dict[tuple[Any, ...], list[Operation]] = field(default_factory=dict)

    def inputs(self, value: int) -> tuple[int, ...]:
        """Return the values that a value was computed from."""
        maker = self.values[value].maker
        return maker.reads if maker else ()

    def users(self) -> dict[int, list[Operation]]:
        """Return the operations that use each value."""
        found: dict[int, list[Operation]] = {}
        for operation in self.operations:
            for value in dict.fromkeys(operation.reads):
                found.setdefault(value, []).append(operation)
        return found

    def descendants(
        self, values: Iterable[int], *, through: Callable[[Operation], bool] = lambda _: True
    ) -> set[int]:
        """Return what is computed from values, they included, by the operations that count."""
        found = set(values)
        for operation in self.operations:
            if not found.isdisjoint(operation.reads) and through(operation):
                found.update(operation.outputs)
        return found

    def ancestors(
        self, values: Iterable[int], *, through: Callable[[Operation], bool] = lambda _: True
    ) -> set[int]:
        """Return what values are computed from, they included, by the operations that count."""
        found = set(values)
        for operation in reversed(self.operations):
            if not found.isdisjoint(operation.outputs) and through(operation):
                found.update(operation.reads)
        return found

    def replay(
        self,
        targets: Iterable[int],
        given: Mapping[int, Tensor] | None = None,
        *,
        fresh: bool = False,
        evaluating: bool = False,
    ) -> list[Tensor]:
        """Compute values again.

        Args:
            targets: The values to return.
            given: Values that are replaced.
            fresh: Whether random operations draw again.
            evaluating: Whether dropout is off, and batch norm takes its running statistics.
        """
        targets, given = list(targets), dict(given or {})
        key = tuple(targets), tuple(given)
        if key not in self._chosen:
            self._chosen[key] = self._needed(targets, given)
        needed, mutated = self._chosen[key], self._mutated
        memory: dict[int, Tensor] = {}

        def put(value: int, tensor: Tensor) -> Tensor:
            """Remember a value; one that will be changed in place is copied."""
            memory[value] = tensor.clone() if value in mutated else tensor
            return memory[value]

        def tensor(value: int) -> Tensor:
            if value not in memory:
                external = given.get(value, self.values[value].external)
                if external is None:
                    raise KeyError(value)
                if external.dtype is torch.float32 and value in self._live:
                    external = external.double()
                put(value, external)
            return memory[value]

        default = torch.get_default_dtype()
        torch.set_default_dtype(self.precision or default)
        try:
            for operation in needed:
                self._run(
                    operation, tensor, put, memory, given, fresh=fresh, evaluating=evaluating
                )
        finally:
            torch.set_default_dtype(default)
        return [tensor(value) for value in targets]

    def shaped(self, value: int, numbers: Tensor) -> Tensor:
        """Return numbers in the shape and precision of a value."""
        found = self.values[value]
        return numbers.to(found.dtype).reshape(found.shape)

    def made_uniform(self, inputs: Iterable[int], *, at_one: bool) -> "Graph":
        """Return the same graph with inputs that are 1, or their largest number, everywhere."""
        values, uniform = [replace(v) for v in self.values], set(inputs)
        for value in uniform:
            external = values[value].external
            assert external is not None  # noqa: S101 - it is an input
            values[value].external = torch.full_like(
                external, 1 if at_one else external.max().item()
            )
        for operation in self.operations:
            if operation.reads and not operation.law and uniform.issuperset(operation.reads):
                uniform.update(operation.outputs)
        other = replace(self, values=values, uniform=frozenset(uniform), _chosen={})
        with torch.no_grad():
            (values[self.loss].external,) = other.replay([self.loss])
        return other

    def doubled(self) -> "Graph":
        """Return the same graph on values in double precision."""

        def double(tensor: Tensor) -> Tensor:
            low = tensor.dtype in (torch.float32, torch.float16, torch.bfloat16)
            return tensor.detach().double() if low else tensor

        live = {v.index for v in self.values if v.parameter and v.numel == 1}
        values = [
            replace(
                value,
                external=(
                    value.external
                    if value.external is None or value.index in live
                    else double(value.external)
                ),
                dtype=torch.float64 if value.dtype.is_floating_point else value.dtype,
            )
            for value in self.values
        ]
        operations = []
        for operation in self.operations:
            drawn = {value: double(tensor) for value, tensor in operation.drawn.items()}
            operations.append(
                replace(
                    operation,
                    drawn=drawn,
                    call=Tensor.double if operation.name in _PRECISIONS else operation.call,
                    autocast=None,
                    arguments=_doubled(operation.arguments),
                )
            )
        by_index = {operation.index: operation for operation in operations}
        for value in values:
            if value.maker is not None:
                value.maker = by_index[value.maker.index]
        return Graph(
            values,
            operations,
            self.loss,
            self.obstacles,
            torch.float64,
            _live=live,
            generators=self.generators,
            uniform=self.uniform,
        )

    def draw(self, value: int, times: int) -> Tensor:
        """Return many fresh draws of a random value, stacked."""
        operation = self.values[value].maker
        assert operation is not None  # noqa: S101 - it is random
        found = self.values[value]
        if operation.name in _DRAWS:
            generator = operation.arguments[1].get("generator")
            return _DRAWS[operation.name](
                times, *found.shape, dtype=found.dtype, generator=generator
            )
        before = {n: self.replay([n])[0].detach() for n in operation.inputs}
        key = next((path for path, v in operation.results.items() if v == value), None)
        old = next((o for o, new in operation.changed.items() if new == value), None)
        draws = []
        with torch.no_grad():
            for _ in range(times):
                fresh = {n: t.clone() for n, t in before.items()} if old is not None else before
                args, kwargs = operation.bound(fresh.__getitem__)
                answer = operation.call(*args, **kwargs)
                for part in key or ():
                    answer = answer[part]
                draws.append(answer if old is None else fresh[old])
        return torch.stack(draws).to(found.dtype)

    def _run(
        self,
        operation: Operation,
        tensor: Callable[[int], Tensor],
        put: Callable[[int, Tensor], Tensor],
        memory: dict[int, Tensor],
        given: Mapping[int, Tensor],
        *,
        fresh: bool,
        evaluating: bool,
    ) -> None:
        if evaluating and operation.law == "dropout":
            for value in operation.drawn:
                put(value, given.get(value, tensor(operation.inputs[0])))
            return
        if operation.law and not (fresh and operation.law != "dropout"):
            for value, drawn in operation.drawn.items():
                is_factor = operation.law == "dropout"
                found = tensor(operation.inputs[0]) * drawn if is_factor else drawn
                put(value, given.get(value, found))
            return
        args, kwargs = operation.bound(tensor)
        if evaluating and operation.name == "batch_norm" and isinstance(args[1], Tensor):
            kwargs = {**kwargs, "training": False}  # and it takes its running statistics
        if operation.grad and operation.autocast is None:
            answer = operation.call(*args, **kwargs)
        else:
            with (
                torch.set_grad_enabled(operation.grad and torch.is_grad_enabled()),
                _autocast(operation.autocast),
            ):
                answer = operation.call(*args, **kwargs)
        for path, value in operation.results.items():
            found = answer
            for key in path:
                found = found[key]
            memory[value] = put(value, given[value]) if value in given else found
        for old, new in operation.changed.items():
            if new in given:
                put(new, given[new])
            elif old in memory:
                memory[new] = memory[old]

    def _needed(self, targets: Iterable[int], given: Mapping[int, Tensor]) -> list[Operation]:
        wanted = set(targets) - given.keys()
        chosen = []
        for operation in reversed(self.operations):
            if not wanted.isdisjoint(operation.outputs):
                chosen.append(operation)
                wanted.update(set(operation.inputs) - given.keys())
        return chosen[::-1]

    @cached_property
    def _mutated(self) -> set[int]:
        """The external values that an operation changes in place: a replay changes copies."""
        return {old for operation in self.operations for old in operation.changed}


@contextlib.contextmanager
def _autocast(dtype: torch.dtype | None) -> Iterator[None]:
    if dtype is None:
        yield
        return
    with torch.autocast("cpu", dtype=dtype):
        yield


def mapped(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    """Apply a function to the leaves of tuples, lists, dicts and slices."""
    if isinstance(tree, tuple | list) and not isinstance(tree, torch.Size):
        items = [mapped(item, leaf) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    if isinstance(tree, dict):
        return {key: mapped(item, leaf) for key, item in tree.items()}
    if isinstance(tree, slice):
        return slice(*(mapped(item, leaf) for item in (tree.start, tree.stop, tree.step)))
    return leaf(tree)


def _doubled(arguments: Any) -> Any:
    """Replace a precision among arguments by double precision."""

    def double(item: Any) -> Any:
        is_precision = isinstance(item, torch.dtype) and item.is_floating_point
        return torch.float64 if is_precision else item

    return mapped(arguments, double)
