"""What is true of the loss: reconstruction plus KL, the negative of a bound of log p(x)."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance.answers import oracles
from vae_ref.conformance.answers.comparison import agree
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.probe.terms import same
from vae_ref.conformance.records import Finding, NotApplicable, Violation

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
_SLACK = 1e-6


@claim(
    "objective/sum-of-parts",
    statement="The loss is a reconstruction term of (outputs, x) plus a term of (mu, logvar).",
    formula=r"L(\hat x, x, \mu, \sigma) = R(\hat x, x) + D(\mu, \sigma)",
    source=_ELBO,
    needs=_NEEDS,
    kind="identity",
    tolerance="32 roundings of the losses' absolute values",
    kills=("loss-product", "loss-kl-scaled-by-reconstruction"),
)
def sum_of_parts(probe: Probe) -> None:
    """The mixed second difference of a sum is zero."""
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
    agree(
        "the change of the loss with (mu, logvar), for other reconstructions,",
        loss[0][0] - loss[0][1],
        loss[1][0] - loss[1][1],
        scale=sum((value.abs() for row in loss for value in row), torch.zeros(())),
        dtype=probe.dtype,
        inputs={"mu": posteriors[0][0], "logvar": posteriors[0][1]},
    )


@claim(
    "objective/constant-weights",
    statement="Reconstruction and KL enter the loss with weights that are constant over elements "
    "and over the numbers of examples, latents and pixels.",
    formula=r"L = a\,\mathrm{NLL} + b\,\mathrm{KL} + c",
    source="Higgins et al. 2017, equation 4",
    needs=_NEEDS,
    kind="identity",
    tolerance="ratios agree to 1e-5",
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


def _weights(probe: Probe) -> tuple[float, float]:
    reconstruction, divergence = probe.weights
    if reconstruction is None or divergence is None:
        raise NotApplicable("the weights are not constant; see objective/constant-weights")
    return reconstruction, divergence


@claim(
    "objective/beta",
    statement="The KL weighs as much as the reconstruction.",
    formula=r"\beta = \frac{\partial L / \partial \mathrm{KL}}{\partial L / \partial \mathrm{NLL}}"
    r" = 1",
    source="Higgins et al. 2017, equation 4",
    needs=_NEEDS,
    kind="gradient",
    tolerance="1e-5; of a Gaussian or Laplace likelihood every weight is one of its scale",
    kills=("loss-beta-4", "loss-kl-weight-1e-6", "loss-no-kl", "loss-kl-without-half"),
    builds_on=(*_PARTS, "objective/constant-weights"),
)
def beta(probe: Probe) -> Finding:
    reconstruction, divergence = _weights(probe)
    found = divergence / reconstruction
    if not found > 0:
        lacks = "has no KL" if not found else "subtracts the KL"
        raise Violation(f"the effective beta is {found:.6g}: the loss {lacks}", symptom="no-kl")
    if not probe.likelihood.absolute:
        # a NLL + b KL = b (NLL / (b / a) + KL): the unit of the likelihood is b / a.
        name = "variance" if probe.likelihood.name == "gaussian" else "scale b"
        declared = probe.conventions.variance
        if declared is not None and abs(found / declared - 1) > same(probe.dtype):
            raise Violation(
                f"the implied {name} is {found:.6g}, not {declared:g} as declared",
                symptom="variance",
            )
        return Finding(facts={f"implied {name}": f"{found:.6g}"})
    if not abs(found / probe.conventions.beta - 1) <= same(probe.dtype):
        wanted = probe.conventions.beta
        raise Violation(
            f"the effective beta is {found:.6g}, not {wanted:g}"
            + ("" if wanted != 1 else ": the loss is not the negative ELBO"),
            symptom=f"beta {found:.3g}",
            counterexample={"inputs": {}, "expected": wanted, "got": found},
        )
    facts = {"effective beta": f"{found:.6g}"}
    if abs(reconstruction - 1) > same(probe.dtype):
        facts["scale of the loss"] = f"{reconstruction:.6g} of nats per batch"
    return Finding(facts=facts)


@claim(
    "objective/one-reduction",
    statement="Reconstruction and KL are reduced over the batch in the same way.",
    formula=r"L = \sum_n (R_n + \mathrm{KL}_n) \quad (\text{or the mean of both})",
    source="pytorch/examples issues 234, 290 and 294",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance="a batch given twice has twice the loss, or the same, to 1e-5",
    kills=("loss-sum-plus-batch-mean", "loss-mean-plus-sum"),
    builds_on=_PARTS,
)
def one_reduction(probe: Probe) -> Finding:
    first, second = (term.batch for term in probe.in_loss)
    if first != second or first == "neither":
        raise Violation(
            f"given twice, a batch has the reconstruction {_twice(first)} and the KL "
            f"{_twice(second)}: beta depends on the batch size",
            symptom=f"{first}-{second}",
        )
    return Finding(facts={"loss": f"{'summed' if first == 'sum' else 'averaged'} over the batch"})


def _twice(reduction: str) -> str:
    return {"sum": "doubled", "mean": "unchanged"}.get(reduction, "neither doubled nor unchanged")


@claim(
    "objective/short-last-batch",
    statement="A short last batch is weighted by its own size.",
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
    agree(
        "the loss of four examples, against three and one,",
        total(slice(0, 3)) + total(slice(3, 4)),
        whole,
        scale=whole.abs() + probe.pixels[0],
        dtype=probe.dtype,
        inputs={"mu": mu, "logvar": logvar},
    )


# Models whose answer is known: a code in the plane, a linear decoder.


class _Plane:
    """A decoder whose log p(x) is known by quadrature, scored by the subject's own loss."""

    def __init__(self, probe: Probe, name: str) -> None:
        reconstruction, divergence = _weights(probe)
        if probe.likelihood.absolute and probe.conventions.beta != 1:
            raise NotApplicable(
                f"with beta = {probe.conventions.beta:g} the loss is not the negative ELBO"
            )
        if "mean" in (probe.conventions.kl_reduction, probe.conventions.nll_reduction):
            raise NotApplicable("declared: means over latents or pixels, which bound nothing")
        if not probe.likelihood.absolute and not divergence:
            raise NotApplicable("the loss has no KL, so that no variance is implied")
        if probe.likelihood.name == "laplace":
            raise NotApplicable("quadrature is not exact for a likelihood with a corner")
        if probe.latents[-1] > 2:
            raise NotApplicable("codes of this shape do not lie in a plane")
        self.probe = probe
        # What the loss is divided by: of a Gaussian, whose scale is free, the KL sets it.
        self.unit = reconstruction if probe.likelihood.absolute else divergence
        self.variance = 1.0 if probe.likelihood.absolute else divergence / reconstruction
        pixels = probe.pixels[0]
        raw = probe.normal(f"{name} columns", pixels, 2).double()
        reach = math.sqrt(self.variance) if not probe.likelihood.absolute else 1.0
        self.columns = torch.linalg.qr(raw)[0] * 1.2 * reach
        self.offset = 0.3 * probe.normal(f"{name} offset", pixels).double() * reach
        noise = probe.normal(f"{name} x", 1, pixels).double()
        self.x = (
            (noise > 0).double()
            if probe.likelihood.name.startswith("bernoulli")
            else torch.sigmoid(noise)
            if probe.likelihood.absolute
            else self.offset + reach * noise
        )

    def outputs(self, z: Tensor) -> Tensor:
        """Decode codes, shape (n, 2)."""
        return self.probe.likelihood.outputs(z @ self.columns.T + self.offset)

    def log_likelihood(self, z: Tensor) -> Tensor:
        """Return log p(x | z) for each code, by the oracle."""
        nll = self.probe.likelihood.nll(self.outputs(z), self.x.expand(len(z), -1)).sum(1)
        if self.probe.likelihood.absolute:
            return -nll
        constant = 0.5 * self.x.numel() * math.log(2 * math.pi * self.variance)
        return -nll / self.variance - constant

    def constant(self) -> float:
        """Return what the loss leaves out of the negative log-likelihood of x."""
        if self.probe.likelihood.absolute:
            return 0.0
        prior = torch.zeros(1, 2, dtype=self.probe.dtype)
        x = self.x.to(self.probe.dtype)
        own = float(self.probe.loss_as_is(x, x, prior, prior).sum()) / self.unit
        return 0.5 * self.x.numel() * math.log(2 * math.pi * self.variance) - own

    def loss(self, mu: Tensor, logvar: Tensor, order: int = 12) -> Tensor:
        """Return E_q of the subject's loss, in nats: one call per node."""
        nodes, weights = oracles.plane(order)
        x, dtype = self.x.to(self.probe.dtype), self.probe.dtype
        heavy = weights > 1e-14
        total = torch.zeros((), dtype=torch.float64)
        for node, weight in zip(nodes[heavy], weights[heavy], strict=True):
            z = mu + node * torch.exp(logvar / 2)
            outputs = self.outputs(z).to(dtype)
            value = self.probe.loss_as_is(outputs, x, mu.to(dtype), logvar.to(dtype)).sum()
            total = total + weight * value.double()
        return total / self.unit + self.constant()

    def posteriors(self) -> list[tuple[Tensor, Tensor]]:
        """Return a narrow and a wide q, away from the prior."""
        rows = ((0.3, -0.4, -1.5, -1.0), (-0.8, 0.5, 0.2, -0.5))
        return [
            (torch.tensor([row[:2]]).double(), torch.tensor([row[2:]]).double()) for row in rows
        ]

    def size(self) -> float:
        """Return the size of what is added up, for the tolerances."""
        return float(self.log_likelihood(torch.zeros(1, 2).double()).abs()) + self.x.numel()


