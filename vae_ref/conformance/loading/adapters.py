"""Make a subject of a torch module in the textbook's form and of the functions beside it."""

import dataclasses
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from vae_ref.conformance.loading import signatures
from vae_ref.conformance.probe.networks import Networks
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.subject import Conventions, Subject

__all__ = ["KL", "LOSS", "SAMPLE", "NeedsArgumentsError", "instance_of", "subject_of"]

LOSS = ("loss_function", "loss_fn", "vae_loss", "elbo_loss")
SAMPLE = ("reparameterize", "reparametrize", "reparameterise")
KL = ("kl_divergence", "kl_loss")


class NeedsArgumentsError(Exception):
    """A class cannot be instantiated without arguments."""


def instance_of(model: Any) -> Any:
    """Return an instance of a class; return anything else as it is."""
    if not inspect.isclass(model):
        return model
    if required := signatures.required_arguments(model):
        raise NeedsArgumentsError(f"{model.__name__} needs arguments ({', '.join(required)})")
    return model()


def subject_of(module: ModuleType, model: Any, name: str) -> Subject:
    """Make a subject of a model, if there is one, and of the functions of its module."""

    def find(names: tuple[str, ...], arguments: int) -> Callable[..., Any] | None:
        candidates = [getattr(place, n, None) for place in (module, model) for n in names]
        return next((f for f in candidates if f and signatures.takes(f, arguments)), None)

    loss = find(LOSS, 4)
    # Two arguments are mu and logvar; one is a distribution.
    sample, kl = (find(names, 2) or find(names, 1) for names in (SAMPLE, KL))
    nll = find(LOSS, 2) if loss is None else None
    spread = signatures.spread_of(loss, kl) or signatures.spread_of(sample) or "logvar"

    def posterior(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
        return function and signatures.adapt(function, ("mu", "spread"), spread)

    subject = Subject(
        name=name,
        kl=posterior(kl),
        reparameterize=posterior(sample),
        nll=nll and signatures.adapt(nll, ("outputs", "x"), spread),
        loss=loss and signatures.adapt(loss, ("outputs", "x", "mu", "spread"), spread),
        conventions=Conventions(spread=spread),
    )
    return subject if model is None else _with_networks(subject, model)


def _with_networks(subject: Subject, model: nn.Module) -> Subject:
    """Add the encoder, decoder and forward pass; what they return is found out by a call."""
    encode, decode = getattr(model, "encode", None), getattr(model, "decode", None)
    subject = dataclasses.replace(
        subject,
        module=model,
        encode=encode and (lambda x: signatures.posterior(encode(x))),
        decode=decode and (lambda z: signatures.main_value(decode(z))),
        forward=model,
    )
    probe = Probe(subject)
    networks = Networks.of(probe)
    try:
        with torch.no_grad(), probe.mode(training=False):
            x = networks.images(2)
            heads = signatures.deterministic_entries(encode(x), encode(x)) if encode else ()
            answer = signatures.posterior(encode(x), heads) if encode else None
            latents = _latent_shape(answer)
    except (Exception, SystemExit):
        return subject  # the claims will say what is wrong with it
    conventions = dataclasses.replace(subject.conventions, pixel_shape=networks.shape)
    if isinstance(answer, torch.distributions.Distribution):
        conventions = dataclasses.replace(conventions, spread="distribution")
    if latents and len(latents) > 1:
        conventions = dataclasses.replace(conventions, latent_shape=latents)

    def forward(x: Tensor) -> Any:
        answer = model(x)  # called before the encoder, which may draw noise too
        encoded = signatures.posterior(encode(x), heads) if encode else None
        return signatures.forward_answer(answer, x, encoded)

    return dataclasses.replace(
        subject,
        encode=encode and (lambda x: signatures.posterior(encode(x), heads)),
        forward=forward,
        conventions=conventions,
    )


def _latent_shape(answer: Any) -> tuple[int, ...] | None:
    mean = answer.mean if hasattr(answer, "stddev") else answer and answer[0]
    return tuple(mean.shape[1:]) if isinstance(mean, Tensor) else None
