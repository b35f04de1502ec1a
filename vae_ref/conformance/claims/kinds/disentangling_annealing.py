"""Claims about what is done to a KL while a model trains: capacity, free bits, schedules."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from vae_ref.conformance.answers.comparison import require_agreement, tolerance
from vae_ref.conformance.claims import registry
from vae_ref.conformance.claims.kinds.disentangling import answer, require_slope
from vae_ref.conformance.kinds.disentangling import Schedule
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, NotApplicable, Violation

_TERMS = "32 roundings of the sum of the terms' absolute values"
_MOST_STEPS = 20_000  # that are asked for, one after the other

of_capacity = partial(
    registry.claim,
    slot="capacity_term",
    source="Burgess et al. 2018, equation 8",
    needs=("capacity_term", "gamma"),
    tolerance=_TERMS,
    builds_on=("disentangling/capacity-term",),
)
of_floor = partial(
    registry.claim,
    slot="free_bits",
    source="Kingma et al. 2016, equation 15",
    needs=("free_bits", "floor"),
    tolerance=_TERMS,
)
of_schedule = partial(
    registry.claim,
    slot="weight_at",
    source="Bowman et al. 2016, section 3.1; Fu et al. 2019, equations 6 and 7",
    needs=("weight_at", "schedule"),
    tolerance="one training step, early or late, and 32 roundings in float32",
)


def _tensor(slot: str, found: object) -> Tensor:
    if not isinstance(found, Tensor) or not found.is_floating_point():
        raise Violation(f"{slot} returned {type(found).__name__}, not a tensor", symptom="type")
    return found


def _penalty(probe: Probe, kl: Tensor, capacity: float) -> Tensor:
    return _tensor("capacity_term", answer(probe, "capacity_term", kl, capacity))


@of_capacity(
    "disentangling/capacity-term",
    statement="For one example the penalty is gamma times the distance of its KL from the "
    "capacity, whether the KL is below or above it.",
    formula=r"\gamma\,|\mathrm{KL} - C|",
    kind="exact",
    kills=(
        "capacity-without-absolute-value",
        "capacity-hinge",
        "capacity-squared",
        "capacity-without-gamma",
        "capacity-over-latents",
        "capacity-frozen",
    ),
    builds_on=(),
)
def capacity_term(probe: Probe) -> None:
    gamma = probe.fields.gamma
    for index, capacity in enumerate((0.0, 2.5, 11.0, 25.0)):
        kl = 4 + 8 * probe.uniform(f"capacity {index}", 1)
        require_agreement(
            f"the penalty on a KL of {kl.item():.3g} nats at a capacity of {capacity:g}",
            _penalty(probe, kl, capacity).sum(),
            gamma * (kl.double() - capacity).abs().sum(),
            scale=abs(gamma) * (kl.double().sum() + capacity),
            dtype=probe.dtype,
            inputs={"kl": kl, "capacity": capacity},
        )


@of_capacity(
    "disentangling/capacity-slopes",
    statement="Below the capacity the penalty pushes the KL up, above it down, with the same "
    "force.",
    formula=r"\frac{\partial}{\partial \mathrm{KL}} = \gamma\,\mathrm{sign}(\mathrm{KL} - C)",
    kind="gradient",
    kills=("capacity-detached",),
)
def capacity_slopes(probe: Probe) -> None:
    probe.require_gradient("capacity_term")
    gamma = probe.fields.gamma
    kl = 4 + 8 * probe.uniform("capacity slope", 1)
    for capacity, sign in ((2.5, 1.0), (25.0, -1.0)):
        (found,) = probe.gradient(lambda kl, c=capacity: _penalty(probe, kl, c).sum(), kl)
        require_slope(
            probe,
            f"the penalty at a capacity of {capacity:g}",
            "the KL",
            found,
            torch.tensor([sign * gamma]),
            scale=abs(gamma),
            inputs={"kl": kl, "capacity": capacity},
        )


@of_capacity(
    "disentangling/capacity-of-a-batch",
    statement="In a batch the capacity applies to the mean KL, or to the KL of each example; the "
    "report says which.",
    formula=r"\gamma\,|E_n[\mathrm{KL}_n] - C| \quad\text{or}\quad "
    r"\gamma\,E_n|\mathrm{KL}_n - C|",
    kind="exact",
    kills=("capacity-of-the-summed-kl",),
)
def capacity_of_a_batch(probe: Probe) -> Finding:
    gamma, capacity = probe.fields.gamma, 8.0
    kl = 16 * probe.uniform("capacity batch", 5)
    kl[0], kl[1] = 1.0, 15.0  # on both sides
    wide, found = kl.double(), _penalty(probe, kl, capacity).detach().double()
    rights = {
        "the mean KL of the batch": gamma * (wide.mean() - capacity).abs(),
        "the KL of each example": gamma * (wide - capacity).abs().mean(),
    }
    means = [found.mean()] if found.numel() > 1 else [found.sum(), found.sum() / len(kl)]
    pairs = [(name, mean) for name in rights for mean in means]
    name, mean = min(pairs, key=lambda pair: _apart(pair[1], rights[pair[0]]))
    require_agreement(
        "the penalty on a batch",
        mean,
        rights[name],
        scale=abs(gamma) * (wide.sum() + capacity),
        dtype=probe.dtype,
        inputs={"kl": kl, "capacity": capacity},
    )
    return Finding(facts={"capacity": name})


def _apart(a: Tensor, b: Tensor) -> float:
    """Return a distance that can be ordered, even from NaN."""
    return float((a - b).abs().nan_to_num(torch.inf))


_FORMS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "max(floor, KL)": lambda kl, floor: torch.maximum(kl, torch.full_like(kl, floor)),
    "max(0, KL - floor)": lambda kl, floor: (kl - floor) * (kl > floor),
    "KL, or 0 below the floor": lambda kl, floor: kl * (kl > floor),
}
"""Forms of free bits: their gradients are the same."""


def _groups(kl: Tensor, over: str) -> tuple[Tensor, float]:
    """Return the KLs that each have a floor, and their weight in the mean over the batch."""
    examples = len(kl)
    return {
        "element": (kl, 1 / examples),
        "example": (kl.sum(1), 1 / examples),
        "latent": (kl.mean(0), 1.0),
        "batch": (kl.sum(1).mean(0, keepdim=True), 1.0),
    }[over]


def _kls(probe: Probe, name: str, size: float) -> Tensor:
    """Draw KLs some of which are below the floor, whatever it holds for; none is near it."""
    floor = float(probe.fields.floor)
    over = probe.fields.floor_over
    for attempt in range(100):
        kl = 2 * size * floor * probe.uniform(f"{name} {size} {attempt}", 4, 3)
        kl = kl * torch.tensor([0.2, 1.0, 2.0], dtype=kl.dtype)
        if float((_groups(kl.double(), over)[0] - floor).abs().min()) > 0.01 * floor:
            break
    return kl


def _mean_floored(probe: Probe, kl: Tensor) -> list[Tensor]:
    """Return what the mean of the subject's answer over the batch can be."""
    found = _tensor("free_bits", answer(probe, "free_bits", kl))
    whole, examples = found.sum(), len(kl)
    if found.numel() in (examples, kl.numel()):
        return [whole / examples]
    return [whole] if found.numel() > 1 else [whole, whole / examples]


