"""Claims about the reasons that the guide gives for logvar, the sampler and the loss."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from vae_ref.conformance.answers.statistics import normal_quantile
from vae_ref.conformance.claims.guide import GUIDE
from vae_ref.conformance.claims.registry import claim
from vae_ref.conformance.probe.networks import Networks, changed
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, NotApplicable, Violation
from vae_ref.conformance.trainings import scoring
from vae_ref.conformance.trainings.trained import KL_ALONE, as_inputs, require_textbook, trained

_FLIPS = 20
"""How often the weights get other signs: of few latents, all may be positive by chance."""

_claim = partial(claim, slot="train", level="trained", seconds=120.0)
_NEEDS = ("module", "course", "encode", "decode", "loss")
_DRAWS = 20_000
"""How many draws of each estimator of the gradient are compared."""


@_claim(
    "training/kl-alone",
    statement="Trained with the KL alone, q becomes the prior, and the decoder does not change: "
    "it decodes every code as before.",
    formula=r"\min_q \mathrm{KL}(q\,\|\,p) = 0 \text{ at } \mu = 0,\; \log \sigma^2 = 0;"
    r" \quad \partial\,\mathrm{KL} / \partial\,\mathrm{decoder} = 0",
    source=f"Kingma and Welling 2014, equation 3; {GUIDE}",
    needs=(*_NEEDS, "forward"),
    kind="statistical",
    tolerance="a measure outside the interval of the reference's seeds; outputs bit for bit",
    kills=("kl-no-mu", "kl-no-variance"),
    trains=("KL alone",),
    builds_on=("kl/closed-form", "kl/gradient-mu", "kl/gradient-logvar"),
)
def kl_alone(probe: Probe) -> Finding:
    require_textbook(probe)
    z = Networks.of(probe).codes(100)
    with probe.mode(training=False), torch.no_grad():
        before = Networks.of(probe).decode(z)
    run = trained(probe, KL_ALONE)
    with run.loaded() as networks:
        mu, logvar = scoring.encode(networks, as_inputs(probe, probe.course.held_out))
        after = networks.decode(z)
    if not torch.equal(before, after):
        raise Violation("training with the KL alone changes the decoder", symptom="decoder moves")
    values = {
        "log10 of the KL": math.log10(run.scores[probe.course.brief].divergence),
        "rms of mu": float(mu.square().mean().sqrt()),
        "rms of logvar": float(logvar.square().mean().sqrt()),
    }
    return Finding(measures=values)


@_claim(
    "training/why-logvar",
    statement="The second head is negative for some inputs. If it is read as sigma, the gradients "
    "of the KL are then NaN; if it is read as logvar, every gradient is finite.",
    formula=r"\log \sigma \text{ is NaN for } \sigma < 0; \quad e^{\mathrm{logvar}/2} > 0",
    source=f"Kingma and Welling 2014, appendix C.2; {GUIDE}: why the encoder outputs log sigma^2",
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
    x, signs = as_inputs(probe, probe.course.held_out[:1000]), probe.generator("signs")
    for flips in (None, *[signs] * _FLIPS):
        with changed(module, signs=flips):
            with torch.no_grad():
                _, head = networks.encode(x)
            if negative := float((head < 0).double().mean()):
                _require_finite_as_logvar(networks, module, x)
                of = "its outputs" if flips is None else "its outputs, with other weights,"
                return Finding(
                    facts={"second head": f"{100 * negative:.0f} % of {of} are negative"}
                )
    raise Violation(
        "no output of the second head is negative, whatever the signs of the weights, so it is "
        "not log sigma^2, which is negative for a sigma below 1",
        symptom="never negative",
    )


def _require_finite_as_logvar(networks: Networks, module: nn.Module, x: Tensor) -> None:
    """Require that the gradients of the KL are finite, and not if the head is read as sigma."""
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
            "if the second head is read as sigma, the gradients of the KL are finite, though a "
            "negative number has no logarithm",
            symptom="sigma survives",
        )
    if not all(outcomes["logvar"]):
        raise Violation(
            "if the second head is read as logvar, the gradients of the KL are not finite",
            symptom="logvar fails",
        )


@_claim(
    "training/why-reparameterize",
    statement="If z is a plain draw from q, no gradient of the reconstruction reaches mu and "
    "logvar; if z = mu + sigma eps, it reaches both.",
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
    networks, x = Networks.of(probe), as_inputs(probe, probe.course.held_out[:50])
    for kind in ("plain", "reparameterized"):
        mu, logvar = networks.encode(x)
        if kind == "plain":
            z = torch.distributions.Normal(mu, torch.exp(logvar / 2)).sample()
        else:
            z = probe.z(mu, logvar)
        outputs = networks.decode(z).square().sum()
        heads = torch.autograd.grad(outputs, [mu, logvar], allow_unused=True)
        reached = [g is not None and bool((g != 0).any()) for g in heads]
        if kind == "plain" and any(reached):
            raise Violation("a gradient passes through a plain draw", symptom="plain draw")
        if kind == "reparameterized" and not all(reached):
            lost = " and ".join(n for n, r in zip(("mu", "logvar"), reached, strict=True) if not r)
            raise Violation(f"no gradient of the reconstruction reaches {lost}", symptom=lost)


def estimators(probe: Probe) -> tuple[Tensor, Tensor, Tensor]:
    """Return draws of three estimators of the gradient of -E_q[log p(x | z)] in mu.

    They are the reparameterized gradient, the score function, and the score function with a
    baseline.
    """
    run, x = trained(probe), as_inputs(probe, probe.course.held_out[:1])
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
    "and a variance that is larger by orders of magnitude; a baseline makes it smaller.",
    formula=r"E\big[f(z)\,\nabla_\mu \log q(z)\big] = E\big[\nabla_z f(z)\big],"
    r" \quad f = -\log p(x \mid z)",
    source="Kingma and Welling 2014, section 2.2; Mohamed et al. 2020, section 4",
    needs=(*_NEEDS, "forward"),
    kind="statistical",
    tolerance="equal means, up to the noise of 20,000 draws; ratios outside the reference's "
    "intervals",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
    builds_on=("training/loss", "objective/beta"),
)
def score_function(probe: Probe) -> Finding:
    require_textbook(probe)
    path, score, centred = estimators(probe)
    difference = path - score
    t = difference.mean(0) / difference.std(0) * math.sqrt(_DRAWS)
    limit = normal_quantile(probe.alpha / 2 / (2 * len(t)))  # half of alpha, by Bonferroni
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
    without_baseline, with_baseline = logs
    return Finding(measures=logs, order=((without_baseline, with_baseline),))
