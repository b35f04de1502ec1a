"""The bugs of the bank in three forms that training steps have.

python -m tests.conformance.forms [FORM]

audits every bug in every form. It counts how many are found and named, and how many are said not
to be judged. The loss of a step does not tell all bugs apart: twice the KL is a missing 1/2 or a
weight of 2. So a bug is named if the name is that of a bug with the same loss and gradients.
"""

import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from vae_ref.conformance.audited import Audit, audit_step
from vae_ref.conformance.auditing.audit import loss_of
from vae_ref.conformance.guards import global_state_kept
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.mutants.bank import Mutant
from vae_ref.conformance.mutants.specimen import PIXELS, Net
from vae_ref.conformance.mutants.specimen import specimen as right
from vae_ref.conformance.records import TEXTBOOK

EXAMPLES, LABELS = 6, 3

Step = tuple[Callable[[], Any], nn.Module]
"""A step, and the module whose parameters it trains."""


def parts(mutant: Mutant | None) -> tuple[Net, dict[str, Any], Callable[..., Any]]:
    """Return the module, the parts that a bug changes, and the loss."""
    changes: dict[str, Any] = (
        {} if mutant is None else {mutant.slot: mutant.function, **mutant.changes}
    )
    subject = right("form", **changes)
    assert isinstance(subject.module, Net)
    assert subject.loss is not None
    return subject.module, changes, subject.loss


def textbook(mutant: Mutant | None) -> Step:
    """Return the step of a script: the module's forward pass, then the loss function."""
    module, _, loss = parts(mutant)
    x = torch.rand(EXAMPLES, PIXELS)
    return (lambda: _loss(loss, module(x), x)), module


def _loss(loss: Callable[..., Any], answer: Any, x: Tensor) -> Any:
    outputs, *posterior = answer
    return loss(outputs, x, *posterior)


class Lightning(nn.Module):
    """A module whose ``training_step`` computes a KL from one draw of z."""

    def __init__(self, mutant: Mutant | None) -> None:
        super().__init__()
        self.net, changes, _ = parts(mutant)
        self.nll = changes.get("nll") or right("form").nll

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss of a batch of images and labels, per example."""
        x, _ = batch
        mu, logvar = self.net.encode(x)
        z = self.net.reparameterize(mu, logvar)
        q = torch.distributions.Normal(mu, torch.exp(0.5 * logvar))
        p = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
        kl = (q.log_prob(z) - p.log_prob(z)).sum()
        loss = (self.nll(self.net.decode(z), x).sum() + kl) / len(x)
        return {"loss": loss, "kl": kl.detach()}


def lightning(mutant: Mutant | None) -> Step:
    """Return the training step of a LightningModule with a sampled KL."""
    module = Lightning(mutant)
    batch = torch.rand(EXAMPLES, PIXELS), torch.zeros(EXAMPLES)
    return (lambda: module.training_step(batch, 0)), module


class WithLabel(nn.Module):
    """A layer that takes a label beside its input."""

    def __init__(self, layer: nn.Linear, label: list[Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(layer.in_features + LABELS, layer.out_features)
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to the input and the label."""
        answer: Tensor = self.layer(torch.cat([x, self.label[0]], 1))
        return answer


def conditional(mutant: Mutant | None) -> Step:
    """Return the step of a conditional VAE whose batches are dicts."""
    module, _, loss = parts(mutant)
    label: list[Tensor] = []
    for name in ("inner", "outer"):
        setattr(module, name, WithLabel(getattr(module, name), label))
    batch = {
        "image": torch.rand(EXAMPLES, PIXELS),
        "label": torch.eye(LABELS)[torch.arange(EXAMPLES) % LABELS],
    }

    def step() -> Any:
        label[:] = [batch["label"]]
        return {"total": _loss(loss, module(batch["image"]), batch["image"])}

    return step, module


FORMS: dict[str, Callable[[Mutant | None], Step]] = {
    "textbook": textbook,
    "lightning": lightning,
    "conditional": conditional,
}

