"""Claims about a trained VAE, by the kit's own score."""

import math
from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance.answers import oracles
from vae_ref.conformance.claims.registry import claim
from vae_ref.conformance.course import Course
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, NotApplicable, Violation
from vae_ref.conformance.trainings import scoring
from vae_ref.conformance.trainings.trained import Trained, as_inputs, require_textbook, trained

_NETWORK = ("module", "course", "forward", "loss")
_SCORED = (*_NETWORK, "encode", "decode")
_SOURCE = "Kingma and Welling 2014, section 5"
_SHARE = 0.05
"""By which share of the loss without a code a trained VAE has to be better.

At the end of its course, a right VAE is better by more than a quarter of that loss, on images of
all kinds, and one that has collapsed by nothing.
"""

_ERRORS = 5.0
"""How many standard errors a bound may lie above the estimate of log p(x)."""

_SAMPLES = 50
"""How many importance samples estimate log p(x)."""

_LOOPS = (
    "training/every-weight-learns",
    "training/learns-from-its-training-set",
    "training/fresh-noise",
    "training/follows-the-gradient",
)

_claim = partial(claim, slot="train", level="trained", seconds=120.0)


def _require_bernoulli(probe: Probe) -> Trained:
    """Return the training of a Bernoulli VAE; raise `NotApplicable` for another likelihood."""
    if not probe.likelihood.name.startswith("bernoulli"):
        raise NotApplicable("these claims are about a Bernoulli likelihood")
    return trained(probe)


def _loss_without_code(course: Course) -> float:
    """Return the loss of independent pixels, the best model without a code, nats per example."""
    p = Course.numbers(course.train, torch.float64).mean(0).clamp(1e-4, 1 - 1e-4)
    x = course.x.double()
    return float(oracles.FAMILIES["bernoulli"].nll(p.expand_as(x), x).sum(1).mean())


@_claim(
    "training/beats-the-mean-image",
    statement="After a short training, the bound is better than that of the best model without a "
    "code.",
    formula=r"E[L] < \min_p E[-\log p(x)], \quad p \text{ independent pixels}",
    source=_SOURCE,
    needs=_SCORED,
    kind="identity",
    tolerance="the loss of held-out images is 5 % below that of independent pixels",
    kills=("model-decoder-ignores-code", "train-collapsed"),
    builds_on=("objective/beta", "model/each-parameter-matters", "training/loss"),
)
def beats_the_mean_image(probe: Probe) -> Finding:
    run, best = _require_bernoulli(probe), _loss_without_code(probe.course)
    epoch, score = max(run.scores.items())
    if not score.loss < (1 - _SHARE) * best:
        raise Violation(
            f"after {epoch} epochs the loss is {score.loss:.2f} nats per example; without a code, "
            f"independent pixels have {best:.2f}",
            symptom="does-not-learn" if score.loss < 2 * best else "learns something else",
        )
    summary = (
        f"{score.loss:.2f} nats per example (reconstruction {score.reconstruction:.2f}, KL "
        f"{score.divergence:.2f}); {best:.2f} without a code"
    )
    return Finding(facts={"loss after training": summary})


@_claim(
    "training/codes-carry-information",
    statement="After training, an image is more likely given its own code than given another's.",
    formula=r"E[\log p(x_n \mid z_n)] > E[\log p(x_n \mid z_m)]",
    source="Bowman et al. 2016, posterior collapse",
    needs=_SCORED,
    kind="identity",
    tolerance="5 % of the loss without a code",
    kills=("model-decoder-ignores-code", "train-collapsed"),
    builds_on=("model/each-latent-matters", "objective/beta", "training/loss"),
)
def codes_carry_information(probe: Probe) -> None:
    run = _require_bernoulli(probe)
    with run.loaded() as networks:
        x = as_inputs(probe, probe.course.held_out[:1000])
        mu, logvar = scoring.encode(networks, x)
        z = mu + probe.normal("own code", *mu.shape).double() * torch.exp(logvar / 2)
        own, other = (float(scoring.nll(networks, z, x.roll(k, 0)).mean()) for k in (0, 1))
    if not other - own > _SHARE * _loss_without_code(probe.course):
        raise Violation(
            f"given its own code, an image has a loss only {other - own:.2f} nats lower than "
            "given another's: the posterior has collapsed",
            symptom="collapsed",
        )


