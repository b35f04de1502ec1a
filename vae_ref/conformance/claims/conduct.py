"""What is true of every function: it leaves nothing behind but its answer."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vae_ref.conformance.bench import Bench
from vae_ref.conformance.body import Body
from vae_ref.conformance.records import Violation
from vae_ref.conformance.registry import claim


def _functions(bench: Bench) -> Iterator[tuple[str, Callable[..., object], tuple[Tensor, ...]]]:
    """Yield every function of the subject with arguments that it takes."""
    subject, n, latents = bench.subject, 3, bench.latents[0]
    mu, logvar = bench.normal("mu", n, latents), bench.normal("logvar", n, latents)
    for part in ("kl", "reparameterize"):
        if subject.has(part):
            yield part, getattr(subject, part), bench.posterior(mu, logvar)
    if subject.has("nll|loss"):
        outputs = bench.uniform("outputs", n, bench.pixels[0]) * 0.9 + 0.05
        x = bench.uniform("x", n, bench.pixels[0])
        pair = (bench.as_pixels(outputs), bench.as_pixels(x))
        if subject.nll is not None:
            yield "nll", subject.nll, pair
        if subject.loss is not None:
            yield "loss", subject.loss, (*pair, *bench.posterior(mu, logvar))
    body = Body.of(bench)
    if subject.encode is not None:
        yield "encode", subject.encode, (body.images(n),)
        if subject.decode is not None:
            yield "decode", body.decode, (body.codes(n),)
    if subject.forward is not None:
        yield "forward", subject.forward, (body.images(n),)


_ANY = ("kl|reparameterize|nll|loss|encode|decode|forward",)


@claim(
    "model/inputs-intact",
    statement="No function changes the tensors that it is given.",
    formula=r"x \text{ before} = x \text{ after}",
    source="the contract of a function",
    needs=_ANY,
    kind="metamorphic",
    tolerance="none: bit for bit",
    kills=("conduct-mutates-inputs",),
)
def inputs_intact(bench: Bench) -> None:
    for name, function, arguments in _functions(bench):
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        before = [tensor.clone() for tensor in tensors]
        with torch.no_grad():
            function(*arguments)
        if not all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True)):
            raise Violation(f"{name} changes its arguments in place", symptom=f"mutates {name}")


@claim(
    "model/global-state-intact",
    statement="No function changes the default dtype or the grad mode, or reseeds the generators.",
    formula=r"\text{state before} = \text{state after}",
    source="the contract of a function",
    needs=_ANY,
    kind="metamorphic",
    tolerance="none",
    kills=("conduct-reseeds", "conduct-default-dtype", "conduct-grad-mode"),
)
def global_state_intact(bench: Bench) -> None:
    for name, function, arguments in _functions(bench):
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
