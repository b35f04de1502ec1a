"""Why the text does as it does: logvar, the reparameterization, both terms of the loss."""

import math
from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance.answers.statistics import normal_quantile
from vae_ref.conformance.claims.registry import claim
from vae_ref.conformance.probe.networks import Networks
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, NotApplicable, Violation
from vae_ref.conformance.trainings import scoring
from vae_ref.conformance.trainings.trained import Variant, numbers, require_textbook, trained

_claim = partial(claim, slot="train", level="trained", seconds=120.0)
_NEEDS = ("module", "course", "encode", "decode", "loss")
ALONE = Variant("KL alone", distortion=0.0)
_DRAWS = 20_000


@_claim(
    "training/kl-alone",
    statement="With the KL alone q becomes the prior, and nothing moves the decoder: an image is "
    "decoded as it was before.",
    formula=r"\min_q \mathrm{KL}(q\,\|\,p) = 0 \text{ at } \mu = 0,\; \log \sigma^2 = 0;"
    r" \quad \partial\,\mathrm{KL} / \partial\,\mathrm{decoder} = 0",
    source="the text; Kingma and Welling 2014, equation 3",
    needs=(*_NEEDS, "forward"),
    kind="statistical",
    tolerance="a measure outside the interval of the reference's seeds; decoded bit for bit",
    kills=("kl-no-mu", "kl-no-variance"),
    builds_on=("kl/closed-form", "kl/gradient-mu", "kl/gradient-logvar"),
)
def kl_alone(probe: Probe) -> Finding:
    require_textbook(probe)
    z = Networks.of(probe).codes(100)
    with probe.mode(training=False), torch.no_grad():
        before = Networks.of(probe).decode(z)
    run = trained(probe, ALONE)
    with run.loaded() as networks:
        mu, logvar = scoring.encode(networks, numbers(probe, probe.course.held_out))
        after = networks.decode(z)
    if not torch.equal(before, after):
        raise Violation("the KL alone changes what codes decode to", symptom="decoder moves")
    values = {
        "log10 of the KL": math.log10(run.scores[probe.course.brief].divergence),
        "rms of mu": float(mu.square().mean().sqrt()),
        "rms of logvar": float(logvar.square().mean().sqrt()),
    }
    return Finding(measures=values)


