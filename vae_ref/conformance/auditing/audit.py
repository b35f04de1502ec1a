"""Audit one execution of a step: in a loop of one's own, or of a function."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._pytree import tree_flatten, tree_unflatten

from vae_ref.conformance.answers.oracles import FAMILIES
from vae_ref.conformance.auditing import tracing
from vae_ref.conformance.auditing.addends import addends
from vae_ref.conformance.auditing.anatomy import Anatomy, NoVAEError, dissect
from vae_ref.conformance.auditing.clamps import clamp_once
from vae_ref.conformance.auditing.codes import pieces_of
from vae_ref.conformance.auditing.diagram import diagram_of
from vae_ref.conformance.auditing.findings import Roots, describe, learning
from vae_ref.conformance.auditing.graph import REFUSED, Graph
from vae_ref.conformance.auditing.jaxpr import JaxError
from vae_ref.conformance.auditing.judged import subject_of
from vae_ref.conformance.auditing.pieces import NotReplayableError, Pieces
from vae_ref.conformance.auditing.recorder import Recorder, recording, suspended
from vae_ref.conformance.guards import global_state_kept, kind_and_message
from vae_ref.conformance.records import Diagram
from vae_ref.conformance.subject import Subject, Weights

__all__ = ["Audit", "observed", "roots_seen", "run_step"]

_NEAR = 1e-5
"""How far the weight of a KL may be from that of the reconstruction, relatively."""


class Audit:
    """What a step was found to compute.

    Attributes:
        reason: Why it cannot be judged, or not in full; empty if it can.
        found: The parts of its VAE by name, in words, with their source lines.
        subject: Its pieces as a subject of claims; None if there is no VAE to judge.
        diagram: The parts and the flow of data between them; None if there is no VAE.
    """

    def __init__(self, name: str = "the step") -> None:
        self.name, self.reason = name, "the block has not ended"
        self.found: dict[str, str] = {}
        self.subject: Subject | None = None
        self.diagram: Diagram | None = None
        self.anatomy: Anatomy | None = None
        self.pieces: Pieces | None = None
        self.parameters: list[Tensor] = []

    @property
    def reported(self) -> Subject:
        """What a report is about: the subject, or one of no parts that says why there is none."""
        return self.subject or Subject(
            name=self.name, found=self.found, diagram=self.diagram, undecided=self.reason
        )

    def examine(self, recorder: Recorder, loss: Tensor | None, roots: Roots) -> None:
        """Find the parts in what was recorded, and make a subject of them."""
        graph = recorder.graph
        number = None if loss is None else recorder.number_of(loss)
        if loss is None or number is None:
            self.reason = "no loss was computed: no scalar that depends on parameters"
            return
        if loss.numel() != 1:
            self.reason = f"the loss is no scalar; it has shape {tuple(loss.shape)}"
            return
        if not torch.isfinite(loss.detach()).all():
            self.reason = f"the loss is {loss.item():g}: audit a batch on which it is finite"
            return
        self.parameters = [
            v.external for v in graph.values if v.parameter and v.external is not None
        ]
        graph.loss = number
        graph.values[number].external = loss.detach().clone()
        try:
            with suspended(), global_state_kept(), torch.enable_grad():
                clamp_once(graph)
                self._take_apart(graph, roots)
                self._undo_weights(graph, roots)
        except NoVAEError as reason:
            self.reason = str(reason)
            self.found |= {"kind": reason.kind} if reason.kind else {}

    def _take_apart(self, graph: Graph, roots: Roots) -> None:
        """Find the parts in a graph, and make a subject of them."""
        self.anatomy = dissect(graph)
        learns = learning(self.anatomy, roots)
        try:
            self.pieces = pieces_of(self.anatomy)
            self.subject = subject_of(self.pieces, self.name, roots)
            self.reason = self.subject.undecided
        except NotReplayableError as reason:
            self.reason = str(reason)
        of = addends(self.anatomy, self.pieces, self.subject)
        self.found = describe(self.anatomy, self.pieces, of) | learns
        self.diagram = diagram_of(self.anatomy, self.pieces, of)
        if self.subject is not None:
            self.found |= self.subject.found
            self.subject = replace(self.subject, found=self.found, diagram=self.diagram)

    def _undo_weights(self, graph: Graph, roots: Roots) -> None:
        """Judge a loss that one or two inputs weigh, or mask, with these made uniform.

        They are inputs that the loss has without the networks. That they weigh the terms is known
        if both are what they should be only if these inputs are uniform.
        """
        if self.anatomy is None or self.subject is None or _is_whole(self):
            return
        if len(self.anatomy.latents) > 1:  # whose terms take too long to be tried with all inputs
            return
        inputs, best = _beside_the_networks(self.anatomy), None
        some = (*combinations(inputs, 1), *combinations(inputs, 2))
        for weights, at_one in product(some, (True, False)):
            other = Audit(self.name)
            with contextlib.suppress(NoVAEError, *REFUSED):
                other._take_apart(graph.made_uniform(weights, at_one=at_one), roots)
            if other.subject is not None and _is_whole(other):
                shapes = " and ".join(f"an input {graph.values[v].shape}" for v in weights)
                other.found |= {"weighed by": f"{shapes}: judged with equal weights"}
                other.subject = _without_beta(replace(other.subject, found=other.found))
                other.reason = other.subject.undecided
                best = best if best and other.reason else other
                if not best.reason:
                    break
        if best:
            self.__dict__ |= best.__dict__ | {"parameters": self.parameters}


def _without_beta(subject: Subject) -> Subject:
    """Return the subject without its loss, if that needs a weight of the KL that inputs change."""
    family, beta = FAMILIES.get(subject.conventions.likelihood or ""), _ratio(subject)
    if not beta or family is None or not family.absolute or abs(beta - 1) <= _NEAR:
        return subject
    reason = f"inputs weigh the loss, so that a weight of the KL, {beta:.4g} here, is not judged"
    return replace(subject, loss=None, undecided=subject.undecided or reason)


def _ratio(subject: Subject | None) -> float | None:
    """Return the weight of the KL over that of the reconstruction, if both are known."""
    return subject.weights.ratio if subject and subject.weights else None


def _is_whole(audit: Audit) -> bool:
    """Whether the loss is a likelihood and a KL of the same examples, each with a weight."""
    if not _ratio(audit.subject):
        return False
    return audit.pieces is None or not audit.pieces.leaves_examples_out


def _beside_the_networks(anatomy: Anatomy) -> list[int]:
    """Return the inputs that the loss has not only by way of codes and outputs."""
    graph, parts = anatomy.graph, anatomy.parts
    above = graph.ancestors([graph.loss], through=lambda o: parts.isdisjoint(o.outputs))
    return [
        v.index
        for v in graph.values
        if v.index in above - parts
        and v.external is not None
        and v.maker is None
        and not v.parameter
        and v.numel > 1
        and (v.index,) != anatomy.data
        and not v.is_one_number
    ]


@contextlib.contextmanager
def roots_seen() -> Iterator[Roots]:
    """Collect the modules that are called in the block, but those inside of others."""
    roots, known, running = Roots(), set[int](), list[nn.Module]()

    def entered(module: nn.Module, _: Any) -> None:
        if id(module) not in known:
            known.update(map(id, module.modules()))
            roots.append(module)
            if running:
                roots.called_in[len(roots) - 1] = running[-1]
        running.append(module)

    def left(*_: Any) -> None:
        if running:
            running.pop()

    hooks = (
        register_module_forward_pre_hook(entered),
        register_module_forward_hook(left, always_call=True),
    )
    try:
        yield roots
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def observed(result: Audit) -> Iterator[None]:
    """Audit what the block computes; see `vae_ref.conformance.audit`."""
    with roots_seen() as roots, recording() as recorder:

        def examine(loss: Tensor | None) -> None:
            recorder.active = False
            result.examine(recorder, loss, roots)

        recorder.on_backward = examine  # before weights and gradients change
        yield
    if recorder.active:
        examine(recorder.loss())


def loss_of(answer: Any) -> Tensor | None:
    """Return the loss in what a step returned: a tensor, a tuple, a dict or an object."""
    if isinstance(answer, Tensor):
        return answer
    if isinstance(answer, dict):
        known = [answer[key] for key in ("loss", "total_loss", "total") if key in answer]
        return loss_of(next(iter(known or answer.values()), None))
    if isinstance(answer, tuple | list):
        return next((loss_of(a) for a in answer if loss_of(a) is not None), None)
    return loss_of(getattr(answer, "loss", None)) if hasattr(answer, "loss") else None


def run_step(result: Audit, step: Callable[..., Any], *arguments: Any) -> None:
    """Audit a function that returns the loss of a batch; one in JAX is evaluated by torch."""
    known: dict[str, str] = {}
    if tracing.is_jax(step, arguments):
        try:
            step, known, arguments = (
                tracing.in_torch(step, *arguments),
                tracing.facts(arguments),
                (),
            )
        except JaxError as reason:
            result.reason = str(reason)
            return
    _run(result, step, arguments)
    _vary(result, step, arguments)
    result.found |= known
    if result.subject is not None:
        result.subject = replace(result.subject, found=result.found)


def _run(result: Audit, step: Callable[..., Any], arguments: Any) -> None:
    """Audit one execution of a function of torch."""
    with roots_seen() as roots, recording() as recorder, torch.enable_grad():
        answer = step(*arguments)
    result.examine(recorder, loss_of(answer), roots)


def _vary(result: Audit, step: Callable[..., Any], arguments: Any) -> None:
    """Add to the weights what they are in the same step, with every example given twice.

    They are not compared if they differ from run to run, as a weight does that grows from step to
    step. A step that takes no other number of examples is said to be so.
    """
    subject = result.subject
    whole = subject.weights if subject else None
    if subject is None or whole is None or not whole.ratio:
        return
    places, form = tree_flatten(arguments)
    has_rows = [
        isinstance(p, Tensor) and p.layout == torch.strided and p.shape[:1] == (whole.examples,)
        for p in places
    ]
    if not any(has_rows):
        return

    def given(times: int) -> Any:
        copies = [
            torch.cat([place.detach()] * times) if rows else place
            for place, rows in zip(places, has_rows, strict=True)
        ]
        return tree_unflatten(copies, form)

    try:
        twice = _weights_in(step, given(2))
        if twice is None or twice.examples != 2 * whole.examples:
            return
        again = whole if _same_ratio(whole, twice) else _weights_in(step, given(1))
    except Exception as error:  # whatever a step does whose sizes are baked in
        result.found["batch"] = (
            f"of {whole.examples} examples; given twice, the step ends with "
            f"{kind_and_message(error)}"
        )
        return
    if again is not None and _same_ratio(whole, again):
        result.subject = replace(subject, weights=replace(whole, twice=twice))


def _weights_in(step: Callable[..., Any], arguments: Any) -> Weights | None:
    """Return the weights of both terms in one more execution, if they have any."""
    other = Audit()
    with global_state_kept():
        _run(other, step, arguments)
    return other.subject.weights if other.subject and _ratio(other.subject) else None


def _same_ratio(a: Weights, b: Weights) -> bool:
    return bool(a.ratio and b.ratio and abs(a.ratio / b.ratio - 1) <= _NEAR)
