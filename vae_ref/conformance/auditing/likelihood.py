"""Find the likelihood that the reconstruction of a step is, and what it compares with what."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from vae_ref.conformance.answers.multinomial import multinomial
from vae_ref.conformance.answers.oracles import Likelihood
from vae_ref.conformance.answers.robust import robust_loss
from vae_ref.conformance.answers.weighed import weighed_loss
from vae_ref.conformance.auditing.graph import REFUSED
from vae_ref.conformance.auditing.pieces import NotReplayableError, Pieces, uniform
from vae_ref.conformance.probe import terms

__all__ = ["Fit", "fitted"]

_PIXELS = 7
_ACTIVATIONS = {"sigmoid", "sigmoid_", "tanh", "tanh_", "softmax", "softplus", "hardsigmoid"}
_OF_SEVERAL = "not judged: there are several outputs, and no one likelihood is that of all"
_OF_BITS = "a Bernoulli likelihood for data of 0 and 1, and judged for no data between them"

Found = tuple[Likelihood, float]
"""A likelihood and its weight in the loss, or in the negative ELBO."""


class Fit(NamedTuple):
    """What the reconstruction was found to be.

    Attributes:
        found: The likelihood and its weight; None if it is none that is known.
        is_judged: Whether the claims about likelihoods apply.
        undecided: Why they do not, if they should.
        note: What else there is to say.
    """

    found: Found | None
    is_judged: bool
    undecided: str = ""
    note: str = ""


def fitted(pieces: Pieces) -> Fit:
    """Find the likelihood; outputs and data of the pieces are from then on what it compares.

    Where there is none, the outputs are an activation's.
    """
    outputs = pieces.anatomy.outputs
    try:
        other = _recognised(robust_loss, pieces)
        if not other and (found := _family(pieces, uniform)):
            return Fit(found, is_judged=True)
        if other or (other := _recognised(weighed_loss, pieces) or _of_counts(pieces)):
            reason = f"the reconstruction is {other}"
            return Fit(None, is_judged=False, undecided=f"{reason}, which is not judged")
        if reason := _of_another_kind(pieces, set(outputs)):
            _take_activation(pieces)
        elif (found := _family(pieces, _binary)) and found[0].name.startswith("bernoulli"):
            return Fit(found, is_judged=False, note=_OF_BITS)
        else:
            pieces.take(outputs, pieces.anatomy.data)
            _take_activation(pieces)
            several = len(outputs) > 1
            return Fit(None, is_judged=not several, note=_OF_SEVERAL if several else "")
    except NotReplayableError as refused:
        if pieces.anatomy.data and not pieces.anatomy.is_graph:
            return Fit(None, is_judged=False, note=f"not judged: {refused}")
        reason = str(refused)
    return Fit(None, is_judged=False, undecided=f"{reason}: the reconstruction is not judged")


_Draw = Callable[..., Tensor]


def _recognised(which: Callable[..., str], pieces: Pieces) -> str:
    """Say which loss of a kind the reconstruction is, if it is one."""
    try:
        return which(pieces.nll, uniform, _pixels(pieces))
    except NotReplayableError:
        return ""


def _of_counts(pieces: Pieces) -> str:
    """Say whether the reconstruction is that of a softmax, whose logits may be the outputs."""
    outputs, data = pieces.anatomy.outputs, pieces.anatomy.data
    if len(outputs) != 1:
        return ""
    found = ""
    for candidate in [*outputs, *pieces.anatomy.earlier]:
        pieces.take((candidate,), data)
        try:  # with all pixels of the step, since a softmax is of all of an example's
            found = found or multinomial(pieces.nll, uniform, len(pieces.pixel_slots))
        except REFUSED:
            continue
    pieces.take(outputs, data)
    return found


def _pixels(pieces: Pieces) -> int:
    """Return how many pixels to draw: if there are several outputs, those of all of them."""
    return _PIXELS if len(pieces.anatomy.outputs) == 1 else pieces.pixel_places


def _binary(name: str, *shape: int) -> Tensor:
    """Draw numbers, but data of 0 and 1 alone."""
    numbers = uniform(name, *shape)
    return numbers.round() if name == "family x" else numbers


def _family(pieces: Pieces, draw: _Draw) -> Found | None:
    """Find the likelihood and its weight: of the data as they are compared, or else before.

    So 2 x - 1 is no data of a Bernoulli distribution, but x is.
    """
    data, outputs = pieces.anatomy.data, pieces.anatomy.outputs
    earlier = pieces.anatomy.unmapped if len(data) == 1 else ()
    for candidate in (data, *((value,) for value in earlier)):
        pieces.take(outputs, candidate)
        if found := _of_data(pieces, draw):
            return found
    pieces.take(outputs, data)
    return None


def _of_data(pieces: Pieces, draw: _Draw) -> Found | None:
    """Find the likelihood and its weight for the data as they are taken.

    Of probabilities the earliest are the outputs, so that a clamp of them belongs to the loss.
    """
    if len(pieces.anatomy.outputs) != 1:
        return terms.family_of(pieces.nll, draw, _pixels(pieces))
    data = pieces.anatomy.data
    best: Found | None = None
    for outputs in [*pieces.anatomy.outputs, *pieces.anatomy.earlier]:
        later = pieces.anatomy.outputs
        pieces.take((outputs,), data)
        found = _fitting(pieces, draw)
        if best and not (found and found[0] is best[0]):
            pieces.take(later, data)
            return best
        best = found or best
        if best and not best[0].bounded:
            return best if best[0].absolute else _unscaled(pieces, best, draw)
    return best


def _fitting(pieces: Pieces, draw: _Draw) -> Found | None:
    """Return the likelihood of the outputs as they are taken, and its weight, if there is one."""
    try:
        return terms.family_of(pieces.nll, draw, _PIXELS)
    except NotReplayableError:
        raise
    except REFUSED:  # it is no probability
        return None


def _unscaled(pieces: Pieces, best: Found, draw: _Draw) -> Found:
    """Undo a scale that outputs and data share, such as 255, while the likelihood stays."""
    while before := pieces.unscaled():
        later = pieces.anatomy.outputs, pieces.anatomy.data
        pieces.take(*((value,) for value in before))
        found = _fitting(pieces, draw)
        if not (found and found[0] is best[0]):
            pieces.take(*later)
            break
        best = found
    return best


def _of_another_kind(pieces: Pieces, outputs: set[int]) -> str:
    """Say why a reconstruction may be right though its likelihood is not known; or nothing."""
    anatomy, values = pieces.anatomy, pieces.graph.values
    above = pieces.graph.ancestors(
        anatomy.distortions, through=lambda o: outputs.isdisjoint(o.outputs)
    )
    if any(values[v].parameter and values[v].numel > 1 for v in above):
        return "the reconstruction has weights of its own, such as a scale for each pixel"
    x = pieces.recorded(anatomy.data[0])
    if bool((x == x.round()).all() and (x >= 0).all() and (x > 1).any()):
        return "the data are counts, for which no likelihood is known here"
    return ""


def _take_activation(pieces: Pieces) -> None:
    """Let the outputs be those of an activation, or else of the last operation with weights."""
    if len(pieces.anatomy.outputs) != 1:
        return
    candidates = [*pieces.anatomy.outputs, *pieces.anatomy.earlier]
    makers = [pieces.graph.values[v].maker for v in candidates]
    pairs = zip(candidates, makers, strict=True)
    activated = [value for value, maker in pairs if maker and maker.name in _ACTIVATIONS]
    taken = activated[0] if activated else candidates[-1]
    pieces.take((taken,), pieces.anatomy.data)
