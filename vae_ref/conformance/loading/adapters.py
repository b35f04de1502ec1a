"""Make a subject of a torch module in the textbook's form and of the functions beside it."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from vae_ref.conformance import guards
from vae_ref.conformance.auditing.tracing import is_jax
from vae_ref.conformance.loading import evidence, signatures
from vae_ref.conformance.loading.parts import Parts, parts_of
from vae_ref.conformance.loading.signatures import Role
from vae_ref.conformance.loading.steps import layers_of
from vae_ref.conformance.probe.networks import Networks
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.subject import Conventions, Spread, Subject

__all__ = ["NeedsArgumentsError", "has_parts", "instance_of", "subject_of"]

LOSS = ("loss_function", "loss_fn", "vae_loss", "elbo_loss")
SAMPLE = ("reparameterize", "reparametrize", "reparameterise")
KL = ("kl_divergence", "kl_loss")

_OTHERS: dict[tuple[str, ...], tuple[str, tuple[Role, ...]]] = {
    LOSS: (signatures.LOSS, signatures.LOSS_ROLES),
    SAMPLE: (r"reparam|sampl", ("mu", "spread")),
    KL: (r"kl", ("mu", "spread")),
}
"""Other names, which count if the names of the arguments, too, say what a function is."""


class NeedsArgumentsError(Exception):
    """A class cannot be instantiated without arguments."""


def has_parts(module: ModuleType) -> bool:
    """Return whether a module has a loss, a KL or a sampler, by the names."""
    return any(
        any(hasattr(module, name) for name in names) or signatures.named(module, *other)
        for names, other in _OTHERS.items()
    )


def instance_of(model: Any) -> Any:
    """Return an instance of a class; return anything else as it is."""
    if not inspect.isclass(model):
        return model
    if required := signatures.required_arguments(model):
        raise NeedsArgumentsError(f"{model.__name__} needs arguments ({', '.join(required)})")
    return model()


def subject_of(module: ModuleType, model: Any, name: str) -> Subject:
    """Make a subject of a model, if there is one, and of the functions of its module."""
    left: dict[str, str] = {}

    def find(names: tuple[str, ...], arguments: int) -> Callable[..., Any] | None:
        places = (module, model)
        candidates = [signatures.attribute(place, n) for place in places for n in names]
        pattern, roles = _OTHERS[names]
        if arguments == len(roles):
            candidates += [f for p in places for f in signatures.named(p, pattern, roles)]
        for candidate in candidates:
            if candidate and not is_jax(candidate) and signatures.takes(candidate, arguments):
                function = evidence.as_torch(candidate, arguments)
                of_parts = names is LOSS and signatures.takes_posterior(candidate)
                reason = (
                    ""
                    if arguments == 1
                    else evidence.misfit(function, arguments, of_parts=of_parts)
                )
                if names is KL and arguments > 1 and not reason:
                    reason = evidence.jitter(function)
                if not reason:
                    return function
                left[getattr(function, "__name__", names[0])] = reason
        return None

    whole = find(LOSS, 4)
    is_refused = bool(left)
    loss, nll, kl_of_loss = parts_of(whole) if whole else Parts()
    # Two arguments are mu and logvar; one is a distribution.
    sample, kl = (find(names, 2) or find(names, 1) for names in (SAMPLE, KL))
    kl = kl or kl_of_loss
    nll = find(LOSS, 2) if whole is None and not is_refused else nll
    named = signatures.spread_of(loss, kl) or signatures.spread_of(sample) or "logvar"
    spread = _spread(sample, kl, loss, named)

    held = spread != named  # by all functions, whatever their names say
    found = {f"not judged by its name, {name}": reason for name, reason in left.items()}
    if held:
        found["convention"] = (
            f"{spread}, on which sampler and KL agree, though the names say {named}"
        )

    def posterior(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
        return function and signatures.adapt(function, ("mu", "spread"), spread, held)

    subject = Subject(
        name=name,
        kl=posterior(kl),
        reparameterize=posterior(sample),
        nll=nll and signatures.adapt(nll, ("outputs", "x"), spread, held),
        loss=loss and signatures.adapt(loss, ("outputs", "x", "mu", "spread"), spread, held),
        conventions=Conventions(spread=spread, seeded=_seeded(sample)),
        found=found,
    )
    if subject.kl and (shape := evidence.code_shape(subject.kl)):
        conventions = dataclasses.replace(subject.conventions, latent_shape=shape)
        subject = dataclasses.replace(subject, conventions=conventions)
    subject = subject if model is None else _with_networks(subject, model)
    return _of_one_size(subject, module)


def _of_one_size(subject: Subject, module: ModuleType) -> Subject:
    """Let a loss that has the number of pixels in it take images of that size alone.

    A number counts if it is the size of an image, or of a layer of the file.
    """
    part = "loss" if subject.loss else "nll"
    function = getattr(subject, part)
    if function is None:
        return subject
    pixels = evidence.number_of_pixels(function, 4 if part == "loss" else 2)
    layers = layers_of(module, subject.module)
    sizes = {
        getattr(layer, name, None) for layer in layers for name in ("in_features", "out_features")
    }
    shape = subject.conventions.pixel_shape
    if pixels is None or pixels not in {*sizes, torch.Size(shape or ()).numel()}:
        return subject

    @functools.wraps(function)
    def of_one_size(outputs: Tensor, x: Tensor, *posterior: Tensor) -> Any:
        if x[0].numel() != pixels:
            raise ValueError(f"the loss multiplies a mean by {pixels} pixels")
        return function(outputs, x, *posterior)

    conventions = dataclasses.replace(subject.conventions, pixel_shape=shape or (pixels,))
    subject = dataclasses.replace(subject, conventions=conventions)
    if part == "loss":
        return dataclasses.replace(subject, loss=of_one_size)
    return dataclasses.replace(subject, nll=of_one_size)


def _spread(
    sample: Callable[..., Any] | None,
    kl: Callable[..., Any] | None,
    loss: Callable[..., Any] | None,
    named: Spread,
) -> Spread:
    """Return the convention that the functions agree on, or else the one that is named."""

    def of_loss(mu: Tensor, raw: Tensor) -> Any:
        half = torch.full((len(mu), 7), 0.5)
        adapted = signatures.adapt(loss, ("outputs", "x", "mu", "spread"), named)  # type: ignore[arg-type]
        return adapted(half, half, mu, raw)

    def of_kl(mu: Tensor, raw: Tensor) -> Any:
        return signatures.main_value(kl(mu, raw))  # type: ignore[misc]

    def of_sample(mu: Tensor, raw: Tensor) -> Any:
        return signatures.main_value(sample(mu, raw))  # type: ignore[misc]

    divergence = of_kl if kl else of_loss if loss else None
    return evidence.agreed_spread(sample and of_sample, divergence, named)


def _seeded(sample: Callable[..., Any] | None) -> bool:
    """Whether the noise can be repeated; that of a generator of one's own cannot."""
    if sample is None:
        return True
    draws = []
    try:
        for _ in range(2):
            with guards.global_state_kept(), guards.quiet(), torch.no_grad():
                guards.seed_everything(0)
                draws.append(signatures.main_value(sample(torch.zeros(3, 5), torch.zeros(3, 5))))
        return torch.equal(*draws)
    except Exception:  # the claims will say what is wrong with it
        return True


