"""Claims about the parts of the KL that beta-TC-VAE weighs, as a batch estimates them."""

import math
from functools import partial
from itertools import permutations, product
from typing import Any

import torch
from torch import Tensor

from vae_ref.conformance.answers.comparison import ROUNDINGS, require_agreement, tolerance
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Violation

__all__ = ["answer", "require_mean", "require_slope"]

_TERMS = "32 roundings of the sum of the terms' absolute values, and one in float32 of constants"
_CHEN = "Chen et al. 2018"
_NAMES = {
    "decomposition": ("mutual information", "total correlation", "dimension-wise KL"),
    "total_correlation": ("total correlation",),
}
_SIZES = ((3, 5, 10), (4, 2, 100), (2, 1, 7))  # examples, latents, size of the data set
_NATS = 0.15  # what a batch of 500 on a lattice may be wrong by, twice what it is

of_weights = partial(
    registry.claim,
    slot="stratified_log_weights",
    source=f"{_CHEN}, appendix C.2",
    needs=("stratified_log_weights",),
)
of_parts = partial(
    registry.claim,
    slot="decomposition",
    source=f"{_CHEN}, equation 2",
    needs=("decomposition",),
    tolerance=_TERMS,
    builds_on=("disentangling/decomposition",),
)
of_tc = partial(
    registry.claim,
    slot="total_correlation",
    source=f"{_CHEN}, equation 2",
    needs=("total_correlation",),
    tolerance=_TERMS,
    builds_on=("disentangling/total-correlation",),
)

Given = tuple[Tensor, Tensor, Tensor]


def answer(probe: Probe, slot: str, *given: Any) -> Any:
    """Call a function of the subject with copies of tensors."""
    with probe.calling():
        return getattr(probe.subject, slot)(
            *(value.clone() if isinstance(value, Tensor) else value for value in given)
        )


def require_mean(
    probe: Probe,
    what: str,
    found: Tensor,
    exact: Tensor,
    *,
    scale: Tensor,
    inputs: dict[str, Any],
) -> None:
    """Compare what a function makes of a batch: first the mean, so that all forms are alike.

    Args:
        probe: The probe.
        what: What is compared.
        found: One number for each example, or the one mean.
        exact: One number for each example.
        scale: The size of what was added up, for each example.
        inputs: What the subject was given.
    """
    require = partial(require_agreement, dtype=probe.dtype, inputs=inputs)
    require(f"the mean {what} of a batch", found.mean(), exact.mean(), scale=scale.mean())
    if found.numel() == exact.numel():
        require(f"the {what} of an example", found, exact, scale=scale)


def require_slope(
    probe: Probe,
    what: str,
    by: str,
    found: Tensor,
    exact: Tensor,
    *,
    scale: Tensor | float,
    inputs: dict[str, Any],
) -> None:
    """Compare a slope; one that is missing is said to be."""
    if not bool(found.any()) and bool(exact.any()):
        raise Violation(
            f"no gradient of {what} reaches {by}: it is detached, or not used",
            symptom=f"no-gradient-of-{by.removeprefix('the ')}",
        )
    name = f"the derivative of {what} with respect to {by}"
    require_agreement(name, found, exact, scale=scale, dtype=probe.dtype, inputs=inputs)


def _given(probe: Probe, name: str, examples: int, latents: int) -> Given:
    """Draw posteriors and a code of each; nobody is far from the others."""
    mu, spread, eps = (
        probe.normal(f"{name} {part} {examples}", examples, latents)
        for part in ("mu", "logvar", "eps")
    )
    logvar = 0.5 * spread
    return mu + eps * torch.exp(logvar / 2), mu, logvar


def _named(given: Given) -> dict[str, Tensor]:
    return dict(zip(("z", "mu", "logvar"), given, strict=True))


