"""Claims about the codes of a VAE with levels: from which Gaussians they are drawn."""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.answers.comparison import ROUNDINGS
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import NotApplicable, Violation
from vae_ref.conformance.subject import from_spread

_EXAMPLES, _CALLS = 100, 80
"""So many calls of so many examples: of each latent, a mean wrong by 0.1 sigma is found."""

_TEMPERATURE = 0.5
_COARSE = 1e-3
"""The part of a standard deviation by which noise may be off through rounding."""

_EPS = ROUNDINGS * torch.finfo(torch.float32).eps
_PRIORS = ("hierarchy/a-prior-for-each-example",)

of_codes = partial(registry.claim, source="Vahdat and Kautz 2020, section 3")

Gaussian = tuple[Tensor, Tensor]


class _Noise(NamedTuple):
    """The noise of a level, standardised by what it should be: (calls, examples, latents)."""

    eps: Tensor
    z: Tensor


def _flat(probe: Probe, answer: Any, z: Tensor) -> Gaussian:
    """Return mean and log variance as a subject gave them, for codes z; None is N(0, I)."""
    if answer is None:
        zero = torch.zeros_like(z, dtype=torch.float64).flatten(1)
        return zero, zero
    mu, logvar = from_spread(probe.conventions.spread, answer)
    return mu.detach().double().flatten(1), logvar.detach().double().flatten(1)


def _prior(probe: Probe, codes: Sequence[Tensor], level: int) -> Gaussian:
    """Return the subject's prior of a level, given the codes of all levels."""
    subject = probe.fields
    if level:
        answer = subject.prior_of_level(*(z.detach().clone() for z in codes[:level]))
    else:
        answer = subject.prior_of_top(len(codes[0])) if subject.prior_of_top else None
    return _flat(probe, answer, codes[level])


def _standardised(z: Tensor, gaussian: Gaussian) -> Tensor:
    mu, logvar = gaussian
    if mu.shape != z.flatten(1).shape:
        found, right = tuple(z.shape), tuple(mu.shape)
        raise Violation(
            f"a code has shape {found}, its Gaussian {right} when flat", symptom="shape"
        )
    flat, precision = z.detach().double().flatten(1), torch.exp(-logvar / 2)
    rounding = torch.finfo(z.dtype).eps * flat.abs() * precision
    if rounding.square().mean().sqrt() > _COARSE:
        raise NotApplicable(
            f"a standard deviation is so small that codes of {z.dtype} are rounded by more than "
            f"{_COARSE:g} of it; give the networks in double precision"
        )
    return (flat - mu) * precision


def _require_repeatable(probe: Probe, codes: Sequence[Tensor]) -> None:
    """Raise `NotApplicable` if the prior of a level draws noise itself, such as dropout."""
    for level in range(1, len(codes)):
        a, b = _prior(probe, codes, level), _prior(probe, codes, level)
        if not (torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])):
            raise NotApplicable(
                "prior_of_level gives two answers to one question; give it without dropout"
            )


def _drawn(probe: Probe, draw: Callable[[int], Sequence[Tensor]]) -> list[_Noise]:
    """Draw new codes, and standardise them by the priors given the codes above."""
    probe.fields.seed(probe.number("codes"))
    calls = [list(draw(_EXAMPLES)) for _ in range(_CALLS)]
    _require_repeatable(probe, calls[0])
    return [
        _Noise(
            torch.stack([_standardised(z[level], _prior(probe, z, level)) for z in calls]),
            torch.stack([z[level].detach().double().flatten(1) for z in calls]),
        )
        for level in range(len(calls[0]))
    ]


def _require_fresh(levels: Sequence[_Noise], what: str) -> None:
    for level, noise in enumerate(levels, 1):
        if torch.equal(noise.z[0], noise.z[1]) or bool((noise.eps.abs() < _COARSE).all()):
            raise Violation(f"{what} of level {level} are drawn without noise", symptom="frozen")
        if bool(((noise.eps - noise.eps[:, :1]).abs() < _COARSE).all()):
            raise Violation(
                f"{what} of level {level} have the same noise in all examples of a batch",
                symptom="shared",
            )


def _fails(sample: Tensor, test: Callable[[Any], float], alpha: float) -> bool:
    """Whether a test refuses the numbers of one latent."""
    return any(not test(values.numpy()) >= alpha for values in sample.flatten(0, -2).T)


def _pairs(levels: Sequence[_Noise]) -> list[tuple[Tensor, Tensor]]:
    """Return the noises of the latents of neighbouring levels, one by one."""
    return [
        (upper.eps[..., i].flatten(), lower.eps[..., i].flatten())
        for upper, lower in itertools.pairwise(levels)
        for i in range(min(upper.eps.shape[-1], lower.eps.shape[-1]))
    ]