_NO_PART = {"textbook": (), "lightning": ("kl", "loss"), "conditional": ()}
"""The slots of which a form has no part: the KL of a draw is computed elsewhere."""

_HIDDEN: dict[str, tuple[str, ...]] = {
    "textbook": (),
    "lightning": (  # it does not call the method forward in training
        *("model-forward-decodes-mu", "model-forward-samples-twice-the-noise"),
        *("model-outputs-swapped", "model-unused-layer", "conduct-grad-mode"),
        *("model-posterior-detached", "model-logvar-detached", "model-unregistered-layer"),
    ),
    "conditional": ("model-frozen-layer",),  # the layer is replaced by one that takes a label
}
"""Bugs that a form does not have."""

_BY_DESIGN = (
    *("kl-single-precision", "kl-half-precision", "model-casts-to-float32"),  # judged in double
    "kl-of-full-covariances",  # in which its variances do not underflow
    *("model-mean-in-evaluation", "z-mean-in-evaluation"),  # a step is in training mode
    "z-one-sigma-in-evaluation",
    *("model-no-sigmoid", "model-tanh-decoder", "conduct-mutates-inputs"),  # the step raises
    *("conduct-reseeds", "z-reseeds", "z-frozen-noise"),  # one step does not show it
    "z-noise-of-its-own",  # whether its generator is seeded is not in the step
    "nll-shifted",  # the targets of a prediction are others than the images
)
"""Bugs that no audit of one step can see."""

_SAID = ("no gradient reaches", "frozen", "not registered", "encoder", "decoder")
"""What an audit says of a step and does not accuse, since it may be meant."""


def bugs(form: str) -> list[Mutant]:
    """Return the bugs that a form does not hide."""
    left_out = ("bound", "train", *_NO_PART[form])
    hidden = (*_BY_DESIGN, *_HIDDEN[form])
    return [
        m
        for m in BANK.values()
        if m.part in TEXTBOOK and m.slot not in left_out and m.id not in hidden
    ]


def audited(form: str, mutant: Mutant | None, seed: int = 3) -> Audit:
    """Audit a bug in a form, or the correct program."""
    torch.manual_seed(seed)
    step, _ = FORMS[form](mutant)
    return audit_step(step, name=f"{form} {mutant.id if mutant else ''}")


def said(found: Audit) -> list[str]:
    """Return what an audit says of a wrong step where it does not accuse it."""
    return [found.found[name] for name in _SAID if name in found.found]


@cache
def computed(form: str, bug: str) -> str:
    """Return the loss and the sum of its slopes: equal for bugs that do not differ in a step."""
    with global_state_kept():
        torch.manual_seed(3)
        step, module = FORMS[form](BANK[bug])
        torch.manual_seed(5)
        loss = loss_of(step())
        assert loss is not None
        if loss.requires_grad:
            loss.backward()
        slopes = [p.grad.abs().sum() for p in module.parameters() if p.grad is not None]
    return f"{float(loss.detach()):.4g} {float(sum(slopes)):.4g}"


def alike(form: str, bug: Mutant) -> set[str]:
    """Return the names of the bugs that a step with a bug does not tell from it."""
    return {other.id for other in bugs(form) if computed(form, other.id) == computed(form, bug.id)}


def main() -> None:
    """Audit all bugs in all forms."""
    torch.set_num_threads(1)
    tally: Counter[tuple[str, str]] = Counter()
    for form in sys.argv[1:] or FORMS:
        for bug in bugs(form):
            with global_state_kept():
                found = audited(form, bug)
                failures = found.report.failures if found.subject else ()
            names = [f.diagnosis.bug for f in failures if f.diagnosis]
            how = (
                "named"
                if alike(form, bug) & set(names)
                else "found"
                if failures
                else "said"
                if found.reason or said(found)
                else "missed"
            )
            tally[form, how] += 1
            if how != "named":
                why = found.reason or " ".join(said(found))
                print(f"{form:12} {bug.id:32} {how:7} {', '.join(names) or why[:60]}")
    for (form, how), count in sorted(tally.items()):
        print(f"{form:12} {how:7} {count}")


if __name__ == "__main__":
    main()
