"""Claims about the reconstruction term, a negative log-likelihood."""

import math
from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance.answers.comparison import require_agreement, tolerance
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, NotApplicable, Violation

claim = partial(registry.claim, slot="nll")

_NEEDS = ("nll|loss",)
_TERMS = "32 roundings of the sum of the terms' absolute values"
_NAMED = ("likelihood/named",)
_BERNOULLI = "Kingma and Welling 2014, appendix C.1"
_DROPPED = 1e-9
"""The constant per pixel, in nats, below which it is reported as left out."""

_JITTER = 1e-9
"""The largest number that may be added to a probability inside a logarithm: it does no harm."""

_RELATIVE_ERROR = 0.01
"""The relative error from which a reconstruction term in single precision is reported as off."""


@claim(
    "likelihood/named",
    statement="The reconstruction term is the negative log-likelihood of a known distribution.",
    formula=r"R(\hat x, x) = -b \log p(x \mid \hat x) + c",
    source=_BERNOULLI,
    needs=_NEEDS,
    kind="identity",
    tolerance="ratios of differences are constant to 1e-5",
    kills=("nll-swapped", "nll-half-of-bce", "nll-double-sigmoid", "nll-cubed-error"),
)
def named(probe: Probe) -> None:
    if probe.found_likelihood is None:
        raise Violation(
            "the reconstruction term is not the negative log-likelihood of a Bernoulli, "
            "continuous Bernoulli, Gaussian or Laplace distribution",
            symptom="nameless",
        )


def _pair(probe: Probe, examples: int, pixels: int, name: str) -> tuple[Tensor, Tensor]:
    """Draw outputs and images; pixels keep away from the ends of [0, 1], where outputs do not."""
    real = 2 * probe.normal(f"{name} outputs {pixels}", examples, pixels)
    x = 0.02 + 0.96 * probe.uniform(f"{name} x {pixels}", examples, pixels)
    return probe.likelihood.outputs(real), x


def _rounding_scale(probe: Probe, outputs: Tensor, x: Tensor) -> Tensor:
    """Bound the terms of the usual formulas, and their change if a probability is rounded."""
    o, t = outputs.double(), x.double()
    size = probe.likelihood.nll(o, t).abs() + 1 + o.abs() + _cancellation(probe, o)
    odds = 1 / (o * (1 - o)) if probe.likelihood.bounded else o.abs()
    size = (size + odds) * probe.nll.tolerance_factor
    return size + _jitter(probe) * odds if probe.likelihood.bounded else size


def _jitter(probe: Probe) -> float:
    """Return how many times 32 roundings the jitter is that was found, if it is harmless."""
    found = probe.once("jitter", lambda: _measured_jitter(probe))
    return 2 * found / float(tolerance(probe.dtype, torch.tensor(1.0)))


def _measured_jitter(probe: Probe) -> float:
    """Return the number that is added to p in log p; 0 if it is none, or does harm."""
    numbers = []
    for p in (0.01, 0.2):
        outputs = torch.full((1, probe.pixels[0]), p, dtype=probe.dtype)
        value = probe.nll(outputs, torch.ones_like(outputs)).detach()
        mean = float(value) / probe.pixels[0]
        numbers.append(math.exp(-mean) - p)
    first, second = numbers
    is_one = abs(first - second) < 1e-3 * abs(first) + 1e-15
    return first if is_one and 1e-14 < first <= _JITTER else 0.0


def _cancellation(probe: Probe, outputs: Tensor) -> Tensor:
    """Bound the terms that cancel in log C of the continuous Bernoulli: it is 0/0 at p = 1/2."""
    if not probe.likelihood.name.startswith("continuous"):
        return torch.zeros_like(outputs)
    p = outputs if probe.likelihood.bounded else torch.sigmoid(outputs)
    return 1 / (1 - 2 * p).abs().clamp_min(1e-3)


def _factor(probe: Probe) -> float:
    """Return the factor of a term whose scale is free: of a Gaussian's, 1 / variance."""
    if probe.likelihood.absolute:
        return 1.0
    outputs, x = _pair(probe, 2, probe.pixels[0], "unit")
    other = probe.likelihood.outputs(outputs.detach() * 0.5)
    difference = probe.nll(outputs, x) - probe.nll(other, x)
    nll = probe.likelihood.nll
    exact = nll(outputs.double(), x.double()).sum() - nll(other.double(), x.double()).sum()
    return float(difference / exact)