@_claim(
    "training/why-logvar",
    statement="A head that is read as sigma is negative for some inputs, and the first step of "
    "its loss makes the encoder's weights NaN; read as logvar, every gradient is finite.",
    formula=r"\log \sigma \text{ is NaN for } \sigma < 0; \quad e^{\mathrm{logvar}/2} > 0",
    source="the text: why the encoder outputs log sigma^2",
    needs=(*_NEEDS, "kl|loss"),
    kind="identity",
    tolerance="none",
    kills=("model-softplus-on-logvar", "model-relu-on-logvar"),
    builds_on=("model/unconstrained-logvar",),
)
def why_logvar(probe: Probe) -> Finding:
    networks, module = Networks.of(probe), probe.subject.module
    assert module is not None  # noqa: S101
    if probe.conventions.spread != "logvar":
        raise NotApplicable(f"the second head is declared to be {probe.conventions.spread}")
    x = numbers(probe, probe.course.held_out[:1000])
    with torch.no_grad():
        _, head = networks.encode(x)
    negative = float((head < 0).double().mean())
    if negative == 0:
        raise Violation(
            "no output of the second head is negative: it cannot be log sigma^2, which must be "
            "able to be",
            symptom="never negative",
        )
    outcomes = {}
    for reading in ("sigma", "logvar"):
        module.zero_grad()
        mu, head = networks.encode(x)
        logvar = 2 * torch.log(head) if reading == "sigma" else head
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
        weights = [p for p in module.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(kl, weights, allow_unused=True)
        found = [g for g in gradients if g is not None]
        outcomes[reading] = [bool(torch.isfinite(g).all()) for g in found]
    if all(outcomes["sigma"]):
        raise Violation(
            "a head read as sigma has finite gradients, though a negative number has no logarithm",
            symptom="sigma survives",
        )
    if not all(outcomes["logvar"]):
        raise Violation(
            "the gradients of the KL are not finite for a head read as logvar",
            symptom="logvar fails",
        )
    return Finding(facts={"second head": f"{100 * negative:.0f} % of its outputs are negative"})


@_claim(
    "training/why-reparameterize",
    statement="Through a plain draw from q no gradient of the reconstruction reaches the encoder; "
    "through z = mu + sigma eps it reaches all that mu and logvar depend on.",
    formula=r"\partial f(z) / \partial \mu = 0 \text{ if } z \text{ is a number};"
    r" \quad = f'(z) \text{ if } z = \mu + \sigma \varepsilon",
    source="Kingma and Welling 2014, section 2.4",
    needs=("module", "course", "encode", "decode", "reparameterize"),
    kind="gradient",
    tolerance="none: a gradient exists or does not",
    kills=("z-from-distribution-sample", "z-no-grad"),
    builds_on=("reparameterization/gradient-mu", "reparameterization/gradient-logvar"),
)
def why_reparameterize(probe: Probe) -> None:
    probe.require_gradient("reparameterize")
    networks, x = Networks.of(probe), numbers(probe, probe.course.held_out[:50])
    for drawn in ("plain", "reparameterized"):
        mu, logvar = networks.encode(x)
        if drawn == "plain":
            z = torch.distributions.Normal(mu, torch.exp(logvar / 2)).sample()
        else:
            z = probe.z(mu, logvar)
        outputs = networks.decode(z).square().sum()
        heads = torch.autograd.grad(outputs, [mu, logvar], allow_unused=True)
        reached = [g is not None and bool((g != 0).any()) for g in heads]
        if drawn == "plain" and any(reached):
            raise Violation("a plain draw carries a gradient", symptom="plain draw")
        if drawn == "reparameterized" and not all(reached):
            lost = " and ".join(n for n, r in zip(("mu", "logvar"), reached, strict=True) if not r)
            raise Violation(f"no gradient of the reconstruction reaches {lost}", symptom=lost)


def estimators(probe: Probe) -> tuple[Tensor, Tensor, Tensor]:
    """Return draws of three estimators of the gradient of -E_q[log p(x | z)] in mu.

    The reparameterized gradient, the score-function estimator, and that with a baseline.
    """
    run, x = trained(probe), numbers(probe, probe.course.held_out[:1])
    with run.loaded(brief=True) as networks:
        mu, logvar = scoring.encode(networks, x)
        eps = probe.normal("score function", _DRAWS, mu.shape[1]).double()
        sigma = torch.exp(logvar / 2)
        paths, values = [], []
        for part in (mu + sigma * eps).split(1000):
            with torch.enable_grad():
                z = part.clone().requires_grad_()
                f = scoring.nll(networks, z, x)
                paths.append(torch.autograd.grad(f.sum(), z)[0])
            values.append(f.detach())
    f, score = torch.cat(values)[:, None], eps / sigma
    return torch.cat(paths), f * score, (f - f.mean()) * score


@_claim(
    "training/score-function",
    statement="The score-function estimator has the same mean as the reparameterized gradient "
    "and a variance that is larger by orders of magnitude; a baseline gives some of it back.",
    formula=r"E\big[f(z)\,\nabla_\mu \log q(z)\big] = E\big[\nabla_z f(z)\big],"
    r" \quad f = -\log p(x \mid z)",
    source="Kingma and Welling 2014, section 2.2; Mohamed et al. 2020, section 4",
    needs=(*_NEEDS, "forward"),
    kind="statistical",
    tolerance="equal means up to 20,000 draws' noise; ratios outside the reference's intervals",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
    builds_on=("training/loss", "objective/beta"),
)
def score_function(probe: Probe) -> Finding:
    require_textbook(probe)
    path, score, centred = estimators(probe)
    difference = path - score
    t = difference.mean(0) / difference.std(0) * math.sqrt(_DRAWS)
    limit = normal_quantile(probe.alpha / 2 / (2 * len(t)))  # half of the share; by Bonferroni
    if not float(t.abs().max()) <= limit:
        raise Violation(
            f"the score-function estimator and the reparameterized gradient differ by "
            f"{float(t.abs().max()):.1f} standard errors",
            symptom="biased",
        )
    variance = path.var(0).sum()
    ratios = {
        "log10 of the variance ratio": score.var(0).sum() / variance,
        "log10 of the variance ratio with a baseline": centred.var(0).sum() / variance,
    }
    logs = {name: float(ratio.log10()) for name, ratio in ratios.items()}
    plain, centred_too = logs
    return Finding(measures=logs, order=((plain, centred_too),))
