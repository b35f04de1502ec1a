"""The correct variants in the three forms that training steps have: none may be accused.

python -m tests.conformance.right_forms [RUNS]

audits every variant in every form that it can take, again and again with fresh weights, images and
noise. It prints what is accused, and counts what becomes of the rest.
"""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from tests.conformance import variants
from tests.conformance.forms import EXAMPLES, FORMS, LABELS
from vae_ref.conformance.audited import Audit, audit_step
from vae_ref.conformance.guards import global_state_kept
from vae_ref.conformance.subject import Conventions, Subject, to_spread

RUNS = 1000
SHAPES = [(variants.PIXELS,), (784,), (1, 28, 28), (3, 4, 4), (1, 4, 4), (3, 8, 8)]
"""The shapes of an image that variants take."""


class Parts:
    """A variant with all that a step needs: what it lacks is the textbook's."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.spread = subject, subject.conventions.spread
        self.net = subject.module or (variants.real() if self._takes_reals() else self._bounded())
        self.shape = next(shape for shape in SHAPES if self._takes(shape))

    def _bounded(self) -> nn.Module:
        return variants.Network()

    def _takes_reals(self) -> bool:
        """Whether the reconstruction term is one of real numbers."""
        x = torch.rand(EXAMPLES, variants.PIXELS)
        try:
            return bool(self.nll(5 * x - 2, x).isfinite())
        except (RuntimeError, ValueError, RuntimeWarning):  # NumPy warns of logarithms
            return False

    def _takes(self, shape: tuple[int, ...]) -> bool:
        try:
            outputs, posterior = self.forward(torch.rand(EXAMPLES, *shape))
            self.loss(outputs, torch.rand(EXAMPLES, *shape), posterior)
        except (RuntimeError, ValueError, IndexError):
            return False
        return True

    def encode(self, x: Tensor) -> tuple[Any, ...]:
        if self.subject.encode is None:
            return to_spread(self.spread, *self.net.encode(x))
        posterior = self.subject.encode(x)
        return posterior if isinstance(posterior, tuple) else (posterior,)

    def sample(self, posterior: tuple[Any, ...]) -> Tensor:
        if self.subject.reparameterize is None:
            return self.normal(posterior).rsample()
        return self.subject.reparameterize(*posterior)

    def decode(self, z: Tensor) -> Tensor:
        return self.net.decoder(z) if self.subject.decode is None else self.subject.decode(z)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        if self.subject.forward is None:
            posterior = self.encode(x)
            return self.decode(self.sample(posterior)), posterior
        outputs, *posterior = self.subject.forward(x)
        return outputs, tuple(posterior)

    def normal(self, posterior: tuple[Any, ...]) -> Normal:
        if self.spread == "distribution":
            return posterior[0]
        mu, second = posterior
        to_sigma = {"sigma": lambda s: s, "variance": torch.sqrt, "log_sigma": torch.exp}
        return Normal(mu, to_sigma.get(self.spread, lambda s: torch.exp(s / 2))(second))

    def nll(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return the reconstruction term, example by example, whatever its reduction."""
        zero = torch.zeros(1, variants.LATENTS)
        nll, loss = self.subject.nll, self.subject.loss
        total = torch.zeros(())
        for o, one in zip(outputs.split(1), x.split(1), strict=True):
            if nll is not None:
                total = total + nll(o, one).sum()
            elif loss is not None:
                total = total + loss(o, one, *to_spread(self.spread, zero, zero)).sum()
            else:
                total = total + variants.nll(o, one)
        return total

    def require_plain_weight(self) -> None:
        """Raise `ValueError` if one nat is not 1 in the loss, beside which a KL is computed."""
        x = torch.rand(1, *self.shape)
        outputs = 0.2 + 0.6 * torch.rand(1, *self.shape)
        zero, one = torch.zeros(1, variants.LATENTS), torch.ones(1, variants.LATENTS)
        if self.subject.nll is None and self.subject.loss is not None:
            near, far = (
                self.subject.loss(outputs, x, *to_spread(self.spread, mu, zero)).sum()
                for mu in (zero, one)
            )
            if abs(far - near - variants.LATENTS / 2) > 1e-3:
                raise ValueError("the loss is no sum in nats")

    def loss(self, outputs: Tensor, x: Tensor, posterior: tuple[Any, ...]) -> Tensor:
        if self.subject.loss is not None:
            return self.subject.loss(outputs, x, *posterior).sum()
        kl = self.subject.kl or (
            lambda *p: torch.distributions.kl_divergence(self.normal(p), Normal(0.0, 1.0))
        )
        each = zip(*(part.split(1) for part in posterior), strict=True)
        return self.nll(outputs, x) + sum(kl(*one).sum() for one in each)