def _with_networks(subject: Subject, model: nn.Module) -> Subject:
    """Add the encoder, decoder and forward pass; what they return is found out by a call."""
    found = dict(subject.found)

    def taking_one(name: str, function: Any) -> Any:
        """Return a function that takes one argument; what needs more has to be audited."""
        if function is None or signatures.takes_one(function):
            return function
        more = ", ".join(signatures.required_arguments(function)[1:])
        found[f"not judged, {name}"] = f"it needs more than one argument ({more})"
        return None

    encode, decode = (taking_one(n, getattr(model, n, None)) for n in ("encode", "decode"))
    if taking_one("forward", model.forward) is None:
        return dataclasses.replace(subject, found=found)
    subject = dataclasses.replace(
        subject,
        module=model,
        encode=encode and (lambda x: signatures.posterior(encode(x))),
        decode=decode and (lambda z: signatures.main_value(decode(z))),
        forward=model,
        found=found,
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
    is_pair = isinstance(answer, torch.distributions.Distribution) or (
        isinstance(answer, tuple) and len(answer) > 1
    )
    if encode and not is_pair and not (subject.kl or subject.reparameterize or subject.loss):
        what = type(answer).__name__
        found["not judged, networks"] = f"encode returns {what}, not mu and logvar"
        return dataclasses.replace(
            subject, found=found, module=None, encode=None, decode=None, forward=None
        )
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
    if isinstance(answer, tuple):
        mean = answer[0] if answer else None
    else:
        mean = answer.mean if hasattr(answer, "stddev") else answer
    return tuple(mean.shape[1:]) if isinstance(mean, Tensor) else None