def _require_independent(levels: Sequence[_Noise], alpha: float, what: str) -> None:
    for a, b in _pairs(levels):
        if not statistics.correlation(a.numpy(), b.numpy()) >= alpha:
            r = float(torch.corrcoef(torch.stack([a, b]))[0, 1])
            raise Violation(
                f"{what} of two levels have the correlation {r:.3f}: their noise has to be "
                "independent",
                symptom="same noise",
            )


def _wrong(eps: Tensor, alpha: float) -> str:
    """Return what is wrong with standard normal numbers: their mean, their deviation, or both."""
    tests = {"mean": statistics.mean, "sigma": statistics.chi_square}
    return " and ".join(name for name, test in tests.items() if _fails(eps, test, alpha))


def _tests(levels: Sequence[_Noise], of_each: int) -> int:
    """Return the number of tests: some of every latent, and one of every pair."""
    return of_each * sum(noise.eps.shape[-1] for noise in levels) + len(_pairs(levels))


def _size(values: Tensor) -> str:
    return f"the mean {values.mean():.4f} and the deviation {values.std():.4f}"


def _differ(a: Gaussian, b: Gaussian) -> bool:
    """Whether two Gaussians differ by more than rounding, in single precision."""
    return any(
        x.shape != y.shape
        or not bool(((x - y).abs() <= _EPS * (1 + y.abs().max()) * y.shape[-1] ** 0.5).all())
        for x, y in zip(a, b, strict=True)
    )


@of_codes(
    "hierarchy/a-prior-for-each-example",
    statement="The prior of a level depends on the codes above it of the same example: if the "
    "examples are reordered, the priors are reordered in the same way.",
    formula=r"p(z_{l,n} \mid z_{<l,n})",
    slot="prior_of_level",
    needs=("prior_of_level", "draw_hierarchy|top_down"),
    kind="metamorphic",
    tolerance="32 roundings in single precision, of the largest parameter of the batch",
    kills=("prior-of-another-example", "prior-of-mean-code"),
)
def a_prior_for_each_example(probe: Probe) -> None:
    subject = probe.fields
    subject.seed(probe.number("examples"))
    if subject.draw_hierarchy is not None:
        codes = list(subject.draw_hierarchy(6))
    elif subject.observations is not None:
        codes = [level[0] for level in subject.top_down(subject.observations(6))]
    else:
        raise NotApplicable("there are no codes to ask with; give draw_hierarchy or observations")
    _require_repeatable(probe, codes)
    order = torch.tensor([3, 0, 4, 5, 2, 1])
    for level in range(1, len(codes)):
        mu, logvar = _prior(probe, codes, level)
        if torch.equal(mu, mu[:1].expand_as(mu)) and bool((codes[0] != codes[0][:1]).any()):
            other, _ = _prior(probe, [1 + 2 * z for z in codes], level)
            if torch.equal(mu, other):
                raise NotApplicable(f"the prior of level {level + 1} is the same for all codes")
            raise Violation(
                f"all examples of a batch have the same prior in level {level + 1}, though "
                "their codes above differ",
                symptom="shared",
            )
        moved = _prior(probe, [z[order] for z in codes], level)
        if _differ(moved, (mu[order], logvar[order])):
            raise Violation(
                f"in another order, examples have other priors in level {level + 1}: the prior "
                "is that of another example",
                symptom="order",
            )


@of_codes(
    "hierarchy/draws-from-the-priors",
    statement="New codes are drawn from the top down: every level from its prior, given the "
    "codes above.",
    formula=r"z_l \sim N\big(\mu_p(z_{<l}), \sigma_p^2(z_{<l})\big)",
    slot="draw_hierarchy",
    needs=("draw_hierarchy", "prior_of_level"),
    kind="statistical",
    tolerance="a mean wrong by 0.1 sigma, a sigma wrong by 10 % and a correlation of 0.1 between "
    "two levels are found",
    builds_on=_PRIORS,
    kills=(
        "codes-below-from-standard-normal",
        "codes-below-are-means",
        "codes-variance-for-sigma",
        "codes-uniform-noise",
        "codes-same-noise",
    ),
)
def draws_from_the_priors(probe: Probe) -> None:
    levels = _drawn(probe, probe.fields.draw_hierarchy)
    _require_fresh(levels, "new codes")
    alpha = probe.alpha / _tests(levels, 2)
    for number, noise in enumerate(levels, 1):
        wrong = _wrong(noise.eps, alpha)
        if not wrong:
            continue
        if not _wrong(noise.z, alpha):
            raise Violation(
                f"new codes of level {number} are drawn from N(0, I), not from its prior",
                symptom="standard",
            )
        raise Violation(
            f"(z - mu_p) / sigma_p of level {number} has {_size(noise.eps)}, not 0 and 1",
            symptom=wrong,
        )
    _require_independent(levels, alpha, "new codes")


