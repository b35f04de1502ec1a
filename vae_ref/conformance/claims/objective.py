"""Claims about the loss: reconstruction plus KL, the negative of a bound of log p(x)."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import accumulate, product
from operator import mul

import torch
from torch import Tensor

from vae_ref.conformance.answers import oracles
from vae_ref.conformance.answers.comparison import ROUNDINGS, require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.probe.terms import ratio_tolerance
from vae_ref.conformance.records import Finding, NotApplicable, Violation
from vae_ref.conformance.subject import Weights

claim = partial(registry.claim, slot="loss")

_NEEDS = ("loss",)
_ELBO = "Kingma and Welling 2014, equation 3"
_PARTS = (
    "kl/closed-form",
    "kl/sum-over-latents",
    "kl/additive-over-examples",
    "likelihood/named",
    "likelihood/value",
    "likelihood/additive-over-examples",
)
_GRADIENTS = ("kl/gradient-mu", "kl/gradient-logvar", "likelihood/gradient")
_WEIGHTS = (*_PARTS, "objective/constant-weights", "objective/beta")
_SHIFTS = (0.0, 0.3, -0.4)
"""By how much a learned scale is changed."""

_ERROR = 0.25
"""The difference between outputs and pixels that shows the weight of their distance."""

_LEAST_CHANGE = 0.01
"""The least change of the logarithm of that weight by which a parameter is a scale."""

_SAME_NORMALISER = 1e-3
"""How far weights from a learned scale may differ, relatively; the loss may be in float32."""

_QUADRATURE = 1e-6
"""The relative accuracy of the quadrature."""

_USUAL = (0.5, 1.0)
"""The variances that a sum of squares implies, and half of one."""

_NODES = 16
"""The nodes of the quadrature, each a call of the loss: the error is below 1e-9 (measured)."""


@claim(
    "objective/sum-of-parts",
    statement="The loss is a function of (outputs, x) plus a function of (mu, logvar).",
    formula=r"L(\hat x, x, \mu, \sigma) = R(\hat x, x) + D(\mu, \sigma)",
    source=_ELBO,
    needs=_NEEDS,
    kind="identity",
    tolerance="32 roundings of the losses' absolute values",
    kills=("loss-product", "loss-kl-scaled-by-reconstruction"),
)
def sum_of_parts(probe: Probe) -> None:
    """The mixed second difference of such a sum is zero."""
    shape, codes = (3, probe.pixels[0]), (3, probe.latents[0])
    pairs = [
        (
            probe.likelihood.outputs(probe.normal(f"outputs {i}", *shape)),
            probe.uniform(f"x {i}", *shape),
        )
        for i in range(2)
    ]
    posteriors = [
        (probe.normal(f"mu {i}", *codes), probe.normal(f"logvar {i}", *codes)) for i in range(2)
    ]
    loss = [[probe.loss_as_is(*p, *q).sum() for q in posteriors] for p in pairs]
    require_agreement(
        "the change of the loss with (mu, logvar), at another reconstruction,",
        loss[0][0] - loss[0][1],
        loss[1][0] - loss[1][1],
        scale=sum((value.abs() for row in loss for value in row), torch.zeros(())),
        dtype=probe.dtype,
        inputs={"mu": posteriors[0][0], "logvar": posteriors[0][1]},
    )


@claim(
    "objective/constant-weights",
    statement="Reconstruction and KL have constant weights in the loss, the same for all elements "
    "and for all numbers of examples, latents and pixels.",
    formula=r"L = a\,\mathrm{NLL} + b\,\mathrm{KL} + c",
    source="Higgins et al. 2017, equation 4",
    needs=_NEEDS,
    kind="identity",
    tolerance="ratios are constant to 1e-5",
    kills=("loss-kl-mean-over-latents", "loss-reconstruction-mean", "loss-swapped-posterior"),
    builds_on=_PARTS,
)
def constant_weights(probe: Probe) -> None:
    reconstruction, divergence = probe.weights
    if divergence is None:
        raise Violation(
            "the KL has no constant weight in the loss: it is not the KL, or it is averaged over "
            "the latents",
            symptom="kl-weight",
        )
    if reconstruction is None:
        raise Violation(
            "the reconstruction has no constant weight in the loss: it is no negative "
            "log-likelihood, or it is averaged over the pixels",
            symptom="reconstruction-weight",
        )


def _require_weights(probe: Probe) -> tuple[float, float]:
    """Return the weights of both terms; raise `NotApplicable` unless they are constant."""
    reconstruction, divergence = probe.weights
    if reconstruction is None or divergence is None:
        raise NotApplicable("the weights are not constant; see objective/constant-weights")
    return reconstruction, divergence


def _require_own_normaliser(probe: Probe, divergence: float) -> None:
    """Raise `Violation` if a scale that is learned has the normaliser of another scale.

    For a power p of |x - m| / s the density is exp(-w |x - m|^p / (p s^p)) / s, up to a constant.
    As s changes, the weight a of |x - m|^p becomes s^-p, and the constant grows by w log s. So it
    falls by w / p for each unit of log a, which is measured; w has to be the weight of the KL.
    """
    power = 2 if probe.likelihood.name == "gaussian" else 1
    module, x = probe.subject.module, probe.uniform("scale x", 3, probe.pixels[0])
    prior = torch.zeros(3, probe.latents[0], dtype=probe.dtype)
    each = (len(x) if probe.in_loss[0].batch == "mean" else 1) / x.numel()
    for parameter in module.parameters() if module else ():
        if parameter.numel() != 1:
            continue
        before, points = parameter.data, list[tuple[float, float]]()
        try:
            for shift in _SHIFTS:
                parameter.data = before + shift
                exact, near = (
                    float(probe.loss_as_is(x + error, x, prior, prior).sum())
                    for error in (0.0, _ERROR)
                )
                points.append((near - exact, exact * each))
        finally:
            parameter.data = before
        (a, c), *others = points
        if a <= 0 or any(b <= 0 or abs(math.log(b / a)) < _LEAST_CHANGE for b, _ in others):
            continue
        found = [power * (c - d) / math.log(b / a) for b, d in others]
        if max(found) - min(found) > _SAME_NORMALISER * abs(found[0]):
            continue  # it does something else
        wanted = divergence / probe.conventions.beta
        if abs(found[0] / wanted - 1) > _SAME_NORMALISER:
            raise Violation(
                "the density does not integrate to 1: as its learned scale changes, its "
                f"normaliser changes as that of {found[0] / wanted:.4g} times the likelihood, if "
                "the KL counts once",
                symptom="normaliser",
                counterexample={"inputs": {}, "expected": wanted, "got": found[0]},
            )


def _average(probe: Probe, variance: float) -> str:
    """Say which term of a step looks averaged in place of summed, by the variance it implies."""
    weights = probe.subject.weights
    if weights is None or any(math.isclose(variance, usual) for usual in _USUAL):
        return ""
    axes = (weights.examples, *(probe.conventions.latent_shape or ())[:-1])
    sizes = {n: f"{n} examples or events" for n in accumulate(axes, mul)}
    kl, reconstruction = "a KL", "a reconstruction term"
    for term, exponent, over in (
        (kl, 1, {weights.latents: f"{weights.latents} latents"} | sizes),
        (reconstruction, -1, {weights.pixels: f"{weights.pixels} pixels"} | sizes),
    ):
        for n, what in over.items():
            of_sum = variance * n**exponent
            if n > 1 and any(math.isclose(of_sum, usual, rel_tol=1e-5) for usual in _USUAL):
                other = reconstruction if term == kl else kl
                return f", that of {term} averaged over {what}, beside {other} that is not"
    return ""


@claim(
    "objective/beta",
    statement="The KL has the same weight in the loss as the reconstruction, and so has the "
    "normaliser of a scale that is learned.",
    formula=r"\beta = \frac{\partial L / \partial \mathrm{KL}}{\partial L / \partial \mathrm{NLL}}"
    r" = 1",
    source="Higgins et al. 2017, equation 4",
    needs=_NEEDS,
    kind="gradient",
    tolerance="1e-5; with a Gaussian or Laplace likelihood any weight is right for some scale",
    kills=(
        *("loss-beta-4", "loss-kl-weight-1e-6", "loss-no-kl", "loss-kl-without-half"),
        "loss-scale-of-another-variance",
    ),
    builds_on=(*_PARTS, "objective/constant-weights"),
)
def beta(probe: Probe) -> Finding:
    reconstruction, divergence = _require_weights(probe)
    found = divergence / reconstruction
    if not probe.likelihood.absolute:
        _require_own_normaliser(probe, divergence)
    if not found > 0:
        why = "has no KL" if not found else "subtracts the KL"
        raise Violation(f"the effective beta is {found:.6g}: the loss {why}", symptom="no-kl")
    if not probe.likelihood.absolute:
        # a NLL + b KL = b (NLL / (b / a) + KL): the scale of the likelihood is b / a.
        name = "variance" if probe.likelihood.name == "gaussian" else "scale b"
        declared = probe.conventions.variance
        if declared is not None and abs(found / declared - 1) > ratio_tolerance(probe.dtype):
            raise Violation(
                f"the implied {name} is {found:.6g}, but {declared:g} is declared",
                symptom="variance",
            )
        return Finding(facts={f"implied {name}": f"{found:.6g}{_average(probe, found)}"})
    if not abs(found / probe.conventions.beta - 1) <= ratio_tolerance(probe.dtype):
        wanted = probe.conventions.beta
        raise Violation(
            f"the effective beta is {found:.6g}, not {wanted:g}"
            + ("" if wanted != 1 else ": the loss is not the negative ELBO"),
            symptom=f"beta {found:.3g}",
            counterexample={"inputs": {}, "expected": wanted, "got": found},
        )
    facts = {"effective beta": f"{found:.6g}"}
    if abs(reconstruction - 1) > ratio_tolerance(probe.dtype):
        facts["scale of the loss"] = f"{reconstruction:.6g} of nats per batch"
    return Finding(facts=facts)


@claim(
    "objective/one-reduction",
    statement="Reconstruction and KL are reduced over the batch in the same way.",
    formula=r"L = \sum_n (R_n + \mathrm{KL}_n) \quad (\text{or the mean of both})",
    source="pytorch/examples issues 234, 290 and 294",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance="a batch given twice has twice the loss, or the same loss, to 1e-5",
    kills=("loss-sum-plus-batch-mean", "loss-mean-plus-sum"),
    builds_on=_PARTS,
)
def one_reduction(probe: Probe) -> Finding:
    weights = probe.subject.weights
    known: Iterable[str] = (term.batch for term in probe.in_loss)
    if weights is not None:
        known = _reductions_of_step(weights, ratio_tolerance(probe.dtype))
    first, second = known
    if first != second and weights is None and probe.weights[1] == 0:
        raise NotApplicable("the loss has no KL; see objective/beta")
    if first != second or first == "neither":
        raise Violation(
            f"a batch given twice has its reconstruction {_change(first)} and its KL "
            f"{_change(second)}: beta depends on the batch size",
            symptom=f"{first}-{second}",
        )
    words = {"sum": "summed over the batch", "mean": "averaged over the batch"}
    return Finding(facts={"loss": words[first]} if first in words else {})


def _reductions_of_step(weights: Weights, tolerance: float) -> tuple[str, str]:
    """Return how a step reduces both terms over the batch; "unknown" if that is not known.

    The sizes of its pieces do not vary. With every example given twice, a sum keeps its weight,
    and a mean has half of it. If both change by something else, too, their ratio tells.
    """
    twice, unknown = weights.twice, ("unknown", "unknown")
    if not (twice and twice.nll and twice.kl and weights.nll and weights.kl):
        return unknown

    def alike(change: float, due: float) -> bool:
        return abs(change / due - 1) <= tolerance

    nll, kl = twice.nll / weights.nll, twice.kl / weights.kl
    for first, second in product(("sum", "mean"), repeat=2):
        due = [0.5 if reduction == "mean" else 1.0 for reduction in (first, second)]
        if alike(nll, due[0]) and alike(kl, due[1]):
            return first, second
    if alike(kl / nll, 2.0):
        return "mean", "sum"
    return ("sum", "mean") if alike(kl / nll, 0.5) else unknown


def _change(reduction: str) -> str:
    return {"sum": "doubled", "mean": "unchanged"}.get(reduction, "neither doubled nor unchanged")


@claim(
    "objective/short-last-batch",
    statement="A short last batch is weighted by its own size, not by the nominal one.",
    formula=r"L(x_{1:4}) = L(x_{1:3}) + L(x_4) \quad (\text{or the weighted mean})",
    source="pytorch/examples pull request 296",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance="32 roundings of the loss",
    kills=("loss-nominal-batch-size",),
    builds_on=("objective/one-reduction", *_PARTS),
)
def short_last_batch(probe: Probe) -> None:
    outputs = probe.likelihood.outputs(probe.normal("outputs", 4, probe.pixels[0]))
    x = probe.uniform("x", 4, probe.pixels[0])
    mu, logvar = (probe.normal(n, 4, probe.latents[0]) for n in ("mu", "logvar"))
    mean = probe.in_loss[0].batch == "mean"

    def total(rows: slice) -> Tensor:
        part = [tensor[rows] for tensor in (outputs, x, mu, logvar)]
        return probe.loss_as_is(*part).sum() * (len(part[0]) if mean else 1)

    whole = total(slice(0, 4))
    require_agreement(
        "the loss of three examples and of one, together,",
        total(slice(0, 3)) + total(slice(3, 4)),
        whole,
        scale=probe.subject.rounding * (whole.abs() + probe.pixels[0]),
        dtype=probe.dtype,
        inputs={"mu": mu, "logvar": logvar},
    )


# Claims about a model whose log p(x) is known: it decodes one direction of the code, linearly.


class _KnownModel:
    """A model scored by the subject's loss; quadrature over t gives its log p(x).

    It decodes t, the length of the code along a unit vector v, as b t + c: for z ~ N(mu, sigma^2),
    t = v z ~ N(v mu, v^2 sigma^2).
    """

    def __init__(self, probe: Probe, name: str, v: tuple[float, float] = (0.8, -0.6)) -> None:
        reconstruction, divergence = _require_weights(probe)
        if probe.likelihood.absolute and probe.conventions.beta != 1:
            raise NotApplicable(
                f"with beta = {probe.conventions.beta:g} the loss is not the negative ELBO"
            )
        if "mean" in (probe.conventions.kl_reduction, probe.conventions.nll_reduction):
            raise NotApplicable("means over latents or pixels are declared, which are no bound")
        if not probe.likelihood.absolute and not divergence:
            raise NotApplicable("the loss has no KL, so it implies no variance")
        if not probe.likelihood.absolute and divergence / reconstruction < 0:
            raise Violation("a term is subtracted, so no variance makes the loss a negative ELBO")
        if probe.likelihood.name == "laplace":
            raise NotApplicable("quadrature is not exact for a likelihood with a corner")
        self.probe = probe
        # What one nat is in the loss; if the scale of the likelihood is free, only the KL tells.
        self.unit = reconstruction if probe.likelihood.absolute else divergence
        self.variance = 1.0 if probe.likelihood.absolute else divergence / reconstruction
        pixels = probe.pixels[0]
        self.v = torch.zeros(max(2, probe.latents[-1]), dtype=torch.float64)
        self.v[:2] = torch.tensor(v)
        reach = math.sqrt(self.variance) if not probe.likelihood.absolute else 1.0
        raw = probe.normal(f"{name} direction", pixels).double()
        self.direction = 1.2 * reach * raw / raw.norm()
        self.offset = 0.3 * probe.normal(f"{name} offset", pixels).double() * reach
        noise = probe.normal(f"{name} x", 1, pixels).double()
        self.x = (
            (noise > 0).double()
            if probe.likelihood.name.startswith("bernoulli")
            else torch.sigmoid(noise)
            if probe.likelihood.absolute
            else self.offset + reach * noise
        )

    def outputs(self, t: Tensor) -> Tensor:
        """Return the outputs for lengths of shape (n,)."""
        return self.probe.likelihood.outputs(t[:, None] * self.direction + self.offset)

    def log_likelihood(self, t: Tensor) -> Tensor:
        """Return log p(x | t) for each length, by the right formula."""
        nll = self.probe.likelihood.nll(self.outputs(t), self.x.expand(len(t), -1)).sum(1)
        if self.probe.likelihood.absolute:
            return -nll
        constant = 0.5 * self.x.numel() * math.log(2 * math.pi * self.variance)
        return -nll / self.variance - constant

    def constant(self) -> float:
        """Return the constant that the loss leaves out of the negative log-likelihood of x."""
        if self.probe.likelihood.absolute:
            return 0.0
        prior = torch.zeros(1, len(self.v), dtype=self.probe.dtype)
        x = self.x.to(self.probe.dtype)
        own = float(self.probe.loss_as_is(x, x, prior, prior).sum()) / self.unit
        return 0.5 * self.x.numel() * math.log(2 * math.pi * self.variance) - own

    def loss(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Return E_q of the subject's loss, in nats, with one call per node."""
        x, dtype = self.x.to(self.probe.dtype), self.probe.dtype
        posterior = mu.to(dtype), logvar.to(dtype)

        def values(t: Tensor) -> Tensor:
            each = (
                self.probe.loss_as_is(o, x, *posterior) for o in self.outputs(t).to(dtype)[:, None]
            )
            return torch.stack([value.sum() for value in each]).double()

        expected = oracles.expectation(values, *self.length(mu, logvar), _NODES)
        return expected / self.unit + self.constant()

    def negative_elbo(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Return -E_q[log p(x | z)] + KL(q || p), by the right formulas."""
        expected = oracles.expectation(self.log_likelihood, *self.length(mu, logvar))
        return oracles.kl(mu, logvar).sum() - expected

    def length(self, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation of t = v z under q."""
        return mu[0] @ self.v, (logvar[0].exp() @ self.v**2).sqrt()

    def posteriors(self) -> list[tuple[Tensor, Tensor]]:
        """Return (mu, logvar) of a narrow and of a wide q, both away from the prior."""
        rows = ((0.3, -0.4, -1.5, -1.0), (-0.8, 0.5, 0.2, -0.5))
        repeats = -(-len(self.v) // 2)
        filled = [torch.tensor(row).double().view(2, 2).repeat(1, repeats) for row in rows]
        return [(both[:1, : len(self.v)], both[1:, : len(self.v)]) for both in filled]

    def size(self) -> float:
        """Return the size of what the loss adds up, for the tolerances."""
        at_zero = self.log_likelihood(torch.zeros(1, dtype=torch.float64))
        return float(at_zero.abs()) + self.x.numel() + len(self.v)


def _require_near(what: str, known: _KnownModel, got: Tensor, exact: Tensor | float) -> None:
    """Raise `Violation` unless the subject's answer is exact, up to the accuracy of quadrature."""
    eps = torch.finfo(known.probe.dtype).eps
    relative = max(_QUADRATURE, 1e3 * eps)  # each of the nodes is rounded
    require_agreement(
        what,
        got,
        torch.as_tensor(exact),
        scale=relative * known.size() / (ROUNDINGS * eps),
        dtype=known.probe.dtype,
        inputs={"x": known.x},
    )


@claim(
    "objective/lower-bound",
    statement="The negative loss is never above log p(x).",
    formula=r"-L \le \log p(x)",
    source=_ELBO,
    needs=_NEEDS,
    seconds=60.0,
    kind="identity",
    tolerance="1e-6, the relative accuracy of quadrature",
    kills=("loss-kl-weight-1e-6", "loss-no-kl", "loss-kl-negated"),
    builds_on=_WEIGHTS,
)
def lower_bound(probe: Probe) -> None:
    known = _KnownModel(probe, "bound")
    evidence = oracles.log_evidence(known.log_likelihood)
    # At the code that makes x most likely, only the KL keeps the bound below log p(x).
    best = oracles.most_likely(known.log_likelihood) * known.v[None]
    for mu, logvar in [(best, torch.full_like(best, -5.0)), *known.posteriors()]:
        bound = -float(known.loss(mu, logvar))
        if not bound <= evidence + _QUADRATURE * known.size():
            raise Violation(f"the bound is {bound:.6g}, above log p(x) = {evidence:.6g}")


@claim(
    "objective/gap",
    statement="The gap between log p(x) and the bound is the KL divergence of q from the true "
    "posterior.",
    formula=r"\log p(x) + L = \mathrm{KL}(q(z)\,\|\,p(z \mid x))",
    source="Jordan et al. 1999",
    needs=_NEEDS,
    seconds=60.0,
    kind="identity",
    tolerance="1e-6, the relative accuracy of quadrature",
    kills=("loss-kl-weight-1e-6", "loss-beta-4", "loss-kl-without-half"),
    builds_on=(*_WEIGHTS, "likelihood/exact-range", "likelihood/gradient"),
)
def gap(probe: Probe) -> None:
    known = _KnownModel(probe, "gap")
    evidence = oracles.log_evidence(known.log_likelihood)
    for mu, logvar in known.posteriors():
        exact = evidence + float(known.negative_elbo(mu, logvar))
        got = known.loss(mu, logvar) + evidence
        _require_near("the gap between log p(x) and the bound", known, got, exact)


@claim(
    "objective/tight",
    statement="At the true posterior the bound is log p(x).",
    formula=r"q(z) = p(z \mid x) \;\Rightarrow\; -L = \log p(x)",
    source="Lucas et al. 2019; Tipping and Bishop 1999",
    needs=_NEEDS,
    seconds=60.0,
    kind="identity",
    tolerance="1e-6, the relative accuracy of quadrature",
    kills=("loss-kl-without-half", "loss-offset", "loss-no-kl"),
    builds_on=_WEIGHTS,
)
def tight(probe: Probe) -> None:
    """A linear-Gaussian posterior is Gaussian. For other pixels, let the decoder ignore z."""
    known = _KnownModel(probe, "tight", v=(1.0, 0.0))  # so that the posterior is diagonal
    mu, logvar = torch.zeros(2, 1, len(known.v), dtype=torch.float64)
    if probe.likelihood.absolute:
        known.direction = torch.zeros_like(known.direction)
        evidence = float(known.log_likelihood(mu[0, :1]))
        other = mu.clone()
        other[0, :2] = torch.tensor([0.5, -0.5])  # whose KL is 1/4
        without_kl = float(known.loss(other, logvar)) - 0.25
        _require_near(
            "the loss next to the posterior, less its KL,",
            known,
            torch.tensor(without_kl),
            -evidence,
        )
    else:
        precision = 1 + known.direction.square().sum() / known.variance
        residual = known.x[0] - known.offset
        mu[0, 0] = (residual @ known.direction / known.variance) / precision
        logvar[0, 0] = -precision.log()
        noise = known.variance * torch.eye(len(known.direction), dtype=torch.float64)
        covariance = noise + torch.outer(known.direction, known.direction)
        marginal = torch.distributions.MultivariateNormal(known.offset, covariance)
        evidence = float(marginal.log_prob(known.x))
    _require_near("the loss at the true posterior", known, known.loss(mu, logvar), -evidence)


@claim(
    "objective/gradient",
    statement="Averaged over the noise, the loss has the gradient of the negative ELBO in mu and "
    "logvar.",
    formula=r"E_\varepsilon[\nabla L(\mu + \sigma\varepsilon)] = -\nabla \mathrm{ELBO}",
    source="Kingma and Welling 2014, section 2.3",
    needs=_NEEDS,
    kind="gradient",
    tolerance="1e-6, the relative accuracy of quadrature",
    kills=("loss-kl-detached", "loss-reconstruction-detached", "loss-kl-without-half"),
    builds_on=(*_WEIGHTS, *_GRADIENTS),
)
def gradient(probe: Probe) -> None:
    probe.require_gradient("loss")
    known = _KnownModel(probe, "gradient")
    for mu, logvar in known.posteriors():
        functions: list[Callable[..., Tensor]] = [known.loss, known.negative_elbo]
        got, right = (torch.cat(probe.gradient(f, mu, logvar)) for f in functions)
        _require_near("the gradient of the loss", known, got, right)