@_claim(
    "training/bound-below-evidence",
    statement="After training, the negative loss of held-out images is below log p(x).",
    formula=r"-L \le \log p(x) \approx \log \tfrac1K \sum_k p(x, z_k) / q(z_k \mid x)",
    source="Burda, Grosse and Salakhutdinov 2016, theorem 1",
    needs=_SCORED,
    kind="identity",
    tolerance="5 standard errors of the difference between bound and estimate",
    kills=("loss-kl-weight-1e-6", "loss-no-kl"),
    builds_on=("objective/beta", "kl/closed-form", "likelihood/value"),
)
def bound_below_evidence(probe: Probe) -> Finding:
    run = _require_bernoulli(probe)
    with run.loaded() as networks:
        x = as_inputs(probe, probe.course.held_out[:200])
        log_w = scoring.log_weights(networks, x, _SAMPLES)
        evidence = torch.logsumexp(log_w, 0) - math.log(_SAMPLES)
        probe.subject.seed(probe.number("bound"))
        losses: list[Tensor] = []
        for row in x.split(1):
            outputs, *posterior = networks.forward(row)
            losses.append(probe.loss_as_is(outputs, row.flatten(1), *posterior).sum())
    difference = evidence + torch.stack(losses).double()
    mean, error = float(difference.mean()), float(difference.std()) / math.sqrt(len(x))
    if not mean > -_ERRORS * error:
        raise Violation(
            f"the negative loss is {-mean:.2f} nats above log p(x), so it is no lower bound",
            symptom="above-evidence",
        )
    gap = f"log p(x) is {mean:.2f} nats above the bound (K = {_SAMPLES})"
    return Finding(facts={"gap after training": gap})


@_claim(
    "training/loss",
    statement="The reconstruction, KL and loss of held-out images, scored by the kit, and the "
    "training loss are those of the reference after as many epochs: neither worse nor better.",
    formula=r"L_e \in \bar L_e \pm t_{\alpha/2,\,n-1}\, s_e \sqrt{1 + 1/n}",
    source=f"{_SOURCE}; the intervals are those of the reference's seeds",
    needs=_SCORED,
    kind="statistical",
    tolerance="a measure outside the interval of the reference's seeds",
    kills=("train-kl-over-batch", "train-pixels-divided-twice", "train-collapsed"),
    builds_on=("objective/beta", *_LOOPS, "training/reported-loss"),
)
def loss(probe: Probe) -> Finding:
    require_textbook(probe)
    run, values = trained(probe), {}
    for epoch, score in run.scores.items():
        if epoch not in probe.course.milestones:
            continue
        values[f"test reconstruction after {epoch}"] = score.reconstruction
        values[f"test KL after {epoch}"] = score.divergence
        values[f"test loss after {epoch}"] = score.loss
        if run.train:
            values[f"training loss after {epoch}"] = run.train[epoch - 1]
    return Finding(measures=values)


@_claim(
    "training/importance-weighted",
    statement="The bound of log p(x) rises with the number of samples as far as the reference's, "
    "and as many latents are active.",
    formula=r"\mathrm{ELBO} = L_1 \le L_{50} \le L_{500} \le L_{5000} \le \log p(x)",
    source="Burda, Grosse and Salakhutdinov 2016, theorem 1 and section 5.2",
    needs=_SCORED,
    kind="statistical",
    tolerance="a measure outside the interval of the reference's seeds",
    kills=("train-kl-over-batch", "train-collapsed"),
    builds_on=("training/loss", "objective/beta"),
)
def importance_weighted(probe: Probe) -> Finding:
    require_textbook(probe)
    images, samples = probe.course.importance
    with trained(probe).loaded() as networks:
        x = as_inputs(probe, probe.course.held_out)
        log_w = scoring.log_weights(networks, x[:images], samples)
        mu, _ = scoring.encode(networks, x)
    counts = [k for k in (1, 50, 500, 5000) if k <= samples]
    values = {f"bound with K = {k}": scoring.bound(log_w[:k]) for k in counts}
    values["active latents"] = float(scoring.active_latents(mu))
    order = (("bound with K = 50", "bound with K = 1"),)  # K = 500 gains less than seeds differ
    return Finding(measures=values, order=order)
