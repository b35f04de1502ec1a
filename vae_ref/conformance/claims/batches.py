"""The same claims for batches of a size that no program can know beforehand."""

import torch
from torch import Tensor

from vae_ref.conformance.answers.comparison import ROUNDINGS, require_agreement
from vae_ref.conformance.claims import model, reparameterization
from vae_ref.conformance.probe.networks import Networks
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.probe.terms import Term, ratio_tolerance
from vae_ref.conformance.records import Check

__all__ = ["BATCHES"]

_FEWEST, _MOST = 5, 17
"""The examples of a batch; the claims themselves are about at most four, and about draws."""

_FEW = 4
"""The examples of the parts into which a batch is cut."""


def _size(probe: Probe, name: str, most: int = _MOST) -> int:
    return int(torch.randint(_FEWEST, most, (), generator=probe.generator(f"batch {name}")))


def _require_same_in_parts(probe: Probe, what: str, term: Term, *whole: Tensor) -> None:
    """Raise `Violation` unless a batch has the value and the slopes of its parts, added up."""
    parts = list(zip(*(tensor.split(_FEW) for tensor in whole), strict=True))
    inputs = {"examples": torch.tensor(len(whole[0]))}
    roundings = ratio_tolerance(probe.dtype) / (ROUNDINGS * torch.finfo(probe.dtype).eps)
    values = torch.stack([term(*part).detach() for part in parts]).double()
    require_agreement(
        f"{what} of {len(whole[0])} examples",
        term(*whole),
        values.sum(),
        scale=roundings * (values.abs().sum() + whole[0].numel()),
        dtype=probe.dtype,
        inputs=inputs,
    )
    if not term.differentiable:
        return
    slopes = zip(*(probe.gradient(term, *part) for part in parts), strict=True)
    for got, of_parts in zip(probe.gradient(term, *whole), slopes, strict=True):
        exact = torch.cat(of_parts).double()
        require_agreement(
            f"the gradient of {what} of {len(whole[0])} examples",
            got,
            exact,
            scale=roundings * (1 + exact.abs()),
            dtype=probe.dtype,
            inputs=inputs,
        )


def _posterior(probe: Probe, name: str) -> tuple[Tensor, Tensor]:
    shape = _size(probe, name), probe.latents[0]
    return probe.normal(f"{name} mu", *shape), probe.normal(f"{name} logvar", *shape)


def _pair(probe: Probe, name: str) -> tuple[Tensor, Tensor]:
    shape = _size(probe, name), probe.pixels[0]
    outputs = probe.likelihood.outputs(2 * probe.normal(f"{name} outputs", *shape))
    return outputs, probe.uniform(f"{name} x", *shape)


def _kl(probe: Probe) -> None:
    _require_same_in_parts(probe, "the KL", probe.kl, *_posterior(probe, "kl"))


def _nll(probe: Probe) -> None:
    _require_same_in_parts(probe, "the reconstruction term", probe.nll, *_pair(probe, "nll"))


def _loss(probe: Probe) -> None:
    reconstruction, divergence = probe.in_loss
    what = "in the loss, the reconstruction term"
    _require_same_in_parts(probe, what, reconstruction, *_pair(probe, "loss"))
    _require_same_in_parts(probe, "in the loss, the KL", divergence, *_posterior(probe, "loss"))


def _sampler(probe: Probe) -> None:
    reparameterization.require_affine(probe, *_posterior(probe, "sampler"), "a batch")


def _bound(probe: Probe) -> None:
    log_w = 2 * probe.normal("batch weights", _size(probe, "bound"), _size(probe, "samples")) - 3
    require_agreement(
        "the importance-weighted bound",
        probe.bound(log_w),
        torch.logsumexp(log_w.double(), 1) - torch.tensor(log_w.shape[1]).double().log(),
        scale=log_w.double().abs().sum(1) + log_w.shape[1],
        dtype=probe.dtype,
        inputs={"log_w": log_w},
    )


def _encoder(probe: Probe) -> None:
    with model.evaluating(probe) as networks:
        x = networks.images(_size(probe, "images", 12))
        model.require_independent("the code", lambda x: torch.cat(networks.encode(x), 1), x)


def _decoder(probe: Probe) -> None:
    with model.evaluating(probe) as networks:
        z = networks.codes(_size(probe, "codes", 12))
        model.require_independent("the reconstruction", networks.decode, z)


def _forward(probe: Probe) -> None:
    x = Networks.of(probe).images(_size(probe, "forward", 12))
    model.require_composition(probe, x)


BATCHES: dict[str, Check] = {
    "kl/closed-form": _kl,
    "likelihood/value": _nll,
    "objective/constant-weights": _loss,
    "reparameterization/affine": _sampler,
    "objective/importance-weighted": _bound,
    "model/no-leakage-encoder": _encoder,
    "model/no-leakage-decoder": _decoder,
    "model/forward-is-the-composition": _forward,
}
"""Checks by the claims that they belong to."""
