"""Say what a step's VAE is: every part with its source line, in words."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vae_ref.conformance.auditing.addends import Addends
from vae_ref.conformance.auditing.anatomy import Anatomy
from vae_ref.conformance.auditing.clamps import bounds_of
from vae_ref.conformance.auditing.codes import Codes
from vae_ref.conformance.auditing.graph import Place, at
from vae_ref.conformance.auditing.kind import kind_of
from vae_ref.conformance.auditing.pieces import NotReplayableError, Pieces

__all__ = ["describe", "learning"]


def describe(anatomy: Anatomy, pieces: Pieces | None, addends: Addends) -> dict[str, str]:
    """Return the parts of a VAE by name, each as a phrase with its source line.

    Args:
        anatomy: Where the parts are.
        pieces: The parts as functions; None if they cannot be replayed.
        addends: What the loss is a sum of.
    """
    graph, found = anatomy.graph, dict[str, str]()
    if kind := kind_of(anatomy, addends.divergence):
        found["kind"] = kind
    many = len(anatomy.latents) > 1
    for number, latent in enumerate(anatomy.latents, 1):
        which = f" {number}" if many else ""
        noise = [_by(anatomy, v) for v in latent.noise]
        found[f"noise{which}"] = f"{latent.law}: {', '.join(dict.fromkeys(noise))}"
        found[f"code{which}"] = f"shape {graph.values[latent.z].shape}, {_by(anatomy, latent.z)}"
        cut = ", ".join(_by(anatomy, v) for v in latent.posterior)
        found[f"posterior{which}"] = f"computed from {cut}" if cut else "not found"
    if pieces is not None:
        codes = pieces.each if isinstance(pieces, Codes) else [pieces]
        for number, code in enumerate(codes, 1):
            which = f" {number}" if many else ""
            try:
                found |= {f"{name}{which}": text for name, text in _posterior(code).items()}
            except NotReplayableError as reason:
                found[f"posterior{which}"] += f"; {reason}"
        kind = "sampled, of z" if pieces.is_sampled else "analytic"
        if anatomy.penalties:
            places = ", ".join(_by(anatomy, v) for v in addends.divergence)
            found["divergence"] = f"{kind}: {places}"
        else:
            found["divergence"] = "none: the loss does not depend on the posterior but through z"
    found |= _prior(anatomy, addends)
    outputs = ", ".join(_by(anatomy, v) for v in addends.outputs)
    data = ", ".join(_by(anatomy, v) for v in anatomy.data)
    found["outputs"] = f"{outputs}, shape {graph.values[addends.outputs[0]].shape}"
    found["compared with"] = data or "nothing of their size"
    if addends.likelihood:
        by = ", ".join(_by(anatomy, v) for v in addends.reconstruction)
        found["likelihood"] = f"{addends.likelihood}{_scale(anatomy, addends)}: {by}"
    if clamps := _clamps(anatomy, pieces, addends):
        found["clamps"] = ", ".join(clamps)
    whole = float(graph.replay([graph.loss])[0].detach())
    for number, (values, worth) in enumerate(addends.further.items(), 1):
        which = f" {number}" if len(addends.further) > 1 else ""
        name = f"{len(values)} further terms" if len(values) > 1 else f"further term{which}"
        found[name] = f"{_by(anatomy, values[0])}: {worth:.3g} of the loss of {whole:.3g}"
    if anatomy.dropped:
        found["dropout"] = f"held as drawn: {at(anatomy.dropped[0].place)}"
    return found


def _posterior(pieces: Pieces) -> dict[str, str]:
    """Say what the posterior is, and between which numbers it lies in this execution."""
    how, anatomy = pieces.posterior, pieces.anatomy
    mu, raw = _by(anatomy, how.mu), _by(anatomy, how.raw)
    gaussian = pieces.latent.law == "normal" and not how.by_density
    family = ", of a Gaussian" if gaussian else ""
    pairs = (("mu", pieces.recorded(how.mu)), (how.spread, pieces.recorded(how.raw)))
    ranges = (f"{name} {float(n.min()):.2g} to {float(n.max()):.2g}" for name, n in pairs)
    return {
        "posterior": f"mu is {mu}; {how.spread} is {raw}{family}",
        "range": f"{', '.join(ranges)} in this batch",
    }


def _prior(anatomy: Anatomy, addends: Addends) -> dict[str, str]:
    """Say what prior the divergence is from."""
    graph = anatomy.graph
    posterior = {v for latent in anatomy.latents for v in (latent.z, *latent.posterior)}
    learned = _reached_beside(anatomy, addends.divergence, posterior)
    beside = f"parameters reach the divergence beside the posterior ({at(learned)})"
    if addends.kl and learned:
        return {"prior": f"standard normal at this moment: {beside}"}
    if addends.kl:
        return {"prior": "standard normal: the divergence is a multiple of that KL"}
    above = graph.ancestors(addends.divergence) & graph.descendants(posterior) - posterior
    mixed = any(above & set(o.outputs) for o in graph.operations if not anatomy.plain(o))
    if learned and len(addends.divergence) == 1 and not mixed:
        return {"prior": f"not told; {beside}"}
    return {}


def _scale(anatomy: Anatomy, addends: Addends) -> str:
    """Say what the scale of a likelihood is, if it has one."""
    family = addends.likelihood
    if family not in ("gaussian", "laplace") or not addends.nll:
        return ""
    if learned := _reached_beside(anatomy, addends.reconstruction, set(addends.outputs)):
        return f" of a scale that parameters reach ({at(learned)})"
    if not addends.kl:
        return ""
    name = "variance" if family == "gaussian" else "scale"
    return f" of {name} {abs(addends.kl / addends.nll):.4g} at beta 1, which is fixed"


def _reached_beside(anatomy: Anatomy, values: Iterable[int], parts: set[int]) -> Place | None:
    """Return the first line by which parameters reach values but through some parts."""
    graph = anatomy.graph
    above = graph.ancestors(values, through=lambda o: parts.isdisjoint(o.outputs))
    learned = {v for v in above - parts if graph.values[v].parameter}
    lines = (
        operation.place
        for operation in graph.operations
        if above & set(operation.outputs) - parts and learned & set(operation.reads)
    )
    return next((line for line in lines if line), None)


def _clamps(anatomy: Anatomy, pieces: Pieces | None, addends: Addends) -> list[str]:
    """Say what is clamped between the networks and the loss, and to which bounds."""
    graph, plain = anatomy.graph, anatomy.plain
    if pieces is None:
        return []
    try:
        how = pieces.posterior
    except NotReplayableError:
        return []
    z, outputs = pieces.latent.z, addends.outputs
    decoded = graph.descendants([z])
    heads = graph.ancestors([z, *addends.divergence], through=plain) - decoded
    ends = graph.ancestors(addends.reconstruction, through=plain) & decoded
    below = graph.descendants([how.mu, how.raw])
    places = {"mu": (how.mu, heads), how.spread: (how.raw, heads)}
    said = []
    for operation in graph.operations:
        bounds, made = bounds_of(operation), set(operation.outputs)
        if bounds is None or not made & (heads | ends):
            continue
        (clamped, *_) = made & (heads | ends)
        size = graph.values[clamped].numel
        of = [
            name
            for name, (value, _) in places.items()
            if clamped in graph.ancestors([value]) or clamped in graph.descendants([value])
        ]
        if clamped in ends:
            whole = graph.values[outputs[0]].numel == size
            of = ["outputs" if whole else "the reconstruction"]
        elif clamped in below and size != graph.values[z].numel:
            of = ["the divergence"]
        if of:
            low, high = bounds
            where = at(operation.place)
            said.append(f"{' and '.join(of)} to [{low:.6g}, {high:.6g}] ({where})")
    return said


def _by(anatomy: Anatomy, value: int) -> str:
    """Name a value by what made it, and where."""
    maker = anatomy.graph.values[value].maker
    if maker is None:
        return anatomy.graph.values[value].name or f"an input {anatomy.graph.values[value].shape}"
    return f"{maker.name.strip('_')} ({at(maker.place)})"


class Roots(list[nn.Module]):
    """The modules that a step calls, but those inside of others.

    Attributes:
        called_in: Which module calls another one that it does not contain, by the latter's place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.called_in: dict[int, nn.Module] = {}