@claim(
    "likelihood/value",
    statement="The value of the reconstruction term is that negative log-likelihood, summed over "
    "pixels; a Gaussian or Laplace distribution may leave out its constant.",
    formula=r"R = -\sum_i \log p(x_i \mid \hat x_i)",
    source=_BERNOULLI,
    needs=_NEEDS,
    kind="exact",
    tolerance=_TERMS,
    kills=("nll-mean-over-pixels", "nll-nominal-batch-size", "nll-offset", "nll-channel-mean"),
    builds_on=_NAMED,
)
def value(probe: Probe) -> Finding:
    factor = _factor(probe)
    sizes = [(1, probe.pixels[0])] + [(3, pixels) for pixels in probe.pixels]
    constants = []
    for examples, pixels in sizes:
        outputs, x = _pair(probe, examples, pixels, "value")
        exact = factor * probe.likelihood.nll(outputs.double(), x.double()).sum()
        got = probe.nll(outputs, x)
        scale = (factor * _rounding_scale(probe, outputs, x)).sum().abs()
        if not probe.likelihood.absolute:
            best = probe.likelihood.best(x)
            at_best = probe.nll(best, x)
            constants.append(float(at_best) / (examples * pixels))
            got, scale = got - at_best, scale + at_best.abs()
        require_agreement(
            "the reconstruction term",
            got,
            exact,
            scale=scale,
            dtype=probe.dtype,
            inputs={"outputs": outputs, "x": x},
        )
    if probe.likelihood.absolute:
        return Finding()
    kept = abs(constants[0]) >= _DROPPED
    constant = f"{constants[0]:.6g} nats per pixel" if kept else "dropped"
    return Finding(facts={"constant of the likelihood": constant})


@claim(
    "likelihood/gradient",
    statement="The gradient with respect to the outputs is that of the negative log-likelihood.",
    formula=r"\partial R / \partial \hat x = -\partial \log p(x \mid \hat x) / \partial \hat x",
    source=_BERNOULLI,
    needs=_NEEDS,
    kind="gradient",
    tolerance="32 roundings of the terms of the derivative",
    kills=("nll-detached", "nll-no-grad", "nll-mean-over-pixels", "nll-zero-at-half"),
    builds_on=(*_NAMED, "likelihood/value"),
)
def gradient(probe: Probe) -> None:
    factor = _factor(probe)
    pairs = [_pair(probe, 3, pixels, "gradient") for pixels in probe.pixels]
    middle = probe.likelihood.outputs(torch.zeros_like(pairs[0][0]))
    for outputs, x in [*pairs, (middle, pairs[0][1])]:
        got = probe.gradient(lambda o, x=x: probe.nll(o, x), outputs)[0]
        leaf = outputs.double().requires_grad_()
        exact = factor * torch.autograd.grad(probe.likelihood.nll(leaf, x.double()).sum(), leaf)[0]
        require_agreement(
            "the gradient of the reconstruction term",
            got,
            exact,
            scale=exact.abs() + abs(factor) * _gradient_scale(probe, outputs),
            dtype=probe.dtype,
            inputs={"outputs": outputs, "x": x},
        )


def _gradient_scale(probe: Probe, outputs: Tensor) -> Tensor:
    """Bound the terms of the derivative; in a probability p they are divided by p (1 - p)."""
    o = outputs.double()
    slope = 1 / (o * (1 - o)) ** 2 if probe.likelihood.bounded else 1 + o.abs()
    scale = (slope + _cancellation(probe, o) ** 2) * probe.nll.tolerance_factor
    return scale + _jitter(probe) * slope if probe.likelihood.bounded else scale


@claim(
    "likelihood/sum-over-pixels",
    statement="Pixels are independent given the code, so their terms are added, not averaged.",
    formula=r"R(\hat x, x) = \sum_i R(\hat x_i, x_i)",
    source=_BERNOULLI,
    needs=_NEEDS,
    kind="metamorphic",
    tolerance=_TERMS,
    kills=("nll-mean-over-pixels", "nll-mean-over-everything", "nll-root-of-squares"),
)
def sum_over_pixels(probe: Probe) -> None:
    if len(probe.pixels) < 2:
        raise NotApplicable(f"the function takes images of {probe.pixels[0]} pixels only")
    first, second = (_pair(probe, 3, pixels, "sum") for pixels in probe.pixels)
    outputs, x = (torch.cat(both, 1) for both in zip(first, second, strict=True))
    require_agreement(
        "the reconstruction term of two sets of pixels together",
        probe.nll(outputs, x),
        probe.nll(*first) + probe.nll(*second),
        scale=_rounding_scale(probe, outputs, x).sum() * max(1.0, abs(_factor(probe)))
        + probe.nll(outputs, x).abs(),
        dtype=probe.dtype,
        inputs={"outputs": outputs, "x": x},
    )


@claim(
    "likelihood/additive-over-examples",
    statement="The reconstruction term of a batch is the sum, or the mean, of those of its "
    "examples.",
    formula=r"R_{\mathrm{batch}} = \sum_n R_n \quad (\text{or their mean})",
    source="Kingma and Welling 2014, equation 8",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance=_TERMS,
    kills=("nll-first-example-only", "nll-divided-twice", "nll-optimal-variance"),
)
def additive_over_examples(probe: Probe) -> None:
    outputs, x = _pair(probe, 3, probe.pixels[0], "examples")
    one_by_one = sum(probe.nll(outputs[i : i + 1], x[i : i + 1]) for i in range(3))
    require_agreement(
        "the reconstruction term of a batch",
        probe.nll(outputs, x),
        torch.as_tensor(one_by_one),
        scale=_rounding_scale(probe, outputs, x).sum() * max(1.0, abs(_factor(probe)))
        + probe.nll(outputs, x).abs(),
        dtype=probe.dtype,
        inputs={"outputs": outputs, "x": x},
    )


