"""Claims about every function: calling it changes nothing else."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.networks import Networks
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import NotApplicable, Violation

claim = partial(registry.claim, slot="net")


def _functions(probe: Probe) -> Iterator[tuple[str, Callable[..., object], tuple[Tensor, ...]]]:
    """Yield every function of the subject, with its name and with arguments that it takes."""
    subject, n, latents = probe.subject, 3, probe.latents[0]
    if subject.elsewhere:
        raise NotApplicable("another process has copies of the inputs, and a state of its own")
    mu, logvar = probe.normal("mu", n, latents), probe.normal("logvar", n, latents)
    for part in ("kl", "reparameterize"):
        if subject.has(part):
            yield part, getattr(subject, part), probe.posterior(mu, logvar)
    if subject.has("nll|loss"):
        outputs = probe.uniform("outputs", n, probe.pixels[0]) * 0.9 + 0.05
        x = probe.uniform("x", n, probe.pixels[0])
        pair = (probe.as_pixels(outputs), probe.as_pixels(x))
        if subject.nll is not None:
            yield "nll", subject.nll, pair
        if subject.loss is not None:
            yield "loss", subject.loss, (*pair, *probe.posterior(mu, logvar))
    networks = Networks.of(probe)
    if subject.encode is not None:
        yield "encode", subject.encode, (networks.images(n),)
        if subject.decode is not None:
            yield "decode", networks.decode, (networks.codes(n),)
    if subject.forward is not None:
        yield "forward", subject.forward, (networks.images(n),)


_SOME_PART = ("kl|reparameterize|nll|loss|encode|decode|forward",)


@claim(
    "model/inputs-intact",
    statement="No function changes the tensors that it is given.",
    formula=r"x \text{ before} = x \text{ after}",
    source="the contract of a function",
    needs=_SOME_PART,
    kind="metamorphic",
    tolerance="none: bit for bit",
    kills=("conduct-mutates-inputs",),
)
def inputs_intact(probe: Probe) -> None:
    for name, function, arguments in _functions(probe):
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        before = [tensor.clone() for tensor in tensors]
        with torch.no_grad():
            function(*arguments)
        if not all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True)):
            raise Violation(f"{name} changes its arguments in place", symptom=f"mutates {name}")


@claim(
    "model/global-state-intact",
    statement="No function changes the default dtype or the grad mode, or seeds the generators.",
    formula=r"\text{state before} = \text{state after}",
    source="the contract of a function",
    needs=_SOME_PART,
    kind="metamorphic",
    tolerance="none",
    kills=("conduct-reseeds", "conduct-default-dtype", "conduct-grad-mode"),
)
def global_state_intact(probe: Probe) -> None:
    for name, function, arguments in _functions(probe):
        dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
        states = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            function(*arguments)
            states.append(torch.get_rng_state())
        if torch.equal(*states):
            raise Violation(f"{name} seeds torch's global generator", symptom="reseeds")
        if torch.get_default_dtype() != dtype:
            raise Violation(f"{name} changes torch's default dtype", symptom="default-dtype")
        if torch.is_grad_enabled() != grad:
            raise Violation(f"{name} leaves the grad mode changed", symptom="grad-mode")