_SCALES = (1.0, 4.0, 0.5, 0.15)
_OVER = ("latent", "element", "example", "batch")


@of_floor(
    "disentangling/free-bits",
    statement="The KL has the declared floor, which holds for what floor_over declares.",
    formula=r"\text{latent: } \sum_d \max(\lambda, E_n[\mathrm{KL}_{nd}]);\ "
    r"\text{element: } E_n \sum_d \max(\lambda, \mathrm{KL}_{nd});\ "
    r"\text{example: } E_n \max\big(\lambda, \sum_d \mathrm{KL}_{nd}\big);\ "
    r"\text{batch: } \max\big(\lambda, E_n \sum_d \mathrm{KL}_{nd}\big)",
    kind="exact",
    kills=(
        "free-bits-after-the-mean",
        "free-bits-over-the-batch",
        "free-bits-as-a-ceiling",
        "free-bits-of-the-mean-over-latents",
        "free-bits-ignored",
        "free-bits-in-bits",
        "free-bits-over-elements",
    ),
)
def free_bits(probe: Probe) -> Finding:
    declared, floor = probe.fields.floor_over, probe.fields.floor
    kls = [_kls(probe, "floor", size) for size in _SCALES]
    means = [[mean.detach().double() for mean in _mean_floored(probe, kl)] for kl in kls]

    def nearest(kl: Tensor, found: list[Tensor], over: str) -> tuple[str, Tensor, Tensor]:
        groups, weight = _groups(kl.double(), over)
        rights = {name: weight * f(groups, floor).sum() for name, f in _FORMS.items()}
        pairs = [(name, mean, rights[name]) for name in rights for mean in found]
        return min(pairs, key=lambda pair: _apart(pair[1], pair[2]))

    def size(kl: Tensor) -> Tensor:
        return kl.double().sum() + kl.shape[1] * floor  # type: ignore[no-any-return]

    def holds(over: str) -> bool:
        found = (nearest(kl, mean, over) for kl, mean in zip(kls, means, strict=True))
        return all(
            _apart(mean, right) <= tolerance(probe.dtype, size(kl))
            for kl, (_, mean, right) in zip(kls, found, strict=True)
        )

    if not holds(declared) and (other := next(filter(holds, _OVER), "")):
        raise Violation(
            f"the floor holds for floor_over={other!r}, not for the declared {declared!r}",
            symptom=f"{other}-not-{declared}",
        )
    for kl, found in zip(kls, means, strict=True):
        name, mean, right = nearest(kl, found, declared)
        require_agreement(
            f"the KL with a floor of {floor:g} nats",
            mean,
            right,
            scale=size(kl),
            dtype=probe.dtype,
            inputs={"kl": kl},
        )
    return Finding(facts={"free bits": name})