@of_codes(
    "hierarchy/draws-at-a-temperature",
    statement="A temperature multiplies the standard deviation of every level.",
    formula=r"z_l \sim N\big(\mu_p(z_{<l}), t^2 \sigma_p^2(z_{<l})\big)",
    slot="draw_tempered",
    needs=("draw_tempered", "prior_of_level"),
    kind="statistical",
    tolerance="a mean wrong by 0.1 sigma and a sigma wrong by 10 % are found",
    builds_on=(*_PRIORS, "hierarchy/draws-from-the-priors"),
    kills=(
        "temperature-on-variance",
        "temperature-ignored",
        "temperature-divided",
        "temperature-on-top-alone",
    ),
)
def draws_at_a_temperature(probe: Probe) -> None:
    subject = probe.fields
    levels = _drawn(probe, lambda n: subject.draw_tempered(n, _TEMPERATURE))
    _require_fresh(levels, "codes at a temperature")
    alpha = probe.alpha / _tests(levels, 2)
    powers = []
    for noise in levels:
        power = math.log(float(noise.eps.square().mean())) / 2 / math.log(_TEMPERATURE)
        near = f"{round(2 * power) / 2:g}"
        wrong = _wrong(noise.eps / _TEMPERATURE, alpha)
        powers.append("1" if not wrong else f"{power:.2f}" if near == "1" else near)
    if set(powers) != {"1"}:
        raise Violation(
            f"at the temperature t = {_TEMPERATURE:g} the standard deviations of the levels are "
            f"multiplied by t to the power {', '.join(powers)}, not 1",
            symptom=", ".join(dict.fromkeys(powers)),
        )


def _pass(probe: Probe, x: Any) -> list[tuple[Tensor, Gaussian, Gaussian]]:
    """Infer the codes of x; return them, and the flat posteriors and priors."""
    found = list(probe.fields.top_down(x))
    return [(z, _flat(probe, q, z), _flat(probe, p, z)) for z, q, p in found]


@of_codes(
    "hierarchy/priors-given-the-codes",
    statement="In inference, the prior of every level is conditioned on the codes that were drawn "
    "from the posteriors above.",
    formula=r"p(z_l \mid z_{<l}), \quad z_{<l} \sim q(z_{<l} \mid x)",
    slot="top_down",
    needs=("top_down", "prior_of_level", "observations"),
    kind="exact",
    tolerance="32 roundings in single precision, of the largest parameter of the batch",
    builds_on=_PRIORS,
    kills=(
        "inference-prior-of-mean",
        "inference-prior-of-prior-draw",
        "inference-prior-of-own-code",
        "inference-prior-of-another-example",
        "inference-standard-prior",
    ),
)
def priors_given_the_codes(probe: Probe) -> None:
    subject = probe.fields
    subject.seed(probe.number("inference"))
    levels = _pass(probe, subject.observations(6))
    codes = [z for z, _, _ in levels]
    _require_repeatable(probe, codes)
    for level, (_, _, prior) in enumerate(levels):
        right = _prior(probe, codes, level)
        if _differ(prior, right):
            symptom = _instead(probe, levels, level, right)
            raise Violation(
                f"the prior of level {level + 1} is {symptom or 'another one'}, not that given "
                "the codes that were drawn above",
                symptom=symptom or "other codes",
            )


def _instead(
    probe: Probe,
    levels: Sequence[tuple[Tensor, Gaussian, Gaussian]],
    level: int,
    right: Gaussian,
) -> str:
    """Say what the prior of a level is, if it is not what it should be."""
    codes = [z for z, _, _ in levels]
    means = [q[0].reshape(z.shape).to(z) for z, q, _ in levels]
    prior = levels[level][2]
    others: dict[str, Callable[[], Gaussian]] = {
        "N(0, I)": lambda: _flat(probe, None, codes[level]),
        "that given the means of the posteriors above": lambda: _prior(probe, means, level),
        "that given a code of its own level": lambda: _prior(probe, codes[1:], level),
    }
    for name, make in others.items():
        try:
            if not _differ(prior, make()):
                return name
        except (RuntimeError, TypeError, ValueError, IndexError):
            continue  # such a prior cannot be asked for
    for shift in range(1, len(codes[0])):
        if not _differ(prior, (right[0].roll(shift, 0), right[1].roll(shift, 0))):
            return "that of another example"
    return ""


