"""Judge the contestants block by block; the tallies of blocks are added up."""

import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from benchmarks.every_float.contestants import CONTESTANTS, computed
from benchmarks.every_float.exact import FUNCTIONS, Tally, answers, count
from vae_ref.support.platform import constants_in_memory

__all__ = ["ORDERS", "Block", "blocks", "judge", "merge", "prepare"]

ORDERS = ("value", "derivative")
_BLOCK = 2**24  # inputs after which the state of a run is written
_CHUNK = 2**16  # inputs that are computed at once; their arrays fit into a cache

Tallies = dict[str, dict[str, dict[str, Any]]]  #: by contestant and order


class Block(NamedTuple):
    """Inputs of a function, with the bits start, start + stride, ..., and who is judged."""

    function: str
    contestants: tuple[str, ...]
    start: int
    stride: int
    count: int


def blocks(stride: int, others: int = 1) -> Iterator[Block]:
    """Divide the inputs of all functions; the reference is judged before the others.

    Args:
        stride: The reference is given every such float.
        others: The others are given every such float of these.
    """
    for who, step in ((slice(1), stride), (slice(1, None), stride * others)):
        for name, function in FUNCTIONS.items():
            contestants, total = tuple(CONTESTANTS[name])[who], -(-function.inputs // step)
            for at in range(0, total, _BLOCK):
                yield Block(name, contestants, at * step, step, min(_BLOCK, total - at))


def prepare() -> None:
    """Prepare a process, which computes on one core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command ends its processes
    torch.set_num_threads(1)
    constants_in_memory()


def judge(block: Block) -> Tallies:
    """Judge contestants by the inputs of a block."""
    contestants = {who: CONTESTANTS[block.function][who] for who in block.contestants}
    tallies = {who: (Tally(), Tally()) for who in contestants}
    for at in range(0, block.count, _CHUNK):
        start, size = block.start + at * block.stride, min(_CHUNK, block.count - at)
        right = answers(block.function, start, block.stride, size)
        for who, function in contestants.items():
            found = computed(function, torch.from_numpy(right.x))
            for order, (numbers, tally) in enumerate(zip(found, tallies[who], strict=True)):
                count(right, numbers.numpy(), tally, order=order)
    return {
        who: {order: tally.content() for order, tally in zip(ORDERS, pair, strict=True)}
        for who, pair in tallies.items()
    }


def merge(total: Tallies, more: Tallies) -> None:
    """Add the tallies of a block to those of the blocks before it."""
    for who, orders in more.items():
        for order, new in orders.items():
            if not (old := total[who].get(order)):
                total[who][order] = new
                continue
            for key in ("inputs", "not_rounded", "over_1_ulp"):
                old[key] += new[key]
            if not old["exceptional"]:
                old["exceptional_at"] = new["exceptional_at"]
            old["exceptional"] += new["exceptional"]
            if new["worst"] > old["worst"]:
                old["worst"], old["worst_at"] = new["worst"], new["worst_at"]
