"""Say what kind of VAE a step has, if it is not the textbook's, by the flow of data."""

from collections.abc import Iterable

import torch

from vae_ref.conformance.auditing.anatomy import Anatomy
from vae_ref.conformance.auditing.graph import REFUSED

__all__ = ["kind_of"]

_DISCRETE = {"categorical", "Bernoulli", "Gumbel"}


def kind_of(anatomy: Anatomy, divergence: Iterable[int]) -> str:
    """Return such as "a conditional VAE with a learned prior"; nothing for the textbook's.

    Args:
        anatomy: Where the parts are.
        divergence: The addends of the divergence.
    """
    graph = anatomy.graph
    codes = {latent.z for latent in anatomy.latents}
    levels = [z for z in codes if codes & graph.ancestors([z]) - {z}]
    known = codes | {v for latent in anatomy.latents for v in latent.posterior}
    beside = _beside(anatomy, divergence, known)
    decoder = _beside(anatomy, anatomy.outputs, codes)
    learned = {v for v in beside if graph.values[v].parameter}
    conditions = _conditions(anatomy)
    given = bool(conditions & decoder)
    told = [
        *["conditional"] * (given or bool(conditions & beside)),
        *["hierarchical"] * bool(levels),
    ]
    more = [
        *[f"of {len(codes)} levels"] * bool(levels),
        *[f"of {len(codes)} codes"] * (len(codes) > 1 and not levels),
        *["with discrete codes"] * _is_discrete(anatomy),
        *["with a flow"] * bool(learned & decoder),
        *["with a learned prior"] * (bool(learned - decoder) and not levels),
        *["whose decoder is given data too"] * _sees_data(anatomy, codes),
    ]
    return " ".join(["a", *told, "VAE", *more]) if told or more else ""


def _beside(anatomy: Anatomy, values: Iterable[int], parts: set[int]) -> set[int]:
    """Return what values are computed from, but by way of some parts."""
    through = anatomy.graph.ancestors(values, through=lambda o: parts.isdisjoint(o.outputs))
    return through - parts


def _conditions(anatomy: Anatomy) -> set[int]:
    """Return the inputs with a row for each example that the data are not made of."""
    graph = anatomy.graph
    if not anatomy.data:
        return set()
    examples = graph.values[anatomy.data[0]].shape[:1]
    of_data = graph.ancestors(anatomy.data)
    return {v for v in _inputs(anatomy) - of_data if graph.values[v].shape[:1] == examples}


def _inputs(anatomy: Anatomy) -> set[int]:
    return {
        v.index
        for v in anatomy.graph.values
        if v.maker is None and v.external is not None and not v.parameter and v.numel > 1
    }


def _sees_data(anatomy: Anatomy, codes: set[int]) -> bool:
    """Whether the decoder is given the data by another way than the codes."""
    data = _inputs(anatomy) & anatomy.graph.ancestors(anatomy.data)
    return bool(data & _beside(anatomy, anatomy.outputs, codes))


def _is_discrete(anatomy: Anatomy) -> bool:
    """Whether the codes are drawn from classes, or are weights of classes, which add up to 1."""
    if any(_DISCRETE & set(latent.law.split(" and ")) for latent in anatomy.latents):
        return True
    try:
        drawn = anatomy.graph.replay([latent.z for latent in anatomy.latents])
    except REFUSED:
        return False
    return all(_are_weights(z.detach()) for z in drawn)


def _are_weights(z: torch.Tensor) -> bool:
    if not z.is_floating_point() or z.ndim < 2 or z.shape[-1] < 2:
        return False
    one = torch.ones((), dtype=z.dtype)
    return bool((z >= 0).all()) and torch.allclose(z.sum(-1), one, atol=1e-4)