def step_of(form: str, subject: Subject) -> tuple[Callable[[Any], Tensor], Any]:
    """Return the step of a variant in a form, and its batch."""
    parts = Parts(subject)
    x = torch.rand(EXAMPLES, *parts.shape)
    labels = torch.eye(LABELS)[torch.arange(EXAMPLES) % LABELS]
    if form == "textbook":

        def step(x: Tensor) -> Tensor:
            outputs, posterior = parts.forward(x)
            return parts.loss(outputs, x, posterior)

        return step, x
    if form == "lightning":
        parts.require_plain_weight()

        def training_step(batch: tuple[Tensor, Tensor]) -> Tensor:
            x, _ = batch
            q = parts.normal(posterior := parts.encode(x))
            z = parts.sample(posterior)
            kl = (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum()
            return (parts.nll(parts.decode(z), x) + kl) / len(x)

        return training_step, (x, labels)
    of_x, of_z = nn.Linear(LABELS, x[0].numel()), nn.Linear(LABELS, variants.LATENTS)

    def conditional(batch: dict[str, Tensor]) -> Tensor:
        image, label = batch["image"], batch["label"]
        posterior = parts.encode(image + of_x(label).view_as(image))
        z = parts.sample(posterior)
        outputs = parts.decode(z + of_z(label).view_as(z))
        return parts.loss(outputs, image, posterior)

    return conditional, {"image": x, "label": labels}


def is_an_elbo(subject: Subject) -> bool:
    """Whether a variant's loss is the negative ELBO without being declared to be another."""
    plain, own = Conventions(), subject.conventions
    return all(
        getattr(plain, name) == getattr(own, name)
        for name in ("beta", "kl_reduction", "nll_reduction")
    )


def audited(form: str, make: Callable[[], Subject], seed: int) -> Audit | None:
    """Audit a variant in a form; None if it cannot have the form."""
    torch.manual_seed(seed)
    subject = make()
    if not is_an_elbo(subject):
        return None
    try:
        step, batch = step_of(form, subject)
        step(batch)
    except (RuntimeError, ValueError, TypeError, StopIteration, AttributeError):
        return None
    return audit_step(step, batch, name=f"{make.__name__} as {form}")


def main() -> None:
    """Audit all variants in all forms, with fresh seeds."""
    torch.set_num_threads(1)
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    pairs = [(form, make) for make in variants.VARIANTS for form in FORMS]
    tally: Counter[str] = Counter()
    number = 0
    while sum(tally.values()) - tally["has no such form"] < runs:
        form, make = pairs[number % len(pairs)]
        with global_state_kept():
            found = audited(form, make, seed=number)
            if found is None:
                how = "has no such form"
            elif found.subject is None:
                how = "said not to be judged"
            else:
                how = "accused" if found.report.failures else found.report.verdict
        tally[how] += 1
        if how == "accused":
            failures = [(r.claim.id, r.message) for r in found.report.failures]
            print(f"{form} {make.__name__} seed {number}: {failures}", flush=True)
        number += 1
    for how, count in sorted(tally.items()):
        print(f"{count:6} {how}")


if __name__ == "__main__":
    main()