def learning(anatomy: Anatomy, roots: Roots) -> dict[str, str]:
    """Return which weights may not learn: no gradient reaches them, or they are frozen or alone.

    A module that calls another without containing it does not give an optimiser its weights.
    """
    named = [(n, p) for root in roots for n, p in root.named_parameters()]
    facts = {
        "no gradient reaches": _unreached(anatomy, named),
        "frozen": [name for name, p in named if not p.requires_grad],
        "not registered": [
            f"the {type(roots[place]).__name__} that {type(caller).__name__} calls"
            for place, caller in roots.called_in.items()
            if any(p.requires_grad for p in roots[place].parameters())
        ],
    }
    return {name: ", ".join(what) for name, what in facts.items() if what}


def _unreached(anatomy: Anatomy, parameters: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Return the names of the parameters that no gradient of the loss reaches."""
    graph = anatomy.graph
    known = {id(v.external): v.external for v in graph.values if v.parameter}
    wanted = [(name, p) for name, p in parameters if p.requires_grad]
    (loss,) = graph.replay([graph.loss])
    if not loss.requires_grad:
        return [name for name, _ in wanted]
    used = [(name, p) for name, p in wanted if id(p) in known]
    slopes = (
        torch.autograd.grad(
            loss.sum(), [p for _, p in used], allow_unused=True, retain_graph=False
        )
        if used
        else []
    )
    with_slope = {name for (name, _), slope in zip(used, slopes, strict=True) if slope is not None}
    return [name for name, _ in wanted if name not in with_slope]