def _weights(sampling: str, examples: int, data: int) -> Tensor:
    """Return every matrix of weights that is right: strata may be filled in any order."""
    if sampling != "stratified":
        each = _row_sum(sampling, examples, data) / examples
        return torch.full((1, examples, examples), each, dtype=torch.float64)
    m = examples - 1
    even = torch.full((examples, examples), (data - 1) / (data * m), dtype=torch.float64)
    found = [even.fill_diagonal_(1 / data)]
    others = ([j for j in range(examples) if j != i] for i in range(examples))
    for last in product(*others):
        weights = torch.full_like(even, 1 / m).fill_diagonal_(1 / data)
        weights[range(examples), last] = (data - m) / (data * m)
        found.append(weights)
    return torch.stack(found)


def _row_sum(sampling: str, examples: int, data: int) -> float:
    return {"weighted": 1 / data, "unweighted": float(examples)}.get(sampling, 1.0)


def _exact(weights: Tensor, z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the three parts, from densities, not from their logarithms: (weights, parts, n)."""
    variance = torch.exp(logvar)
    distance = z.unsqueeze(1) - mu
    each = torch.exp(-distance.square() / (2 * variance)) / torch.sqrt(2 * math.pi * variance)
    joint = each.prod(-1)
    q = (weights * joint).sum(-1)
    marginals = (weights.unsqueeze(-1) * each).sum(-2).prod(-1)
    prior = (torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)).prod(-1)
    own = joint.diagonal()
    return torch.stack([own / q, q / marginals, marginals / prior], 1).log()


def _scale(probe: Probe, z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the size of the terms of the logarithms of densities, for each example."""
    distance = (z.abs().unsqueeze(1) + mu.abs()).square() * torch.exp(-logvar)
    terms = 2 + logvar.abs() + (1 + logvar.abs()) * distance
    constants = 10 * (1 + z.shape[1]) * max(1.0, _single(probe) / ROUNDINGS)
    return terms.sum(-1).amax(1) + z.square().sum(-1) + constants


def _single(probe: Probe) -> float:
    """Return how large a rounding of float32 is, in which weights and log(NB) often are."""
    return torch.finfo(torch.float32).eps / torch.finfo(probe.dtype).eps


def _sampling(probe: Probe) -> str:
    sampling: str = probe.fields.sampling
    return sampling


def _parts(probe: Probe, slot: str, given: Given, data: int) -> list[Tensor]:
    """Return what the subject makes of a batch: flat, one number per example or one in all."""
    z, mu, logvar = given
    returned = answer(probe, slot, z, *probe.posterior(mu, logvar), data)
    found = list(returned) if isinstance(returned, tuple | list) else [returned]
    if len(found) != len(_NAMES[slot]):
        raise Violation(
            f"{slot} returned {len(found)} values, not {len(_NAMES[slot])}", symptom="number"
        )
    for part in found:
        if not isinstance(part, Tensor) or part.numel() not in (1, len(z)):
            kind = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise Violation(
                f"{slot} returned {kind} for {len(z)} examples, not a number for each or one in "
                "all",
                symptom="shape",
            )
    return [part.reshape(-1) for part in found]


def _nearest(found: list[Tensor], exact: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the subject's parts, with a sum made a mean, and the nearest parts that are right."""
    examples = exact.shape[-1]
    best = None
    for factor in (1, 1 / examples):
        mine = [part if part.numel() == examples else factor * part for part in found]
        for right in exact:
            pairs = zip(mine, right, strict=True)
            apart = sum(
                float((m.detach() - (r if m.numel() == examples else r.mean())).abs().mean())
                for m, r in pairs
            )
            if best is None or apart < best[0]:
                best = apart, mine, right
    assert best is not None  # noqa: S101 - there is always one
    return best[1], best[2]


def _chosen(slot: str, exact: Tensor) -> Tensor:
    return exact if slot == "decomposition" else exact[:, 1:2]


def _agree(probe: Probe, mine: list[Tensor], right: Tensor, scale: Tensor) -> bool:
    allowed = tolerance(probe.dtype, scale.mean())
    return all(
        bool((part.detach().double().mean() - r.mean()).abs() <= allowed)
        for part, r in zip(mine, right, strict=True)
    )


def _require_parts(probe: Probe, slot: str, name: str) -> None:
    sampling = _sampling(probe)
    for examples, latents, data in _SIZES:
        given = _given(probe, name, examples, latents)
        wide = [tensor.double() for tensor in given]
        scale = _scale(probe, *wide)
        found = _parts(probe, slot, given, data)
        exact_of = {
            name: _nearest(found, _chosen(slot, _exact(_weights(name, examples, data), *wide)))
            for name in (sampling, "unweighted", "weighted", "batch", "stratified")
        }
        fits = [name for name, pair in exact_of.items() if _agree(probe, *pair, scale)]
        if sampling not in fits and fits:
            raise Violation(
                f"{slot} has the weights of sampling={fits[0]!r}, not of {sampling!r}; if they "
                "are meant, declare them",
                symptom=f"{fits[0]}-not-{sampling}",
            )
        mine, right = exact_of[sampling]
        for what, part, exact in zip(_NAMES[slot], mine, right, strict=True):
            inputs = {**_named(given), "data": data}
            require_mean(probe, what, part, exact, scale=scale, inputs=inputs)


def _require_slopes(probe: Probe, slot: str) -> None:
    probe.require_gradient(slot)
    sampling = _sampling(probe)
    examples, latents, data = _SIZES[0]
    given = _given(probe, "slopes", examples, latents)
    leaves = [tensor.double().requires_grad_() for tensor in given]
    exact = _chosen(slot, _exact(_weights(sampling, examples, data), *leaves))
    mixed = torch.tensor([1.0, 2.0, -0.5]).double()[: exact.shape[1]]

    def found(*inputs: Tensor) -> Tensor:
        parts = _parts(probe, slot, (inputs[0], inputs[1], inputs[2]), data)
        mine, _ = _nearest(parts, exact.detach())
        return torch.stack([c * part.mean() for c, part in zip(mixed, mine, strict=True)]).sum()

    slopes = [slope.double() for slope in probe.gradient(found, *given)]
    rights = [
        torch.autograd.grad((mixed @ right).mean(), leaves, retain_graph=True) for right in exact
    ]
    right = min(
        rights,
        key=lambda r: sum(float((a - b).abs().sum()) for a, b in zip(slopes, r, strict=True)),
    )
    wide = [tensor.detach() for tensor in leaves]
    pull = (1 + wide[0].abs().max() + wide[1].abs().max()).square()
    weights = _single(probe) if sampling == "stratified" else 1.0
    scale = 10 * pull * torch.exp(wide[2].abs().max()) * weights
    for name, mine, exactly in zip(("z", "mu", "logvar"), slopes, right, strict=True):
        inputs = {**_named(given), "data": data}
        require_slope(probe, slot, name, mine, exactly, scale=scale, inputs=inputs)


def _require_equal_posteriors(probe: Probe, slot: str, away: float) -> None:
    """If all posteriors are one Gaussian, q(z) is that Gaussian times the sum of the weights."""
    sampling = _sampling(probe)
    examples, latents, data = 4, 3, 50
    mu, spread = probe.normal("one mu", 1, latents), probe.normal("one logvar", 1, latents)
    z = mu + torch.exp(spread / 4) * (probe.normal("one eps", examples, latents) + away)
    given = (z, mu.repeat(examples, 1), (spread / 2).repeat(examples, 1))
    wide = [tensor.double() for tensor in given]
    eps = (wide[0] - wide[1]) * torch.exp(-wide[2] / 2)
    kl = 0.5 * (wide[0].square() - eps.square() - wide[2]).sum(-1)
    log_sum = math.log(_row_sum(sampling, examples, data))
    one = torch.ones_like(kl)
    right = torch.stack(
        [-log_sum * one, (1 - latents) * log_sum * one, kl + latents * log_sum]
    ).unsqueeze(0)
    mine, exact = _nearest(_parts(probe, slot, given, data), _chosen(slot, right))
    for what, part, exactly in zip(_NAMES[slot], mine, exact, strict=True):
        inputs = {**_named(given), "data": data}
        require_mean(probe, what, part, exactly, scale=_scale(probe, *wide), inputs=inputs)


def _require_gaussian(probe: Probe, slot: str) -> None:
    """Compare with a data set whose q(z) is a Gaussian: a lattice stands for draws."""
    sampling = _sampling(probe)
    examples = data = 500
    steps = 1.1673039782614187 ** -torch.arange(1, 5).double()
    lattice = (0.5 + torch.arange(1, examples + 1).unsqueeze(1) * steps) % 1
    drawn = math.sqrt(2) * torch.erfinv(2 * lattice - 1)
    mixing = torch.tensor([[1.5, 0.0], [1.6, 0.7]]).double()
    variance = torch.tensor([0.5, 0.4]).double()
    mu = drawn[:, :2] @ mixing.T
    z = mu + variance.sqrt() * drawn[:, 2:]
    given = tuple(t.to(probe.dtype) for t in (z, mu, variance.log().expand(examples, 2)))
    whole = mixing @ mixing.T + torch.diag(variance)
    log_det, variances = torch.logdet(whole), whole.diagonal()
    log_sum = math.log(_row_sum(sampling, examples, data))
    right = torch.stack(
        [
            0.5 * (log_det - variance.log().sum()) - log_sum,
            0.5 * (variances.log().sum() - log_det) - log_sum,
            0.5 * (variances - 1 - variances.log()).sum() + 2 * log_sum,
        ]
    )
    exact = _chosen(slot, right.view(1, 3, 1).expand(1, 3, examples))
    mine, exact = _nearest(_parts(probe, slot, given, data), exact)  # type: ignore[arg-type]
    scale = torch.tensor(_NATS) / tolerance(probe.dtype, torch.ones(()))
    for what, part, exactly in zip(_NAMES[slot], mine, exact, strict=True):
        require_agreement(
            f"the mean {what} of 500 codes with a Gaussian aggregate",
            part.mean(),
            exactly.mean(),
            scale=scale,
            dtype=probe.dtype,
            inputs={"covariance": whole, "variance": variance},
        )


def _log_weights(probe: Probe, examples: int, data: int) -> Tensor:
    found = answer(probe, "stratified_log_weights", examples, data)
    if not isinstance(found, Tensor) or found.shape != (examples, examples):
        kind = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise Violation(
            f"stratified_log_weights returned {kind} for {examples} examples, not a matrix",
            symptom="shape",
        )
    return found.detach().double()


@of_weights(
    "disentangling/stratified-weights-unbiased",
    statement="The average of the stratified estimate, over all batches that contain the example "
    "of z, is q(z).",
    formula=r"\frac{1}{|\mathcal B_n|} \sum_{B \ni n} \sum_j w_{ij}\,q(z_i \mid x_{B_j}) = "
    r"\frac1N \sum_{m=1}^N q(z_i \mid x_m)",
    kind="exact",
    tolerance="32 roundings of the sum of the densities, in float32",
    kills=(
        "stratified-weights-in-a-column",
        "stratified-weights-of-the-batch",
        "stratified-weights-without-the-rest",
        "stratified-weights-not-logarithms",
    ),
)
def stratified_weights_unbiased(probe: Probe) -> None:
    """A data set of five or four densities: every batch, in every order, is enumerated."""
    for examples, data in ((3, 5), (2, 4), (4, 4)):
        weights = torch.exp(_log_weights(probe, examples, data))
        density = (0.1 + probe.uniform(f"densities {data}", data)).double()
        for row in range(examples):
            own, rest = density[0], range(1, data)
            total, batches = torch.zeros(()).double(), 0
            for order in permutations(rest, examples - 1):
                others = torch.stack([density[list(order)][k] for k in range(examples - 1)])
                batch = torch.cat([others[:row], own.view(1), others[row:]])
                total, batches = total + weights[row] @ batch, batches + 1
            require_agreement(
                f"the average estimate of q(z) in row {row} of batches of {examples} of {data}",
                total / batches,
                density.mean(),
                scale=density.sum(),
                dtype=torch.float32,
                inputs={"densities": density, "batch": examples, "data": data},
            )


@of_weights(
    "disentangling/stratified-weights-sum-to-one",
    statement="The stratified weights of a code add up to one, over the batch.",
    formula=r"\sum_j w_{ij} = 1",
    kind="identity",
    tolerance="32 roundings of one, in float32",
    kills=("stratified-weights-in-a-column", "stratified-weights-not-logarithms"),
    builds_on=("disentangling/stratified-weights-unbiased",),
)
def stratified_weights_sum_to_one(probe: Probe) -> None:
    for examples, data in ((4, 100), (2, 9), (7, 7)):
        found = _log_weights(probe, examples, data)
        require_agreement(
            f"the sum of the weights of a row, for batches of {examples} of {data},",
            torch.exp(found).sum(1),
            torch.ones(examples),
            scale=1.0,
            dtype=torch.float32,
            inputs={"batch": examples, "data": data},
        )


@of_parts(
    "disentangling/decomposition",
    statement="The three parts of the KL have the values that the weights of the declared "
    "sampling give.",
    formula=r"\log\frac{q(z_i \mid x_i)}{\hat q(z_i)},\ "
    r"\log\frac{\hat q(z_i)}{\prod_d \hat q(z_{id})},\ "
    r"\log\frac{\prod_d \hat q(z_{id})}{p(z_i)}, \qquad "
    r"\hat q(z_i) = \sum_j w_{ij}\,q(z_i \mid x_j)",
    kind="exact",
    kills=(
        "decomposition-weights-in-a-column",
        "decomposition-without-log-nb",
        "decomposition-over-the-wrong-axis",
        "decomposition-tc-reversed",
        "decomposition-marginals-of-the-joint",
        "decomposition-dimension-wise-of-the-posterior",
        "decomposition-sigma-for-variance",
        "decomposition-mean-over-latents",
        "decomposition-without-the-example-itself",
        "decomposition-log-n-once",
        "decomposition-parts-in-another-order",
    ),
    builds_on=(),
)
def decomposition(probe: Probe) -> None:
    _require_parts(probe, "decomposition", "value")


@of_parts(
    "disentangling/decomposition-adds-up",
    statement="Whatever the weights, the three parts add up to log q(z|x) - log p(z).",
    formula=r"\mathrm{MI}_i + \mathrm{TC}_i + \mathrm{DWKL}_i = "
    r"\log q(z_i \mid x_i) - \log p(z_i)",
    kind="identity",
    kills=("decomposition-tc-reversed", "decomposition-dimension-wise-of-the-posterior"),
)
def decomposition_adds_up(probe: Probe) -> None:
    given = _given(probe, "sum", 3, 4)
    z, mu, logvar = (tensor.double() for tensor in given)
    q = torch.distributions.Normal(mu, torch.exp(logvar / 2)).log_prob(z)
    ratio = (q - torch.distributions.Normal(0.0, 1.0).log_prob(z)).sum(-1)
    found = _parts(probe, "decomposition", given, 20)
    whole = found[0] + found[1] + found[2]
    mine, exact = _nearest([whole], ratio.view(1, 1, 3))
    what = "sum of the three parts"
    scale = 3 * _scale(probe, z, mu, logvar)
    require_mean(probe, what, mine[0], exact[0], scale=scale, inputs=_named(given))


@of_parts(
    "disentangling/decomposition-of-equal-posteriors",
    statement="If all posteriors are the same, there is no information, and no correlation: what "
    "remains is the KL, and the logarithm of the sum s of the weights.",
    formula=r"q(z \mid x_j) = q(z):\quad \mathrm{MI} = -\log s,\ \mathrm{TC} = (1 - D) \log s,\ "
    r"\mathrm{DWKL} = \log\frac{q(z)}{p(z)} + D \log s",
    kind="exact",
    kills=("decomposition-tc-reversed", "decomposition-mean-over-latents"),
)
def decomposition_of_equal_posteriors(probe: Probe) -> None:
    _require_equal_posteriors(probe, "decomposition", 0.0)


@of_parts(
    "disentangling/decomposition-far-out",
    statement="The parts for equal posteriors are right for codes 60 standard deviations away "
    "too, whose density is 0 as a floating-point number.",
    formula=r"z = \mu + 60\sigma",
    kind="exact",
    kills=("decomposition-log-of-densities",),
)
def decomposition_far_out(probe: Probe) -> None:
    _require_equal_posteriors(probe, "decomposition", 60.0)


@of_parts(
    "disentangling/decomposition-slopes",
    statement="The gradients with respect to codes and posteriors are right, those of the other "
    "examples included.",
    formula=r"\frac{\partial}{\partial(z, \mu, \log\sigma^2)} \frac1B \sum_i "
    r"\big(\mathrm{MI}_i + 2\,\mathrm{TC}_i - \tfrac12 \mathrm{DWKL}_i\big)",
    kind="gradient",
    kills=("decomposition-aggregate-detached", "decomposition-code-detached"),
)
def decomposition_slopes(probe: Probe) -> None:
    _require_slopes(probe, "decomposition")


@of_parts(
    "disentangling/decomposition-of-a-gaussian",
    statement="If q(z) is a Gaussian, mutual information, total correlation and dimension-wise KL "
    "have these known values.",
    formula=r"\mathrm{MI} = \tfrac12 \log\frac{\det C}{\prod_d \sigma_d^2},\ "
    r"\mathrm{TC} = -\tfrac12 \log\det R,\ "
    r"\mathrm{DWKL} = \tfrac12 \sum_d (C_{dd} - 1 - \log C_{dd})",
    kind="identity",
    tolerance=f"{_NATS} nats: a batch of 500 codes stands for the aggregate",
    kills=("decomposition-marginals-of-the-joint", "decomposition-sigma-for-variance"),
)
def decomposition_of_a_gaussian(probe: Probe) -> None:
    _require_gaussian(probe, "decomposition")


@of_tc(
    "disentangling/total-correlation",
    statement="The total correlation is that which the weights of the declared sampling give.",
    formula=r"\log\frac{\hat q(z_i)}{\prod_d \hat q(z_{id})}, \qquad "
    r"\hat q(z_i) = \sum_j w_{ij}\,q(z_i \mid x_j)",
    kind="exact",
    kills=(
        "tc-weights-in-a-column",
        "tc-without-log-nb",
        "tc-over-the-wrong-axis",
        "tc-reversed",
        "tc-of-the-posteriors",
        "tc-marginals-by-the-mean",
    ),
    builds_on=(),
)
def total_correlation(probe: Probe) -> None:
    _require_parts(probe, "total_correlation", "tc")


@of_tc(
    "disentangling/total-correlation-far-out",
    statement="The total correlation of equal posteriors is right for codes 60 standard "
    "deviations away too, whose density is 0 as a floating-point number.",
    formula=r"z = \mu + 60\sigma:\quad \mathrm{TC} = (1 - D) \log s",
    kind="exact",
    kills=("tc-log-of-densities",),
)
def total_correlation_far_out(probe: Probe) -> None:
    _require_equal_posteriors(probe, "total_correlation", 60.0)


@of_tc(
    "disentangling/total-correlation-slopes",
    statement="The gradient with respect to codes and posteriors is right, those of the other "
    "examples included.",
    formula=r"\frac{\partial}{\partial(z, \mu, \log\sigma^2)} \frac1B \sum_i \mathrm{TC}_i",
    kind="gradient",
    kills=("tc-aggregate-detached",),
)
def total_correlation_slopes(probe: Probe) -> None:
    _require_slopes(probe, "total_correlation")


@of_tc(
    "disentangling/total-correlation-of-a-gaussian",
    statement="If q(z) is a Gaussian, the total correlation has this known value, where R is the "
    "correlation matrix.",
    formula=r"\mathrm{TC} = -\tfrac12 \log\det R",
    kind="identity",
    tolerance=f"{_NATS} nats: a batch of 500 codes stands for the aggregate",
    kills=("tc-reversed", "tc-of-the-posteriors"),
)
def total_correlation_of_a_gaussian(probe: Probe) -> None:
    _require_gaussian(probe, "total_correlation")