@of_floor(
    "disentangling/free-bits-slopes",
    statement="The gradient of the KL is kept above the floor, and zero below it.",
    formula=r"\frac{\partial}{\partial \mathrm{KL}_{nd}} = \tfrac1B\,"
    r"[\text{the KL that has the floor} > \lambda]",
    kind="gradient",
    kills=("free-bits-without-gradient", "free-bits-straight-through"),
    builds_on=("disentangling/free-bits",),
)
def free_bits_slopes(probe: Probe) -> None:
    probe.require_gradient("free_bits")
    subject = probe.fields
    for size in _SCALES:
        kl = _kls(probe, "floor", size)
        (found,) = probe.gradient(lambda kl: answer(probe, "free_bits", kl).sum(), kl)
        leaf = kl.double().requires_grad_()
        groups, weight = _groups(leaf, subject.floor_over)
        floored = _FORMS["max(0, KL - floor)"](groups, subject.floor).sum()
        (mean,) = torch.autograd.grad(weight * floored, leaf)
        exact = min((mean, len(kl) * mean), key=lambda e: _apart(found.double().sum(), e.sum()))
        what = f"the KL with a floor of {subject.floor:g} nats"
        require_slope(probe, what, "the KL", found, exact, scale=1.0, inputs={"kl": kl})


def _weight(schedule: Schedule, step: int) -> float:
    """Return the declared weight; before the first step it is the first."""
    within = max(step, 0) % schedule.cycle if schedule.cycle else max(step, 0)
    if within >= schedule.steps:
        return schedule.end
    return schedule.start + within * (schedule.end - schedule.start) / schedule.steps


def _used(probe: Probe) -> Iterator[tuple[int, float]]:
    """Yield the weights of the steps, one after the other, as a training asks for them."""
    subject = probe.fields
    schedule: Schedule = subject.schedule
    steps = 2 * schedule.cycle + schedule.steps if schedule.cycle else 2 * schedule.steps
    subject.seed(probe.number("schedule"))
    for step in range(min(steps, _MOST_STEPS)):
        try:
            yield step, float(answer(probe, "weight_at", step))
        except (IndexError, KeyError):
            if step < 2:
                raise
            return


