"""Tell the addends of a loss apart: the divergence, the reconstruction, and what is neither.

What is neither is known by evidence alone: beside it the others have to be a KL and a likelihood,
or it has to depend on parameters that nothing else of the loss takes as they are.
"""

import contextlib
from dataclasses import dataclass, field, replace

import torch

from vae_ref.conformance.auditing.anatomy import Anatomy
from vae_ref.conformance.auditing.graph import REFUSED
from vae_ref.conformance.auditing.pieces import NotReplayableError, Pieces, uniform
from vae_ref.conformance.probe import terms
from vae_ref.conformance.subject import Subject

__all__ = ["MOST", "Addends", "addends", "apart"]

MOST = 3
"""The parts of a kind that are told one by one; more are told together."""


@dataclass(frozen=True)
class Addends:
    """The addends of a loss.

    Attributes:
        divergence: Those of the divergence.
        reconstruction: Those of the reconstruction.
        outputs: What the reconstruction compares with the data.
        kl: The weight of the KL; None if the divergence is no multiple of that to N(0, 1).
        nll: The weight of the reconstruction; None if it is no known likelihood.
        likelihood: Which likelihood it is; empty if it is none that is known.
        further: What is neither, with what it adds to the loss of this execution; many together.
    """

    divergence: tuple[int, ...]
    reconstruction: tuple[int, ...]
    outputs: tuple[int, ...]
    kl: float | None = None
    nll: float | None = None
    likelihood: str = ""
    further: dict[tuple[int, ...], float] = field(default_factory=dict)


def addends(anatomy: Anatomy, pieces: Pieces | None, subject: Subject | None) -> Addends:
    """Return the addends of the loss; what cannot be told apart is left together.

    Args:
        anatomy: Where the parts are.
        pieces: The parts as functions; None if they cannot be replayed.
        subject: What is judged; it knows the weights if there is nothing to tell apart.
    """
    found = Addends(anatomy.penalties, anatomy.distortions, anatomy.outputs)
    if pieces is not None and subject is not None and pieces.is_sum():
        known, family = subject.weights, subject.conventions.likelihood
        if known is None or not known.kl or len(anatomy.penalties) > 1:
            found = _divergence(pieces, found)
        if known is not None and known.kl:
            found = replace(found, kl=known.kl)
        if known is not None and known.nll and family:
            found = replace(found, nll=known.nll, likelihood=family)
        else:
            found = _reconstruction(pieces, found)
    above = anatomy.graph.ancestors(found.reconstruction)
    taken = {*found.divergence, *found.reconstruction}
    rest = [v for v in (*anatomy.penalties, *anatomy.distortions) if v not in taken]
    others = (*rest, *anatomy.asides)
    groups = [others] if len(others) > MOST else [(v,) for v in others]
    weighed = {group: _worth(anatomy, group) for group in groups if group}
    return replace(
        found,
        outputs=tuple(o for o in anatomy.outputs if o in above) or anatomy.outputs,
        further={group: worth for group, worth in weighed.items() if worth is not None},
    )


def apart(pieces: Pieces) -> Pieces | None:
    """Return the pieces without what is added to a KL, such as a classifier of mu.

    None if no addend is a multiple of the KL by itself.
    """
    anatomy = pieces.anatomy
    found = _divergence(pieces, Addends(anatomy.penalties, anatomy.distortions, anatomy.outputs))
    if not found.kl:
        return None
    further = [v for v in anatomy.penalties if v not in found.divergence]
    asides = (*anatomy.asides, *further)
    return pieces.with_parts(penalties=found.divergence, asides=asides)


def _divergence(pieces: Pieces, found: Addends) -> Addends:
    """Take the one addend that is a multiple of the KL by itself for the divergence."""
    of = pieces.anatomy.penalties
    weights = {}
    for value in of:
        rest = tuple(v for v in of if v != value)
        alone = pieces.with_parts(penalties=(value,), distortions=(*found.reconstruction, *rest))
        with contextlib.suppress(NotReplayableError, *REFUSED):
            if weight := alone.kl_weight():
                weights[value] = weight
    if len(weights) != 1:
        return found
    ((value, weight),) = weights.items()
    return replace(found, divergence=(value,), kl=weight)


def _reconstruction(pieces: Pieces, found: Addends) -> Addends:
    """Take the one addend that is a multiple of a likelihood for the reconstruction."""
    of = pieces.anatomy.distortions
    families = {}
    for value in of:
        rest = tuple(v for v in of if v != value)
        above = pieces.graph.ancestors([value])
        alone = pieces.with_parts(
            distortions=(value,),
            penalties=(*pieces.anatomy.penalties, *rest),
            outputs=tuple(o for o in pieces.anatomy.outputs if o in above),
        )
        with contextlib.suppress(NotReplayableError, *REFUSED):
            if family := terms.family_of(alone.nll, uniform, 7):
                families[value] = family
    if len(families) != 1:
        return found
    ((value, (known, weight)),) = families.items()
    return replace(found, reconstruction=(value,), likelihood=known.name, nll=pieces.sign * weight)


def _worth(anatomy: Anatomy, values: tuple[int, ...]) -> float | None:
    """Return what addends add to the loss as recorded; None if the loss is not linear in them."""
    graph = anatomy.graph
    try:
        with torch.no_grad():
            found = graph.replay(values)
            none, once, twice = (
                float(graph.replay([graph.loss], dict(zip(values, scaled, strict=True)))[0])
                for scaled in ([times * part for part in found] for times in (0, 1, 2))
            )
    except REFUSED:
        return None
    rounding = 1e-4 * (abs(none) + abs(once) + abs(twice))
    return once - none if abs(twice - 2 * once + none) <= rounding else None