def _check(what: str, plane: _Plane, got: Tensor, exact: Tensor | float, scale: float) -> None:
    eps = torch.finfo(plane.probe.dtype).eps
    allowed = max(_SLACK, 1e3 * eps) * scale / (32 * eps)
    agree(
        what,
        got,
        torch.as_tensor(exact),
        scale=allowed,
        dtype=plane.probe.dtype,
        inputs={"x": plane.x},
    )


@claim(
    "objective/lower-bound",
    statement="The negative loss is never above log p(x).",
    formula=r"-L \le \log p(x)",
    source=_ELBO,
    needs=_NEEDS,
    kind="identity",
    tolerance="1e-6 relative: that of the quadrature",
    kills=("loss-kl-weight-1e-6", "loss-no-kl", "loss-kl-negated"),
    builds_on=_WEIGHTS,
)
def lower_bound(probe: Probe) -> None:
    plane = _Plane(probe, "bound")
    evidence = oracles.log_evidence(plane.log_likelihood)
    # Where the data are explained best, only the KL keeps the bound below log p(x).
    best = oracles.most_likely(plane.log_likelihood)
    for mu, logvar in [(best, torch.full_like(best, -5.0)), *plane.posteriors()]:
        bound = -float(plane.loss(mu, logvar))
        if not bound <= evidence + _SLACK * plane.size():
            raise Violation(f"the bound is {bound:.6g}, above log p(x) = {evidence:.6g}")


