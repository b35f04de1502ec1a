"""Say what a step's VAE is: every part with its source line, in words."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vae_ref.conformance.auditing.anatomy import Anatomy
from vae_ref.conformance.auditing.graph import Place
from vae_ref.conformance.auditing.pieces import NotReplayableError, Pieces

__all__ = ["at", "describe", "learning"]


def describe(anatomy: Anatomy, pieces: Pieces | None) -> dict[str, str]:
    """Return the parts of a VAE by name, each as a phrase with its source line."""
    graph, found = anatomy.graph, dict[str, str]()
    many = len(anatomy.latents) > 1
    for number, latent in enumerate(anatomy.latents, 1):
        which = f" {number}" if many else ""
        noise = [_by(anatomy, v) for v in latent.noise]
        found[f"noise{which}"] = f"{latent.law}: {', '.join(dict.fromkeys(noise))}"
        found[f"code{which}"] = f"shape {graph.values[latent.z].shape}, {_by(anatomy, latent.z)}"
        cut = ", ".join(_by(anatomy, v) for v in latent.posterior)
        found[f"posterior{which}"] = f"computed from {cut}" if cut else "not found"
    if pieces is not None:
        try:
            how = pieces.posterior
            mu, raw = _by(anatomy, how.mu), _by(anatomy, how.raw)
            found["posterior"] = f"mu is {mu}; {how.spread} is {raw}"
        except NotReplayableError as reason:
            found["posterior"] += f"; {reason}"
        kind = "sampled, of z" if pieces.is_sampled else "analytic"
        if anatomy.penalties:
            places = ", ".join(_by(anatomy, v) for v in anatomy.penalties)
            found["divergence"] = f"{kind}: {places}"
        else:
            found["divergence"] = "none: the loss does not depend on the posterior but through z"
    outputs = ", ".join(_by(anatomy, v) for v in anatomy.outputs)
    data = ", ".join(_by(anatomy, v) for v in anatomy.data)
    found["outputs"] = f"{outputs}, shape {graph.values[anatomy.outputs[0]].shape}"
    found["compared with"] = data or "nothing of their size"
    if anatomy.dropped:
        found["dropout"] = f"held as drawn: {at(anatomy.dropped[0].place)}"
    return found


def _by(anatomy: Anatomy, value: int) -> str:
    """Name a value by what made it, and where."""
    maker = anatomy.graph.values[value].maker
    if maker is None:
        return anatomy.graph.values[value].name or f"an input {anatomy.graph.values[value].shape}"
    return f"{maker.name.strip('_')} ({at(maker.place)})"


def at(place: Place | None) -> str:
    """Return a line of the source, as text."""
    return f"{Path(place.file).name}:{place.line}" if place else "no source"


def learning(anatomy: Anatomy, roots: Sequence[nn.Module]) -> dict[str, str]:
    """Return which weights do not learn: no gradient reaches them, or they are frozen."""
    named = [(n, p) for root in roots for n, p in root.named_parameters()]
    facts = {
        "no gradient reaches": _unreached(anatomy, named),
        "frozen": [name for name, p in named if not p.requires_grad],
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