@claim(
    "likelihood/order-of-pixels",
    statement="The reconstruction term does not depend on the order of the pixels.",
    formula=r"R(\hat x_\pi, x_\pi) = R(\hat x, x)",
    source="pixels are independent given the code",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance=_TERMS,
    kills=("nll-pixels-weighted", "nll-shifted"),
)
def order_of_pixels(probe: Probe) -> None:
    outputs, x = _pair(probe, 3, probe.pixels[0], "order")
    require_agreement(
        "the reconstruction term with the pixels in another order",
        probe.nll(outputs.flip(1), x.flip(1)),
        probe.nll(outputs, x),
        scale=_rounding_scale(probe, outputs, x).sum() * max(1.0, abs(_factor(probe)))
        + probe.nll(outputs, x).abs(),
        dtype=probe.dtype,
        inputs={"outputs": outputs, "x": x},
    )


@claim(
    "likelihood/minimum-at-data",
    statement="No output makes the data more likely than the output whose mean they are.",
    formula=r"R(\hat x^*, x) \le R(\hat x, x), \quad E[x \mid \hat x^*] = x",
    source="maximum likelihood in an exponential family: the mean equals the data",
    needs=_NEEDS,
    kind="identity",
    tolerance="the term rises by more than 32 roundings for a step of 0.2",
    kills=("nll-negated", "nll-swapped", "nll-half-of-bce", "nll-signed-residual"),
)
def minimum_at_data(probe: Probe) -> None:
    x = 0.2 + 0.6 * probe.uniform("minimum", 1, probe.pixels[0])
    best = probe.likelihood.best(x.double()).to(probe.dtype)
    least = float(probe.nll(best, x))
    bounded = probe.likelihood.bounded
    for step in (0.2, -0.2):
        other = torch.sigmoid(torch.logit(best) + step) if bounded else best + step
        value = float(probe.nll(other, x))
        if not value > least:
            raise Violation(
                f"the reconstruction term falls from {least:.6g} to {value:.6g} when the output "
                f"is moved by {step:+g}{' in logits' if bounded else ''} from its best value",
                symptom="minimum",
                counterexample={"inputs": {"outputs": other.tolist(), "x": x.tolist()}},
            )


@claim(
    "likelihood/exact-range",
    statement="The reconstruction term is exact for every probability between 1e-4 and 1 - 1e-4, "
    "and its gradient reaches the decoder there.",
    formula=r"R(\sigma(\eta), x) = x \log(1 + e^{-\eta}) + (1 - x) \log(1 + e^\eta)",
    source="pytorch/pytorch issue 36647; docs/derivation.md",
    needs=_NEEDS,
    kind="exact",
    tolerance=_TERMS,
    kills=("nll-clamped-probabilities", "nll-jitter-in-log"),
    builds_on=_NAMED,
)
def exact_range(probe: Probe) -> Finding:
    if not probe.likelihood.name.startswith("bernoulli"):
        raise NotApplicable("only a Bernoulli likelihood has probabilities near 0 and 1")
    for x_value in (0.0, 1.0):
        for logit in (-9.0, -5.0, 5.0, 9.0):
            outputs, x = (
                torch.full((1, probe.pixels[0]), v, dtype=probe.dtype) for v in (logit, x_value)
            )
            outputs = probe.likelihood.outputs(outputs)
            require_agreement(
                f"the reconstruction term at logit {logit:g}, x = {x_value:g},",
                probe.nll(outputs, x),
                probe.likelihood.nll(outputs.double(), x.double()).sum(),
                scale=_rounding_scale(probe, outputs, x).sum(),
                dtype=probe.dtype,
                inputs={"outputs": outputs, "x": x},
                symptom="clamped",
            )
    return Finding(facts={"reconstruction in float32": _range_in_float32(probe)})


def _range_in_float32(probe: Probe) -> str:
    """Say up to which wrong-side logit the reconstruction term is right in single precision."""
    for logit in range(1, 101):
        eta = torch.full((1, probe.pixels[0]), float(logit), dtype=torch.float32)
        leaf = probe.likelihood.outputs(eta).clone().requires_grad_()
        value = probe.nll(leaf, torch.zeros_like(eta)).detach()
        nearly = eta.double().sum()  # for each pixel, the term is eta + log(1 + exp(-eta))
        if abs(float(value) / float(nearly) - 1) > _RELATIVE_ERROR + math.exp(-logit):
            return f"off by more than 1 % from a wrong-side logit of {logit}"
    return "exact for wrong-side logits up to 100"
