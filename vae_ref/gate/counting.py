"""Count exactly what one call does: the same on every run, however busy the machine is.

A worker loads this file by its path, so it imports nothing of the gate.
"""

import gc
import re
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

#: Operations whose result is read by the host, or decides the size of what follows.
WAITS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2"}
#: Methods that read a tensor without an operation, if it is in the memory of the host.
READS = {"tolist", "numpy", "__array__"}
LAUNCHES = re.compile(r"cu(da)?(Launch(Cooperative)?Kernel|GraphLaunch)")


def count(call: Callable[[], object]) -> dict[str, int]:
    """Count a call. It is made once for every kind of measurement, and should be warmed up."""
    gc.collect()
    gc.disable()  # garbage in cycles always lives until the end
    try:
        with _Reads() as reads, _Operations() as seen:
            call()
        counts = {
            "operations": seen.operations,
            "flops": seen.flops,
            "bytes": seen.bytes,
            "peak_bytes": seen.peak,
            "synchronisations": seen.waits + reads.reads,
        }
    finally:
        gc.enable()
    counts |= _saved(call)
    if torch.cuda.is_initialized():
        counts["kernel_launches"] = _launches(call)
    return counts


class _Operations(TorchDispatchMode):
    """Sees every operation below autograd, including those of the backward pass."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = self.flops = self.bytes = self.waits = 0
        self.live = self.peak = 0
        self.storages: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func.overloadpacket)
        if formula is None:  # in inference mode, linear is not decomposed
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        inputs, outputs = _tensors((args, kwargs)), _tensors(out)
        name = func.overloadpacket.__name__
        self.operations += 1
        self.flops += formula(*args, **kwargs, out_val=out) if formula else 0
        self.bytes += _traffic(func._schema, args, kwargs, inputs, outputs)
        self.waits += name in WAITS or _waits(name, inputs, outputs)
        for tensor in inputs:
            self._track(tensor.untyped_storage(), 0)  # older than the call, or counted already
        for tensor in outputs:
            self._track(tensor.untyped_storage(), tensor.untyped_storage().nbytes())
        return out

    def _track(self, storage: torch.UntypedStorage, size: int) -> None:
        """Count a storage from the operation that first returns it until nothing refers to it."""
        key = storage._cdata
        if key in self.storages:
            return

        def freed(_: object) -> None:
            self.live -= size
            del self.storages[key]

        self.storages[key] = weakref.ref(storage, freed)
        self.live += size
        self.peak = max(self.peak, self.live)


class _Reads(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.reads += getattr(func, "__name__", "") in READS and args[0].device.type == "cpu"
        return func(*args, **(kwargs or {}))


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _waits(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Say whether these arguments make an operation wait for the device."""
    if name in ("index", "index_put_"):  # the elements of a mask must be counted
        return any(tensor.dtype is torch.bool for tensor in inputs[1:])
    if name in ("_to_copy", "copy_"):
        from_device = any(tensor.device.type != "cpu" for tensor in inputs)
        return from_device and any(tensor.device.type == "cpu" for tensor in outputs)
    return False


def _traffic(
    schema: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    inputs: list[Tensor],
    outputs: list[Tensor],
) -> int:
    """Add up what an operation reads and writes; a view does neither."""
    known = {tensor.untyped_storage()._cdata for tensor in inputs}
    fresh = [tensor for tensor in outputs if tensor.untyped_storage()._cdata not in known]
    if not schema.is_mutable and outputs and not fresh:
        return 0
    names = (argument.name for argument in schema.arguments)
    given = dict(zip(names, args, strict=False)) | kwargs
    moved = sum(map(_extent, (*inputs, *fresh)))
    for argument in schema.arguments:
        # An argument that is changed is written too; one named `out` is written only.
        if argument.alias_info and argument.alias_info.is_write and not argument.is_out:
            moved += sum(map(_extent, _tensors(given.get(argument.name))))
    return moved


def _extent(tensor: Tensor) -> int:
    """Return the bytes that a tensor has in memory: few, if it is broadcast."""
    elements = tensor.element_size()
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= size if stride else min(size, 1)
    return elements


def _saved(call: Callable[[], object]) -> dict[str, int]:
    """Count what the forward pass keeps for the backward pass."""
    saved: Counter[str] = Counter(saved_tensors=0, saved_bytes=0)

    def pack(tensor: Tensor) -> Tensor:
        saved.update(saved_tensors=1, saved_bytes=_extent(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return dict(saved)


def _launches(call: Callable[[], object]) -> int:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    return sum(e.count for e in profiler.key_averages() if LAUNCHES.match(e.key))
