"""Count exactly what one call does, and which line does it: the same on every run.

A worker loads this file by its path, so it imports nothing of the gate. Lines of the backward pass
are those of the forward pass that it differentiates: torch's anomaly detection notes them.
"""

import contextlib
import gc
import re
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

#: Operations whose result is read by the host, or decides the size of what follows.
WAITS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2"}
#: Methods that read a tensor without an operation, if it is in the memory of the host.
READS = {"tolist", "numpy", "__array__"}
LAUNCHES = re.compile(r"cu(da)?(Launch(Cooperative)?Kernel|GraphLaunch)")
COUNTERS = (
    "operations",
    "flops",
    "bytes",
    "peak_bytes",
    "kept_bytes",
    "synchronisations",
    "saved_tensors",
    "saved_bytes",
)
FRAME = re.compile(r'\s*File "(.+)", line (\d+)')

Chain = tuple[tuple[str, int], ...]
"""Files and lines, each called by the next."""

Key = tuple[Chain, str]
"""Where something is done, and what it is."""


class Ledger:
    """Counts, by the line of the project and the operation.

    Args:
        project: Has ``relative``, which names a file if it is one of the project, and ``chain``,
            which returns such files and their lines, the innermost first.
    """

    def __init__(self, project: Any = None) -> None:
        self.project = project
        self.entries: dict[Key, Counter[str]] = {}
        self.shapes: dict[Key, str] = {}

    def key(self, what: str, tensors: list[Tensor]) -> Key:
        """Open an entry for an operation of the line that is being executed."""
        node = torch._C._current_autograd_node()
        chain = (*self._differentiated(node), *self._executed())
        key = chain, f"{what} (backward)" if node else what
        if key not in self.entries:
            self.entries[key] = Counter()
            shape = f"{tensors[0].dtype}{[*tensors[0].shape]}" if tensors else ""
            self.shapes[key] = shape.removeprefix("torch.")
        return key

    def add(self, what: str, tensors: list[Tensor], **amounts: int) -> None:
        """Count something of the line that is being executed."""
        self.entries[self.key(what, tensors)].update(amounts)

    def counts(self) -> dict[str, int]:
        """Add up the counts of all lines."""
        total = sum(self.entries.values(), Counter(dict.fromkeys(COUNTERS, 0)))
        return {name: total[name] for name in dict.fromkeys((*COUNTERS, *total))}

    def sites(self) -> list[dict[str, Any]]:
        """Return the counts of each line, in the order in which lines come first."""
        return [
            {"chain": chain, "what": what, "shape": self.shapes[chain, what], "counts": counts}
            for (chain, what), counts in self.entries.items()
            if any(counts.values())
        ]

    def _executed(self) -> Chain:
        chain: Chain = self.project.chain(sys._getframe(1)) if self.project else ()
        return chain

    def _differentiated(self, node: Any) -> Chain:
        """Return the lines whose operation a node of the backward pass differentiates."""
        if not (node and self.project):
            return ()
        frames = map(FRAME.match, reversed(node.metadata.get("traceback_", ())))
        places = ((self.project.relative(f[1]), int(f[2])) for f in frames if f)
        return tuple(place for place in places if place[0])


def ledger(call: Callable[[], object], project: Any = None) -> Ledger:
    """Count a call. It is made once for every kind of measurement, and should be warmed up."""
    found = Ledger(project)
    gc.collect()
    gc.disable()  # garbage in cycles always lives until the end
    try:
        noting = torch.autograd.set_detect_anomaly(True, check_nan=False)
        with noting, _reads(found), _Operations(found) as seen:
            call()
    finally:
        gc.enable()
    gc.collect()
    seen.book()
    _count_saved(call, found)
    if torch.cuda.is_initialized():
        found.add("launches", [], kernel_launches=_launches(call))
    return found


class _Operations(TorchDispatchMode):
    """Sees every operation below autograd, including those of the backward pass."""

    def __init__(self, found: Ledger) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = found
        self.live: Counter[Key] = Counter()
        self.at_peak: Counter[Key] = Counter()
        self.bytes = self.peak = 0
        self.storages: dict[int, weakref.ref[Any]] = {}

    def book(self) -> None:
        """Enter what was alive at the peak, and what is alive now."""
        for key, entry in self.found.entries.items():
            entry.update(peak_bytes=self.at_peak[key], kept_bytes=self.live[key])

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
        site = self.found.key(name, outputs)
        self.found.entries[site].update(
            operations=1,
            flops=formula(*args, **kwargs, out_val=out) if formula else 0,
            bytes=_traffic(func._schema, args, kwargs, inputs, outputs),
            synchronisations=int(name in WAITS or _waits(name, inputs, outputs)),
        )
        for tensor in inputs:
            self._track(tensor.untyped_storage(), 0, site)  # older, or counted already
        for tensor in outputs:
            self._track(tensor.untyped_storage(), tensor.untyped_storage().nbytes(), site)
        return out

    def _track(self, storage: torch.UntypedStorage, size: int, site: Key) -> None:
        """Count a storage from the operation that first returns it until nothing refers to it."""
        key = storage._cdata
        if key in self.storages:
            return

        def freed(_: object) -> None:
            self.live[site] -= size
            self.bytes -= size
            del self.storages[key]

        self.storages[key] = weakref.ref(storage, freed)
        self.live[site] += size
        self.bytes += size
        if self.bytes > self.peak:
            self.peak, self.at_peak = self.bytes, self.live.copy()


@contextlib.contextmanager
def _reads(found: Ledger) -> Iterator[None]:
    """Count the methods that read a tensor. A mode that sees functions would slow torch's down."""
    reading = False

    def counted(name: str) -> Callable[..., Any]:
        method = getattr(Tensor, name)

        def read(self: Tensor, *arguments: Any, **options: Any) -> Any:
            nonlocal reading
            if reading or self.device.type != "cpu":
                return method(self, *arguments, **options)
            found.add(name, [self], synchronisations=1)
            reading = True  # one calls another
            try:
                return method(self, *arguments, **options)
            finally:
                reading = False

        return read

    with contextlib.ExitStack() as stack:
        for name in READS:
            stack.enter_context(mock.patch.object(Tensor, name, counted(name)))
        yield


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


def _count_saved(call: Callable[[], object], found: Ledger) -> None:
    """Count what the forward pass keeps for the backward pass."""

    def pack(tensor: Tensor) -> Tensor:
        what = "saved for the backward pass"
        found.add(what, [tensor], saved_tensors=1, saved_bytes=_extent(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()


def _launches(call: Callable[[], object]) -> int:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    return sum(e.count for e in profiler.key_averages() if LAUNCHES.match(e.key))
