"""Record what a step computes, call by call, above autograd.

Every call of a function of torch goes through `Recorder`, in the order in which the step makes
them, with the grad mode, the precision and the source line of that moment. Composite functions,
such as ``linear`` and ``cross_entropy``, are one operation.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch import apis
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from vae_ref.conformance.auditing.graph import Graph, Operation, Place, Ref, Value, mapped

__all__ = ["Recorder", "placed", "recording", "suspended"]

_FRAMEWORKS = ("keras", "lightning", "pyro", "pytorch_lightning")
_OWN = (
    str(Path(torch.__file__).parent),
    *(f"{Path(torch.__file__).parents[1] / name}/" for name in _FRAMEWORKS),
    str(Path(__file__).parent),
    "<",
    str(Path(contextlib.__file__)),
)

"""Whose lines nobody wants to see: the place of a call is where a user's file makes it."""

_apis: Any = apis  # what it has is not exported

LAWS = {
    "randn": "normal",
    "randn_like": "normal",
    "normal": "normal",
    "normal_": "normal",
    "rand": "uniform",
    "rand_like": "uniform",
    "uniform_": "uniform",
    "bernoulli": "Bernoulli",
    "bernoulli_": "Bernoulli",
    "exponential_": "exponential",
    "multinomial": "categorical",
    "randint": "uniform integers",
    "randint_like": "uniform integers",
    "random_": "uniform integers",
    "randperm": "permutation",
    "poisson": "Poisson",
    "cauchy_": "Cauchy",
    "log_normal_": "log-normal",
    "geometric_": "geometric",
    "_standard_gamma": "gamma",
    "_sample_dirichlet": "Dirichlet",
    "gumbel_softmax": "Gumbel",
    "gumbel": "Gumbel",
    "exponential": "exponential",
}
DROPOUT = {
    "dropout",
    "dropout_",
    "alpha_dropout",
    "feature_dropout",
    "feature_alpha_dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "rrelu",
}


_VIEWS = {"T", "mT", "H", "mH", "data", "real", "imag"}
"""The attributes that are tensors."""

_UNSEEN = {
    *("backward", "__set__", "requires_grad_", "register_hook", "retain_grad", "__repr__"),
}
"""The calls that compute nothing of the step."""