@claim(
    "objective/gap",
    statement="The gap of the bound is the KL divergence to the true posterior.",
    formula=r"\log p(x) + L = \mathrm{KL}(q(z)\,\|\,p(z \mid x))",
    source="Jordan et al. 1999",
    needs=_NEEDS,
    kind="identity",
    tolerance="1e-6 relative: that of the quadrature",
    kills=("loss-kl-weight-1e-6", "loss-beta-4", "loss-kl-without-half"),
    builds_on=(*_WEIGHTS, "likelihood/exact-range", "likelihood/gradient"),
)
def gap(probe: Probe) -> None:
    plane = _Plane(probe, "gap")
    evidence = oracles.log_evidence(plane.log_likelihood)
    for mu, logvar in plane.posteriors():
        exact = evidence + float(oracles.negative_elbo(plane.log_likelihood, mu, logvar))
        got = plane.loss(mu, logvar) + evidence
        _check("the gap between log p(x) and the bound", plane, got, exact, plane.size())


@claim(
    "objective/tight",
    statement="At the true posterior the bound is log p(x).",
    formula=r"q(z) = p(z \mid x) \;\Rightarrow\; -L = \log p(x)",
    source="Lucas et al. 2019; Tipping and Bishop 1999",
    needs=_NEEDS,
    kind="identity",
    tolerance="1e-6 relative: that of the quadrature",
    kills=("loss-kl-without-half", "loss-offset", "loss-no-kl"),
    builds_on=_WEIGHTS,
)
def tight(probe: Probe) -> None:
    """A linear-Gaussian posterior is Gaussian; for pixels of other kinds, z is left out."""
    plane = _Plane(probe, "tight")
    if probe.likelihood.absolute:
        plane.columns = torch.zeros_like(plane.columns)
        mu = logvar = torch.zeros(1, 2).double()
        evidence = float(plane.log_likelihood(mu))
        wide = torch.tensor([[0.5, -0.5]]).double()
        apart = float(plane.loss(wide, logvar)) - 0.25
        _check(
            "the loss next to the posterior", plane, torch.tensor(apart), -evidence, plane.size()
        )
    else:
        precision = 1 + (plane.columns**2).sum(0) / plane.variance
        residual = plane.x - plane.offset
        mu = (residual @ plane.columns / plane.variance) / precision
        logvar = -precision.log()[None]
        spread = plane.variance * torch.eye(plane.x.numel()) + plane.columns @ plane.columns.T
        law = torch.distributions.MultivariateNormal(plane.offset, spread.double())
        evidence = float(law.log_prob(plane.x))
    _check(
        "the loss at the true posterior", plane, plane.loss(mu, logvar), -evidence, plane.size()
    )


@claim(
    "objective/gradient",
    statement="Through z the loss has the gradient of the bound with respect to mu and logvar.",
    formula=r"E_\varepsilon[\nabla L(\mu + \sigma\varepsilon)] = -\nabla \mathrm{ELBO}",
    source="Kingma and Welling 2014, section 2.3",
    needs=_NEEDS,
    kind="gradient",
    tolerance="1e-6 relative: that of the quadrature",
    kills=("loss-kl-detached", "loss-reconstruction-detached", "loss-kl-without-half"),
    builds_on=(*_WEIGHTS, *_GRADIENTS),
)
def gradient(probe: Probe) -> None:
    probe.require_gradient("loss")
    plane = _Plane(probe, "gradient")

    def exact(mu: Tensor, logvar: Tensor) -> Tensor:
        return oracles.negative_elbo(plane.log_likelihood, mu, logvar)

    for mu, logvar in plane.posteriors():
        pairs: list[Callable[..., Tensor]] = [plane.loss, exact]
        got, due = (torch.cat(probe.gradient(f, mu, logvar)) for f in pairs)
        _check("the gradient of the loss", plane, got, due, plane.size())