@of_codes(
    "hierarchy/codes-from-the-posteriors",
    statement="In inference, every code is drawn from the posterior whose KL divergence is "
    "computed, with noise of its own.",
    formula=r"z_l = \mu_l + \sigma_l\,\varepsilon_l, \quad \varepsilon_l \sim N(0, I)",
    slot="top_down",
    needs=("top_down", "observations"),
    kind="statistical",
    tolerance="a mean wrong by 0.1 sigma, a sigma wrong by 10 % and a correlation of 0.1 between "
    "two levels are found",
    kills=(
        "inference-variance-for-sigma",
        "inference-kl-of-bottom-up",
        "inference-same-noise",
        "inference-without-noise",
        "inference-uniform-noise",
        "inference-noise-shared-over-batch",
    ),
)
def codes_from_the_posteriors(probe: Probe) -> None:
    subject = probe.fields
    subject.seed(probe.number("codes"))
    x = subject.observations(_EXAMPLES)
    calls = [_pass(probe, x) for _ in range(_CALLS)]
    levels = [
        _Noise(
            torch.stack([_standardised(call[level][0], call[level][1]) for call in calls]),
            torch.stack([call[level][0].detach().double().flatten(1) for call in calls]),
        )
        for level in range(len(calls[0]))
    ]
    _require_fresh(levels, "codes")
    alpha = probe.alpha / _tests(levels, 3)
    for number, noise in enumerate(levels, 1):
        of_example = [latent.numpy() for latent in noise.eps.permute(2, 1, 0)]
        if not min(map(statistics.equal_means, of_example)) >= alpha:
            raise Violation(
                f"z - mu of level {number} has another mean in every example: the codes are not "
                "drawn from the posterior that is given",
                symptom="example",
            )
        wrong = _wrong(noise.eps, alpha)
        if wrong:
            raise Violation(
                f"(z - mu) / sigma of level {number} has {_size(noise.eps)}, not 0 and 1",
                symptom=wrong,
            )
    _require_independent(levels, alpha, "the noises")


@of_codes(
    "hierarchy/priors-learn-through-the-codes",
    statement="The gradient of a prior reaches the data through the codes above: nothing is "
    "detached between the levels.",
    formula=r"\frac{\partial \mu_p(z_{<l})}{\partial x} = "
    r"\frac{\partial \mu_p}{\partial z_{<l}} \frac{\partial z_{<l}}{\partial x}",
    slot="top_down",
    needs=("top_down", "prior_of_level", "observations"),
    kind="gradient",
    tolerance="32 roundings in single precision, of the largest derivative",
    kills=("inference-prior-of-detached-code",),
    builds_on=(*_PRIORS, "hierarchy/priors-given-the-codes"),
)
def priors_learn_through_the_codes(probe: Probe) -> None:
    subject = probe.fields
    subject.seed(probe.number("inference"))
    x = subject.observations(4)
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise NotApplicable("the data are no tensor of real numbers: they have no derivatives")
    x = x.detach().clone().requires_grad_()
    found = list(subject.top_down(x))
    codes = [level[0] for level in found]
    _require_repeatable(probe, codes)
    judged = False
    for level in range(1, len(found)):
        if found[level][2] is None:
            continue
        cotangent = probe.normal(f"cotangent {level}", codes[level].numel())
        slopes = [
            _slope(from_spread(probe.conventions.spread, prior)[0], cotangent, x)
            for prior in (found[level][2], subject.prior_of_level(*codes[:level]))
        ]
        if not bool(slopes[1].any()):
            continue
        judged = True
        error, size = (slopes[0] - slopes[1]).abs().max(), slopes[1].abs().max()
        if not error <= _EPS * size * x[0].numel() ** 0.5:
            raise Violation(
                f"the derivative of the prior of level {level + 1} with respect to x is "
                f"{slopes[0].abs().max():.4g}, not {size:.4g} as through the codes above",
                symptom="other slope" if bool(slopes[0].any()) else "no gradient",
            )
    if not judged:
        raise NotApplicable("no prior depends on x through the codes that top_down returns")


def _slope(mu: Tensor, cotangent: Tensor, x: Tensor) -> Tensor:
    """Return the derivative by x of a weighted sum; zero if there is no way to x."""
    if not mu.requires_grad:
        return torch.zeros_like(x)
    total = (mu.flatten() * cotangent.to(mu)).sum()
    (found,) = torch.autograd.grad(total, x, allow_unused=True, retain_graph=True)
    return torch.zeros_like(x) if found is None else found