class Recorder(TorchFunctionMode):
    """Records while it is entered and active; `graph` is what it has recorded.

    Attributes:
        suspended: Whether an audit is at work, which no recorder is to record.
    """

    suspended = False

    def __init__(self) -> None:
        super().__init__()
        self.active = True
        self._mapped: list[Tensor] | None = None  # what the function that vmap maps is given
        self.on_backward: Callable[[Tensor], None] | None = None
        self.restart()

    def restart(self) -> None:
        """Forget what was recorded."""
        self.graph = Graph()
        self._known = WeakIdKeyDictionary()  # tensor -> the number of its value
        self._kept: list[Tensor] = []  # so that none is freed, and its id used again
        self._by_storage: dict[int, list[Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch, and record the call."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", name)
            if name not in _VIEWS:
                return func(*args, **kwargs)
        if Recorder.suspended:
            return func(*args, **kwargs)
        if self.active and name == "backward" and self.on_backward is not None:
            self.on_backward(args[0])
        if not self.active or name in _UNSEEN:
            return func(*args, **kwargs)
        tensors = list(_tensors((args, kwargs)))
        if self._is_transformed(tensors):
            return func(*args, **kwargs)
        if tensors and _is_initialised(tensors[0], name):
            self._known.pop(tensors[0], None)
            return func(*args, **kwargs)
        return self._record(name, func, args, kwargs, tensors)

    def _is_transformed(self, tensors: list[Tensor]) -> bool:
        """Whether a transform of torch.func makes a call, of which only vmap can be replayed."""
        if self._mapped is not None:
            self._require_given(tensors)
            return True
        is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
        if not any(map(is_wrapped, tensors)):
            return False
        self.graph.opaque = "a transform of torch.func, such as grad, cannot be replayed"
        return True

    def _record(
        self,
        name: str,
        func: Callable[..., Any],
        args: Any,
        kwargs: Any,
        tensors: list[Tensor],
    ) -> Any:
        before = [0 if tensor.is_inference() else tensor._version for tensor in tensors]
        inputs = [self._value(tensor) for tensor in tensors]
        numbers = iter(inputs)
        operation = Operation(
            index=len(self.graph.operations),
            name=name,
            call=func,
            arguments=mapped(
                (args, kwargs),
                lambda x: Ref(next(numbers)) if isinstance(x, Tensor) else self._own(x),
            ),
            inputs=tuple(inputs),
            grad=torch.is_grad_enabled(),
            autocast=_autocast_dtype(),
        )
        if _is_in_place(name):
            for number in inputs:
                self._keep_content(number)
        answer = func(*args, **kwargs)
        for path, tensor in _paths(answer):
            if not any(tensor is given for given in tensors):
                operation.results[path] = self._number(tensor, operation)
        for tensor, number, version in zip(tensors, inputs, before, strict=True):
            if not tensor.is_inference() and tensor._version != version:
                self._changed(tensor, number, operation)
        if not operation.outputs:
            return answer
        operation.law = self._law(name, args, kwargs)
        operation.place = _place()
        if operation.law:
            made = set(operation.outputs)
            for tensor in [*_tensors(answer), *tensors]:
                number = self._known.get(tensor)
                if number in made:
                    operation.drawn[number] = self._drawn(operation, tensor)
        self.graph.operations.append(operation)
        return answer

    def _own(self, argument: Any) -> Any:
        """Return an argument; for a generator of random numbers one that draws the same ones."""
        if not isinstance(argument, torch.Generator):
            return argument
        known = self.graph.generators
        if argument not in known:
            known[argument] = torch.Generator(argument.device).set_state(argument.get_state())
        return known[argument]

    def record_vmap(self, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a function that vmap maps over a batch, and record that as one operation."""
        if Recorder.suspended or not self.active or self._mapped is not None:
            return call(*args, **kwargs)

        def vmap(*args: Any, **kwargs: Any) -> Any:
            before, self._mapped = self._mapped, list(_tensors((args, kwargs)))
            try:
                return call(*args, **kwargs)
            finally:
                self._mapped = before

        return self._record("vmap", vmap, args, kwargs, list(_tensors((args, kwargs))))

    def _require_given(self, tensors: list[Tensor]) -> None:
        """Note what a mapped function takes beside its arguments: a replay cannot replace it."""
        for tensor in tensors:
            is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
            is_given = is_wrapped or any(tensor is given for given in self._mapped or ())
            if not is_given and (tensor.requires_grad or tensor in self._known):
                self.graph.opaque = "vmap maps a function that takes tensors beside its arguments"

    def loss(self) -> Tensor | None:
        """Return the last scalar that could be differentiated."""
        return next((t for t in reversed(self._kept) if t.numel() == 1 and t.grad_fn), None)

    def _drawn(self, operation: Operation, result: Tensor) -> Tensor:
        """Return what a random operation drew: of dropout, the factors."""
        if operation.law != "dropout":
            return result.detach().clone()
        args, kwargs = operation.arguments
        p = float(kwargs.get("p", args[1] if len(args) > 1 else 0.5))
        return (result.detach() != 0).to(result.dtype) / max(1 - p, 1e-12)

    def number_of(self, tensor: Tensor) -> int | None:
        """Return the number of the value that a tensor holds now."""
        found = self._known.get(tensor)
        return None if found is None else int(found)

    def _value(self, tensor: Tensor) -> int:
        number = self._known.get(tensor)
        if number is None:
            if tensor.grad_fn is not None:
                self.graph.obstacles.append(
                    (
                        f"a tensor of shape {tuple(tensor.shape)} was computed out of sight",
                        _place(),
                    )
                )
            number = self._number(tensor, None, external=tensor, parameter=_is_parameter(tensor))
        return int(number)

    def _number(self, tensor: Tensor, maker: Operation | None, **rest: Any) -> int:
        number = len(self.graph.values)
        self.graph.values.append(Value(number, maker, tuple(tensor.shape), tensor.dtype, **rest))
        self._known[tensor] = number
        self._kept.append(tensor)
        if (storage := _storage(tensor)) is not None:
            self._by_storage.setdefault(storage, []).append(tensor)
        return number

    def _changed(self, tensor: Tensor, number: int, operation: Operation) -> None:
        """Give every tensor that shares the changed memory a new value."""
        storage = _storage(tensor)
        sharing = self._by_storage.get(storage, [tensor]) if storage is not None else [tensor]
        for other in list(dict.fromkeys(map(_Same, sharing))):
            old = self._known.get(other.tensor)
            if old is None or old in operation.changed.values() or old in operation.changed:
                continue
            new = len(self.graph.values)
            self.graph.values.append(
                Value(new, operation, tuple(other.tensor.shape), other.tensor.dtype, alias_of=old)
            )
            self._known[other.tensor] = new
            operation.changed[old] = new

    def _keep_content(self, number: int) -> None:
        """Copy an external tensor that is about to be changed."""
        value = self.graph.values[number]
        if value.external is not None and not value.parameter:
            value.external = value.external.detach().clone()

    def _law(self, name: str, args: Any, kwargs: Any) -> str:
        if name in DROPOUT:
            training = kwargs.get("training", args[2] if len(args) > 2 else True)
            return "dropout" if training else ""
        return LAWS.get(name, "")


class _Same:
    """A tensor, equal to itself alone."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __hash__(self) -> int:
        return id(self.tensor)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.tensor is self.tensor


def _is_initialised(tensor: Tensor, name: str) -> bool:
    """Whether a call only sets a parameter, as its initialisation does: that is no computation."""
    return _is_in_place(name) and isinstance(tensor, nn.Parameter)  # without a gradient


def _is_in_place(name: str) -> bool:
    """Whether a function changes its first argument: ``add_``, but not ``__getitem__``."""
    is_method = name.endswith("_") and not name.endswith("__")
    return is_method or name == "__setitem__" or name.startswith("__i")


def _is_parameter(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter) or (tensor.is_leaf and tensor.requires_grad)


def _storage(tensor: Tensor) -> int | None:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):
        return None


def _autocast_dtype() -> torch.dtype | None:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None


_placed: ContextVar[Place | None] = ContextVar("_placed", default=None)


@contextlib.contextmanager
def placed(place: Place | None) -> Iterator[None]:
    """Let a line be the place of what is called in the block, which is evaluated for it."""
    token = _placed.set(place)
    try:
        yield
    finally:
        _placed.reset(token)


def _place() -> Place | None:
    if (place := _placed.get()) is not None:
        return place
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_OWN):
            return Place(name, frame.f_lineno)
        frame = frame.f_back
    return None


