"""Replay the networks of a step for other examples, row by row."""

import torch
from torch import Tensor

from vae_ref.conformance.auditing.graph import REFUSED, Graph
from vae_ref.conformance.records import NotApplicable

__all__ = ["Rows"]


class Rows:
    """The networks of a step as functions of one value's rows, with all else as it was.

    Args:
        graph: The step, in its own precision, with the weights of the moment.
        examples: How many examples it has.
    """

    def __init__(self, graph: Graph, examples: int) -> None:
        self.graph, self._examples = graph, examples

    def replay(
        self, source: int, targets: list[int], rows: Tensor, *, evaluating: bool
    ) -> list[Tensor]:
        """Replay with other rows of one value; a batch that is not full is filled as recorded."""
        graph = self.graph
        weights = [v.external for v in graph.values if v.parameter and v.external is not None]
        if any(w.dtype == torch.float64 != graph.values[source].dtype for w in weights):
            raise NotApplicable("what was recorded is in single precision")
        with torch.no_grad():
            (recorded,) = graph.replay([source], evaluating=evaluating)
            others = self._alike(source, targets)
        parts: list[list[Tensor]] = []
        for some in rows.to(recorded.dtype).split(len(recorded)):
            rest = recorded[len(some) :]
            whole = torch.cat([some.reshape(len(some), *recorded.shape[1:]), rest])
            answers = graph.replay(targets, others | {source: whole}, evaluating=evaluating)
            parts.append([answer[: len(some)] for answer in answers])
        return [torch.cat(answers) for answers in zip(*parts, strict=True)]

    def _alike(self, source: int, targets: list[int]) -> dict[int, Tensor]:
        """Return what else the examples have, such as a label: that of the first, for all."""
        graph = self.graph
        below = graph.descendants([source]) & graph.ancestors(targets)
        read = {
            value
            for operation in graph.operations
            if not below.isdisjoint(operation.outputs)
            for value in operation.reads
            if value not in below and graph.values[value].shape[:1] == (self._examples,)
        }
        others = sorted(value for value in read if not self._is_weight(value))
        found = zip(others, graph.replay(others), strict=True)
        return {value: tensor[:1].expand_as(tensor) for value, tensor in found}

    def _is_weight(self, value: int) -> bool:
        """Whether a value is made of parameters alone."""
        above = [self.graph.values[v] for v in self.graph.ancestors([value])]
        return all(v.parameter for v in above if v.maker is None or not v.maker.reads)

    def are_independent(self, source: int, targets: list[int]) -> bool:
        """Whether the rows of targets are functions of the rows of a source, each of its own."""
        (rows,) = self.graph.replay([source])
        if not rows.is_floating_point():  # as what a pixel is compared with
            return False
        order = torch.arange(len(rows)).roll(1)
        try:
            with torch.no_grad():
                straight, rolled, first = (
                    self.replay(source, targets, rows[some], evaluating=True)
                    for some in (order.sort().values, order, 0 * order)
                )
        except REFUSED:  # it takes no other rows
            return False
        return all(
            len(a) == len(rows)
            and torch.allclose(a[order], b, rtol=1e-4, atol=1e-5)
            and torch.allclose(a[:1].expand_as(c), c, rtol=1e-4, atol=1e-5)
            for a, b, c in zip(straight, rolled, first, strict=True)
        )