def _weights(probe: Probe) -> list[tuple[int, float]]:
    return probe.once("weights of the schedule", lambda: list(_used(probe)))


def _manner(declared: Schedule, used: list[float]) -> str:
    """Say in a word how the weights differ from those declared."""
    rights = [_weight(declared, step) for step in range(len(used))]
    up = 1.0 if declared.end >= declared.start else -1.0
    falls = [sum(up * b < up * a for a, b in pairwise(values)) for values in (used, rights)]
    manners = {
        "frozen": len(set(used)) == 1,
        "past-the-end": max(up * weight for weight in used) > up * declared.end + 1e-6,
        "reversed": falls[0] > len(used) / 4,
        "jumps": len(set(used)) == 2,
        "restarts-too-often": falls[0] > falls[1],
        "stops-short": max(up * weight for weight in used) < up * declared.end - 1e-6,
        "restarts-too-seldom": falls[0] < falls[1],
        "early": up * sum(used) > up * sum(rights),
    }
    return next((manner for manner, holds in manners.items() if holds), "late")


def _words(schedule: Schedule) -> str:
    rise = f"{schedule.start:g} to {schedule.end:g} in {schedule.steps:,} steps"
    return rise + (f", again after every {schedule.cycle:,}" if schedule.cycle else "")


@of_schedule(
    "disentangling/schedule",
    statement="The weight of every training step is that of the declared schedule; the report "
    "says where it departs from it.",
    formula=r"w(t) = w_0 + (w_1 - w_0)\,\min(1, (t \bmod T) / S)",
    kind="exact",
    kills=(
        "schedule-reset-in-every-batch",
        "schedule-integer-division",
        "schedule-without-end",
        "schedule-in-epochs",
        "schedule-never-restarts",
        "schedule-reaches-its-end-early",
        "schedule-frozen",
        "schedule-restarts-in-every-epoch",
        "schedule-reversed",
    ),
)
def schedule(probe: Probe) -> Finding:
    declared: Schedule = probe.fields.schedule
    weights = _weights(probe)
    size = max(abs(declared.start), abs(declared.end))
    allowed = float(tolerance(torch.float32, torch.tensor(size)))
    for step, weight in weights:
        near = [_weight(declared, step + k) for k in (-1, 0, 1)]
        if not min(near) - allowed <= weight <= max(near) + allowed:
            raise Violation(
                f"from step {step:,} on, the weight leaves the schedule ({_words(declared)}): it "
                f"is {weight:.4g}, not {_weight(declared, step):.4g}",
                symptom=_manner(declared, [weight for _, weight in weights]),
            )
    return Finding(facts={"weights": f"those declared, in {len(weights):,} steps"})


@of_schedule(
    "disentangling/schedule-reaches-its-end",
    statement="The weight reaches the end of the declared schedule, and does not pass it.",
    formula=r"\max_t w(t) = w_1",
    kind="identity",
    kills=(
        "schedule-without-end",
        "schedule-in-epochs",
        "schedule-frozen",
        "schedule-restarts-in-every-epoch",
    ),
    builds_on=("disentangling/schedule",),
)
def schedule_reaches_its_end(probe: Probe) -> None:
    declared: Schedule = probe.fields.schedule
    weights = _weights(probe)
    if len(weights) <= declared.steps + 1:
        raise NotApplicable(
            f"only {len(weights):,} weights are known, and the schedule rises for "
            f"{declared.steps:,} steps; log a longer training"
        )
    if declared.cycle == declared.steps:
        raise NotApplicable("the next cycle begins where the rise would reach its end")
    up = 1.0 if declared.end >= declared.start else -1.0
    farthest = max(up * weight for _, weight in weights)
    require_agreement(
        "the farthest weight",
        torch.tensor(up * farthest),
        torch.tensor(declared.end),
        scale=max(abs(declared.start), abs(declared.end)),
        dtype=torch.float32,
        inputs={"steps": len(weights)},
    )