def _tensors(tree: Any) -> Iterator[Tensor]:
    for _, tensor in _paths(tree):
        yield tensor


def _paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    if isinstance(tree, Tensor):
        yield path, tree
    elif isinstance(tree, tuple | list):
        for index, item in enumerate(tree):
            yield from _paths(item, (*path, index))
    elif isinstance(tree, dict):
        for key, item in tree.items():
            yield from _paths(item, (*path, key))


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """Have no recorder record the block."""
    before, Recorder.suspended = Recorder.suspended, True
    try:
        yield
    finally:
        Recorder.suspended = before


@contextlib.contextmanager
def _as_written() -> Iterator[None]:
    """Let what torch compiles run as it was written, without importing its compiler for that."""
    compile_, with_stance = torch.compile, contextlib.ExitStack()

    def compiling(*args: Any, **kwargs: Any) -> Any:
        with_stance.enter_context(torch.compiler.set_stance("force_eager"))
        return compile_(*args, **kwargs)

    with with_stance:
        if "torch._dynamo" in sys.modules:
            with_stance.enter_context(torch.compiler.set_stance("force_eager"))
        torch.compile = compiling
        try:
            yield
        finally:
            torch.compile = compile_


@contextlib.contextmanager
def recording() -> Iterator[Recorder]:
    """Record the calls of the block; compiled functions run as they were written."""
    recorder = Recorder()
    apply = torch.autograd.Function.__dict__["apply"]

    def recorded(cls: Any, *args: Any, **kwargs: Any) -> Any:
        def call(*a: Any, **k: Any) -> Any:
            with torch._C.DisableTorchFunction():
                return apply.__get__(None, cls)(*a, **k)

        call.__name__ = cls.__name__
        return recorder.__torch_function__(call, (), args, kwargs)

    vmap_impl = _apis.vmap_impl

    def in_one(*settings_and_arguments: Any, **kwargs: Any) -> Any:
        settings, arguments = settings_and_arguments[:5], settings_and_arguments[5:]
        return recorder.record_vmap(partial(vmap_impl, *settings), arguments, kwargs)

    torch.autograd.Function.apply = classmethod(recorded)
    _apis.vmap_impl = in_one
    try:
        with _as_written(), recorder:
            yield recorder
    finally:
        torch.autograd.Function.apply = apply
        _apis.vmap_impl = vmap_impl
