"""What is true of a VAE after a short training on images."""

import math

import torch
from torch import Tensor

from vae_ref.conformance.bench import Bench
from vae_ref.conformance.body import Body
from vae_ref.conformance.records import NotApplicable, Violation
from vae_ref.conformance.registry import claim
from vae_ref.conformance.trained import Trained, trained

_NEEDS = ("module", "images", "forward", "loss")
_SOURCE = "Kingma and Welling 2014, section 5"


def _run(bench: Bench) -> Trained:
    if not bench.likelihood.name.startswith("bernoulli"):
        raise NotApplicable("these claims are about a Bernoulli likelihood")
    return trained(bench)


@claim(
    "training/beats-the-mean-image",
    statement="After a short training the bound is better than the best model without a code.",
    formula=r"E[L] < \min_p E[-\log p(x)], \quad p \text{ independent pixels}",
    source=_SOURCE,
    needs=_NEEDS,
    kind="identity",
    tolerance="the loss of held-out images is below the entropy of the mean image by 5 %",
    kills=("model-decoder-ignores-code", "model-constant-encoder"),
    builds_on=("objective/beta", "model/each-parameter-matters"),
    level="trained",
    seconds=60.0,
)
def beats_the_mean_image(bench: Bench) -> None:
    run = _run(bench)
    bench.facts["loss after training"] = (
        f"{run.loss:.2f} nats per example; {run.mean_image:.2f} without a code"
    )
    if not run.loss < 0.95 * run.mean_image:
        raise Violation(
            f"after {run.epochs} epochs the loss is {run.loss:.2f} nats per example; independent "
            f"pixels alone have {run.mean_image:.2f}",
            symptom="does-not-learn",
        )


@claim(
    "training/codes-carry-information",
    statement="After training, an image is explained by its own code better than by another's.",
    formula=r"E[\log p(x_n \mid z_n)] > E[\log p(x_n \mid z_m)]",
    source="Bowman et al. 2016, posterior collapse",
    needs=_NEEDS,
    kind="identity",
    tolerance="by 5 % of the loss without a code",
    kills=("model-decoder-ignores-code",),
    builds_on=("model/each-latent-matters", "objective/beta"),
    level="trained",
    seconds=60.0,
)
def codes_carry_information(bench: Bench) -> None:
    run = _run(bench)
    gain = run.information
    if not gain > 0.05 * run.mean_image:
        raise Violation(
            f"an image's own code explains it by only {gain:.2f} nats better than another's: the "
            "posterior has collapsed",
            symptom="collapsed",
        )


@claim(
    "training/bound-below-evidence",
    statement="After training, the negative loss of held-out images is below log p(x).",
    formula=r"-L \le \log p(x) \approx \log \tfrac1K \sum_k p(x, z_k) / q(z_k \mid x)",
    source="Burda, Grosse and Salakhutdinov 2016, theorem 1",
    needs=(*_NEEDS, "encode", "decode"),
    kind="identity",
    tolerance="5 standard errors of the difference between bound and estimate",
    kills=("loss-kl-weight-1e-6", "loss-no-kl"),
    builds_on=("objective/beta", "kl/closed-form", "likelihood/value"),
    level="trained",
    seconds=60.0,
)
def bound_below_evidence(bench: Bench) -> None:
    run, body, samples = _run(bench), Body.of(bench), 50
    with run.weights(), bench.mode(training=False), torch.no_grad():
        x = run.held_out[:200]
        mu, logvar = (t.double() for t in body.encode(x))
        eps = bench.normal("importance", samples, *mu.shape).double()
        z = mu + eps * torch.exp(logvar / 2)
        outputs = body.decode(z.flatten(0, 1).to(body.dtype)).double()
        target = x.flatten(1).double().repeat(samples, 1)
        # A float32 probability may round to 0 or 1, where the logit is infinite.
        outputs = outputs.clamp(1e-7, 1 - 1e-7) if bench.likelihood.bounded else outputs
        nll = bench.likelihood.nll(outputs, target).sum(1).reshape(samples, -1)
        log_ratio = 0.5 * (eps**2 + logvar - z**2).sum(-1)
        log_w = log_ratio - nll
        evidence = torch.logsumexp(log_w, 0) - math.log(samples)
        bench.subject.seed(bench.number("bound"))
        losses: list[Tensor] = []
        for i in range(len(x)):
            outputs, *posterior = body.forward(x[i : i + 1])
            losses.append(bench.loss_as_is(outputs, x[i : i + 1].flatten(1), *posterior).sum())
    difference = evidence + torch.stack(losses).double()
    mean, error = float(difference.mean()), float(difference.std()) / math.sqrt(len(x))
    bench.facts["gap after training"] = f"log p(x) is {mean:.2f} nats above the bound (K = 50)"
    if not mean > -5 * error:
        raise Violation(
            f"the negative loss is {-mean:.2f} nats above log p(x): it is no bound",
            symptom="above-evidence",
        )
