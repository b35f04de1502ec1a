"""Claims about draws of discrete codes: Gumbel-softmax, straight-through, relaxed densities."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy import special
from torch import Tensor

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.answers.comparison import ROUNDINGS, require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.claims.kinds.categorical import given, shaped, sizes, subject_of
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import NotApplicable, Violation

_MADDISON = "Maddison, Mnih and Teh 2017"
_JANG = "Jang, Gu and Poole 2017"
_TEMPERATURES = (2.0, 0.625)  # they are exact in single precision too
_DRAWS = 40_000  # of a latent; a temperature wrong by 10 % is found
_AT_ONCE = 2**21  # numbers of a call
_STICKS = 4  # coordinates of a relaxed draw that are tested
_LEAST = 1e-30  # in place of a coordinate that is rounded to 0, which is rare
_LOGISTIC = 2 * math.log(3)  # the distance between the quartiles

of_relaxed = partial(registry.claim, slot="gumbel_softmax", needs=("gumbel_softmax",))
of_hard = partial(registry.claim, slot="straight_through", needs=("straight_through",))
of_density = partial(
    registry.claim,
    slot="log_density_relaxed",
    source=f"{_MADDISON}, definition 1",
    needs=("log_density_relaxed",),
)

_SIMPLEX = ("categorical/relaxed-on-the-simplex",)
_NOISE = ("categorical/relaxed-noise-of-its-own",)
_LAW = ("categorical/relaxed-argmax",)
_ONE_HOT = ("categorical/one-hot",)
_HARD_NOISE = ("categorical/one-hot-noise-of-its-own",)
_DENSITY = ("categorical/relaxed-density",)


def _sample(probe: Probe, part: str, logits: Tensor, temperature: float) -> Tensor:
    """Return samples, shape (examples, latents, classes), in whichever shape they come."""
    form = given(probe, logits)
    with probe.calling():
        answer: Tensor = getattr(subject_of(probe), part)(form, temperature)
    if answer.numel() != form.numel():
        found, right = tuple(answer.shape), tuple(form.shape)
        raise Violation(f"a sample has shape {found}, its logits {right}", symptom="shape")
    answer = answer.reshape(form.shape)
    return (answer if subject_of(probe).classes_last else answer.movedim(1, -1)).reshape(
        logits.shape
    )


def _require_own_noise(probe: Probe, part: str) -> None:
    """Object if examples, latents or calls have the same noise, or if there is none."""
    n, d, k = sizes(probe, (6, 3, 3))[0]
    logits = torch.zeros(n, d, k, dtype=probe.dtype)
    subject_of(probe).seed(probe.number(f"{part} noise"))
    calls = torch.stack([_sample(probe, part, logits, 1.0).detach() for _ in range(40)])
    if not bool((calls != calls[:, :1, :1]).any()) and not bool((calls != calls[:1]).any()):
        raise Violation("all samples are the same: they have no noise", symptom="no noise")
    if not bool((calls != calls[:1]).any()):
        raise Violation("every call gives the same samples", symptom="frozen")
    if not bool((calls != calls[:, :1]).any()):
        raise Violation("all examples of a batch have the same noise", symptom="shared")
    if d > 1 and not bool((calls != calls[:, :, :1]).any()):
        raise Violation("all latents of an example have the same noise", symptom="shared latents")


def _law(probe: Probe, k: int) -> Tensor:
    """Return the logits of one latent, whose probabilities differ and are not normalised."""
    return torch.linspace(-0.5, 1.1, k, dtype=torch.float64)


def _drawn(probe: Probe, part: str, temperature: float) -> Tensor:
    """Return many samples of one latent, shape (draws, classes)."""

    def draw() -> Tensor:
        _, d, k = sizes(probe, (1, 2, 3))[0]
        calls = math.ceil(_DRAWS * k / _AT_ONCE)
        rows = math.ceil(_DRAWS / d / calls)
        logits = _law(probe, k).to(probe.dtype).expand(rows, d, k)
        subject_of(probe).seed(probe.number(f"{part} {temperature}"))
        drawn = [_sample(probe, part, logits, temperature) for _ in range(calls)]
        return torch.cat([sample.detach().double().flatten(0, 1) for sample in drawn])

    return probe.once((part, temperature), draw)


def _require_law(probe: Probe, part: str, temperatures: tuple[float, ...]) -> None:
    """Compare how often each class is drawn with its probability, by exact binomial tests."""
    for temperature in temperatures:
        drawn = _drawn(probe, part, temperature)
        n, k = drawn.shape
        q = torch.softmax(_law(probe, k), -1).numpy()
        counts = np.bincount(drawn.argmax(-1).numpy(), minlength=k)
        alpha = probe.alpha / (k * len(temperatures))
        for index, (count, p) in enumerate(zip(counts.tolist(), q.tolist(), strict=True)):
            below, above = special.bdtr(count, n, p), special.bdtrc(count - 1, n, p)
            if not 2 * min(below, above if count else 1.0) >= alpha:
                raise Violation(
                    f"class {index} is the largest in {count / n:.4f} of {n:,} samples at "
                    f"temperature {temperature}; its probability is {p:.4f}",
                    symptom="law",
                )


def _uniforms(drawn: Tensor, logits: Tensor, temperature: float) -> list[Tensor]:
    """Return numbers that are uniform if the samples have the right law.

    y_k is proportional to (e^l_k / E_k)^(1 / tau), with E_k exponential. So e^l_k y_k^-tau is
    proportional to E_k: normalised, it is uniform on the simplex. What the first coordinate
    leaves of a stick of length 1 is the largest of K - 1 uniform numbers, and so on.
    """
    e = torch.exp(logits - temperature * drawn.clamp(min=_LEAST).log())
    rest = e.flip(-1).cumsum(-1).flip(-1)  # what is left of the stick before each coordinate
    k = e.shape[-1]
    return [(rest[:, i + 1] / rest[:, i]) ** (k - 1 - i) for i in range(min(k - 1, _STICKS))]


def _quartiles(drawn: Tensor, logits: Tensor, temperature: float) -> str:
    """Describe how log(y_2 / y_1) lies, compared with a logistic number over the temperature."""
    drawn = drawn.clamp(min=_LEAST)
    ratio = np.quantile((drawn[:, -1] / drawn[:, 0]).log().numpy(), (0.25, 0.5, 0.75))
    spread = (ratio[2] - ratio[0]) * temperature / _LOGISTIC
    place = ratio[1] * temperature / float(logits[-1] - logits[0])
    return f"place {round(place, 1) + 0.0:.1f}, spread {spread:.1f}"


@of_relaxed(
    "categorical/relaxed-on-the-simplex",
    statement="A relaxed sample is a distribution over the classes of each latent.",
    formula=r"y_{dk} \ge 0, \qquad \sum_k y_{dk} = 1",
    source=f"{_JANG}, equation 2",
    kind="exact",
    tolerance="32 roundings of 1",
    kills=("gumbel-softmax-over-latents",),
)
def relaxed_on_the_simplex(probe: Probe) -> None:
    for size in sizes(probe, (1, 1, 2), (3, 4, 3), (4, 2, 5)):
        logits = probe.normal(f"simplex {size}", *size)
        y = _sample(probe, "gumbel_softmax", logits, 0.8).detach()
        if bool((y < 0).any()):
            raise Violation(f"a relaxed sample is {float(y.min()):.6g} at a class", symptom="sign")
        require_agreement(
            "the sum of a relaxed sample over the classes",
            y.double().sum(-1),
            torch.ones(size[:2]),
            scale=1.0,
            dtype=torch.float32 if y.dtype == torch.float32 else probe.dtype,
            inputs={"logits": logits},
            symptom="sum",
        )


@of_relaxed(
    "categorical/relaxed-noise-of-its-own",
    statement="Every example, latent and call has noise of its own.",
    formula=r"g_{ndk} \text{ independent}",
    source=f"{_JANG}, equation 1",
    kind="metamorphic",
    tolerance="none: bit for bit",
    kills=(
        "gumbel-no-noise",
        "gumbel-noise-of-a-fixed-seed",
        "gumbel-noise-shared-over-batch",
    ),
    builds_on=_SIMPLEX,
)
def relaxed_noise_of_its_own(probe: Probe) -> None:
    _require_own_noise(probe, "gumbel_softmax")


@of_relaxed(
    "categorical/relaxed-argmax",
    statement="The class at which a relaxed sample is largest is a draw from the softmax of the "
    "logits, at every temperature.",
    formula=r"P\big(\arg\max_k y_k = j\big) = q_j = e^{\ell_j} / \sum_k e^{\ell_k}",
    source=f"{_MADDISON}, proposition 1b",
    kind="statistical",
    tolerance="a probability that is wrong by 0.025 is found",
    kills=(
        "gumbel-noise-reversed",
        "gumbel-noise-with-one-log",
        "gumbel-noise-normal",
        "gumbel-temperature-on-logits-alone",
        "gumbel-temperature-as-epsilon",
        "gumbel-of-probabilities",
    ),
    builds_on=(*_SIMPLEX, *_NOISE),
)
def relaxed_argmax(probe: Probe) -> None:
    _require_law(probe, "gumbel_softmax", _TEMPERATURES)


@of_relaxed(
    "categorical/relaxed-law",
    statement="A relaxed sample has the concrete distribution of its logits and temperature.",
    formula=r"\frac{e^{\ell_k} y_k^{-\tau}}{\sum_j e^{\ell_j} y_j^{-\tau}} "
    r"\text{ is uniform on the simplex}",
    source=f"{_MADDISON}, proposition 1",
    kind="statistical",
    tolerance="a temperature wrong by 10 % is found",
    kills=("gumbel-temperature-multiplied", "gumbel-temperature-unused"),
    builds_on=(*_SIMPLEX, *_NOISE, *_LAW),
)
def relaxed_law(probe: Probe) -> None:
    for temperature in _TEMPERATURES:
        drawn = _drawn(probe, "gumbel_softmax", temperature)
        logits = _law(probe, drawn.shape[1])
        sticks = _uniforms(drawn, logits, temperature)
        alpha = probe.alpha / (len(sticks) * len(_TEMPERATURES))
        for u in sticks:
            p = statistics.uniform(u.numpy())
            if not p >= alpha:
                how = _quartiles(drawn, logits, temperature)
                raise Violation(
                    f"at temperature {temperature}, {len(drawn):,} relaxed samples have not the "
                    f"concrete distribution (p = {p:.1g}); log(y_K / y_1) has the {how}, times "
                    "those that it should have",
                    symptom=how,
                )


def _require_slopes(
    probe: Probe, what: str, found: Tensor, exact: Tensor, scale: Tensor | float
) -> None:
    """Compare derivatives of a sample; how they differ is the symptom, for they are random."""
    ratio = (found * exact).sum() / exact.square().sum()
    if not bool(found.any()):
        symptom = "no-gradient"
    elif bool(((found - ratio * exact).abs() <= 1e-3 * exact.abs().amax()).all()):
        symptom = f"times {ratio:.1f}"
    else:
        symptom = "other"
    try:
        require_agreement(
            what, found, exact, scale=scale, dtype=probe.dtype, inputs={}, symptom=symptom
        )
    except Violation as violation:
        raise Violation(str(violation), symptom=violation.symptom) from None


@of_relaxed(
    "categorical/relaxed-slopes",
    statement="A relaxed sample has these derivatives with respect to the logits, whatever its "
    "noise was.",
    formula=r"\frac{\partial y_j}{\partial\ell_k} = \frac{y_j (\delta_{jk} - y_k)}{\tau}",
    source=f"{_JANG}, equation 2",
    kind="gradient",
    tolerance="32 roundings of 1 over the temperature",
    kills=("gumbel-detached",),
    builds_on=(*_SIMPLEX, *_LAW, "categorical/relaxed-law"),
)
def relaxed_slopes(probe: Probe) -> None:
    probe.require_gradient("gumbel_softmax")
    for size, temperature in itertools.product(sizes(probe, (3, 4, 3), (4, 2, 5)), _TEMPERATURES):
        weights = probe.normal(f"cotangent {size}", *size).clamp(-2, 2)
        kept: list[Tensor] = []

        def weighed(
            logits: Tensor,
            weights: Tensor = weights,
            temperature: float = temperature,
            kept: list[Tensor] = kept,
        ) -> Tensor:
            kept.append(_sample(probe, "gumbel_softmax", logits, temperature))
            return kept[0] * weights

        (found,) = probe.gradient(weighed, probe.normal(f"slopes {size}", *size))
        y = kept[0].detach().double()
        exact = y * (weights - (weights * y).sum(-1, keepdim=True)) / temperature
        what = f"the slope of a relaxed sample at temperature {temperature}"
        _require_slopes(probe, what, found.double(), exact, 2 / temperature)


@of_hard(
    "categorical/one-hot",
    statement="A straight-through sample is 1 at one class of each latent and 0 at the others.",
    formula=r"z_{dk} \in \{0, 1\}, \qquad \sum_k z_{dk} = 1",
    source=f"{_JANG}, section 2.2",
    kind="exact",
    tolerance="32 roundings of 1",
    kills=("straight-through-soft", "straight-through-minus-soft", "straight-through-wrong-axis"),
)
def one_hot(probe: Probe) -> None:
    for size in sizes(probe, (2, 1, 2), (3, 4, 3), (4, 2, 5)):
        logits = probe.normal(f"one-hot {size}", *size)
        z = _sample(probe, "straight_through", logits, 0.8).detach()
        single = z.dtype == torch.float32
        nearest = torch.zeros_like(z).scatter(-1, z.argmax(-1, keepdim=True), 1.0)
        wrong = (z - nearest).abs()
        largest = ROUNDINGS * torch.finfo(torch.float32 if single else probe.dtype).eps
        if not bool((wrong <= largest).all()):  # true for NaN too
            latent = z.reshape(-1, size[-1])[int(wrong.amax(-1).flatten().argmax())]
            ones = int((latent.round() == 1).sum())
            whole = bool(((latent - latent.round()).abs() <= largest).all())
            raise Violation(
                f"a straight-through sample is {[round(v, 4) for v in latent.tolist()[:8]]}, "
                "not one-hot",
                symptom=f"{ones} ones" if whole else "negative" if latent.min() < 0 else "soft",
            )


@of_hard(
    "categorical/one-hot-noise-of-its-own",
    statement="Every example, latent and call draws a class of its own.",
    formula=r"g_{ndk} \text{ independent}",
    source=f"{_JANG}, equation 1",
    kind="metamorphic",
    tolerance="none: bit for bit; by chance, once in 10^20 times or less",
    kills=("straight-through-without-noise", "straight-through-noise-shared-over-batch"),
    builds_on=_ONE_HOT,
)
def one_hot_noise_of_its_own(probe: Probe) -> None:
    _require_own_noise(probe, "straight_through")


@of_hard(
    "categorical/one-hot-law",
    statement="A straight-through sample is a draw from the softmax of the logits, at every "
    "temperature.",
    formula=r"P(z_j = 1) = q_j = e^{\ell_j} / \sum_k e^{\ell_k}",
    source=f"{_MADDISON}, proposition 1b; {_JANG}, equation 1",
    kind="statistical",
    tolerance="a probability that is wrong by 0.025 is found",
    kills=("straight-through-temperature-in-the-law",),
    builds_on=(*_ONE_HOT, *_HARD_NOISE),
)
def one_hot_law(probe: Probe) -> None:
    _require_law(probe, "straight_through", _TEMPERATURES)


def _jacobian(probe: Probe, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return straight-through samples z, and dz_j / dl_k with the axes j and k last."""
    kept: list[Tensor] = []

    def forward(leaf: Tensor) -> Tensor:
        kept.append(_sample(probe, "straight_through", leaf, temperature))
        return kept[-1]

    probe.gradient(forward, logits)  # objects if there is no gradient
    leaf = logits.clone().requires_grad_()
    z = forward(leaf)
    rows = [
        torch.autograd.grad(z[..., j].sum(), leaf, retain_graph=True)[0].double()
        for j in range(logits.shape[-1])
    ]
    return z.detach(), torch.stack(rows, -2)


@of_hard(
    "categorical/straight-through-slopes",
    statement="A straight-through sample has the derivatives of the relaxed sample whose largest "
    "class it is or, as declared, those of the probabilities.",
    formula=r"\frac{\partial z_j}{\partial\ell_k} = \frac{y_j (\delta_{jk} - y_k)}{\tau}, \quad "
    r"\arg\max y = \arg\max z \qquad \text{or} \qquad q_j (\delta_{jk} - q_k)",
    source=f"{_JANG}, section 2.2; Bengio, Leonard and Courville 2013, section 4",
    kind="gradient",
    tolerance="32 roundings of 1 over the temperature, times the largest ratio of two products "
    "of coordinates",
    kills=(
        "gumbel-straight-through-detached",
        "straight-through-temperature-not-in-gradient",
        "straight-through-gradient-of-other-noise",
    ),
    builds_on=(*_ONE_HOT, *_HARD_NOISE, "categorical/one-hot-law"),
)
def straight_through_slopes(probe: Probe) -> None:
    """Of a relaxed sample that is not seen, the derivatives tell all coordinates."""
    probe.require_gradient("straight_through")
    size = sizes(probe, (8, 2, 3))[0]
    logits = probe.normal("straight-through", *size)
    what = "the derivative of a straight-through sample"
    if subject_of(probe).gradient_of == "probabilities":
        q = torch.softmax(logits.double(), -1)
        _, found = _jacobian(probe, logits, 1.3)
        exact = torch.diag_embed(q) - q.unsqueeze(-1) * q.unsqueeze(-2)
        _require_slopes(probe, what, found, exact, 2.0)
        return
    if size[-1] == 2:
        raise NotApplicable(
            "with two classes, the derivatives do not determine the relaxed sample"
        )
    for temperature in _TEMPERATURES:
        z, found = _jacobian(probe, logits, temperature)
        if not bool(found.any()):
            raise Violation("the derivatives by the logits are all 0", symptom="no-gradient")
        # Off the diagonal it is -y_j y_k / tau: two of a row have the ratio of two coordinates.
        last, first = found[..., -1, :], found[..., 0, -1]
        y = last / last[..., :1]
        y = torch.cat([y[..., :-1], (first / found[..., 0, 1] * y[..., 1]).unsqueeze(-1)], -1)
        y = y / y.sum(-1, keepdim=True)
        exact = (torch.diag_embed(y) - y.unsqueeze(-1) * y.unsqueeze(-2)) / temperature
        products = (y.unsqueeze(-1) * y.unsqueeze(-2)).abs().flatten(-2)
        scale = (2 / temperature + products.amax(-1) / products.amin(-1)).unsqueeze(-1)
        _require_slopes(probe, what, found, exact, scale.unsqueeze(-1))
        other = y.argmax(-1) != z.argmax(-1)
        if bool(other.any()):
            raise Violation(
                f"{int(other.sum())} of {other.numel()} straight-through samples have the "
                "gradient of a relaxed sample that is largest at another class",
                symptom="other-noise",
            )


def _raw_density(probe: Probe, y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Return what the subject's log density returns for y."""
    subject, shape = subject_of(probe), probe.conventions.latent_shape
    point = y.log() if subject.density_of == "log y" else y
    point = shaped(probe, point.unflatten(1, shape) if shape else point)
    with probe.calling():
        answer: Tensor = subject.log_density_relaxed(point, given(probe, logits), temperature)
    return answer


def _log_density(probe: Probe, y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Return the subject's log density of y, one number for each example."""
    answer = _raw_density(probe, y, logits, temperature)
    if answer.numel() == len(y):
        return answer.reshape(len(y))
    rows = zip(y.split(1), logits.split(1), strict=True)
    return torch.stack([_raw_density(probe, *row, temperature).sum() for row in rows])


def _by_change_of_variables(y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Return the log density of one relaxed sample: that of its noise, and the Jacobian.

    The noise that makes y is uniform on the simplex. Both leave out their largest coordinate,
    which is 1 minus the others, so that none is a difference of nearly equal numbers.
    """
    order = y.argsort()
    y, logits = y[order], logits[order]
    largest = int((logits - temperature * y.log()).argmax())

    def noise(free: Tensor) -> Tensor:
        whole = torch.cat([free, 1 - free.sum(-1, keepdim=True)])
        w = torch.softmax(logits - temperature * whole.log(), -1)
        return torch.cat([w[:largest], w[largest + 1 :]])

    jacobian = torch.autograd.functional.jacobian(noise, y[:-1])
    value: Tensor = torch.linalg.slogdet(jacobian)[1] + math.lgamma(len(y))
    return value


def _exact_density(y: Tensor, logits: Tensor, temperature: float, of: str) -> Tensor:
    y, logits = y.double(), logits.double()
    rows = [
        torch.stack(
            [_by_change_of_variables(*pair, temperature) for pair in zip(*latents, strict=True)]
        ).sum()
        for latents in zip(y, logits, strict=True)
    ]
    return torch.stack(rows) + (y.log().sum((1, 2)) if of == "log y" else 0)


def _points(probe: Probe, name: str, size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return points inside the simplex, and logits."""
    y = torch.softmax(probe.normal(f"{name} y {size}", *size).double(), -1).to(probe.dtype)
    return y / y.sum(-1, keepdim=True), probe.normal(f"{name} logits {size}", *size)


def _density_scale(y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    k = y.shape[-1]
    logs = 1 + y.double().log().abs() + logits.double().abs()
    constant = math.lgamma(k) + k * abs(math.log(temperature))
    return k * ((1 + temperature) * logs).sum((1, 2)) + y.shape[1] * constant


def _rounding_of_the_constant(
    probe: Probe, size: tuple[int, int, int], temperature: float
) -> float:
    """Return by how much the density at one point is off, if it is a rounding to float32."""
    _, d, k = size
    y, logits = (torch.full((1, d, k), v, dtype=probe.dtype) for v in (1 / k, 0.0))
    exact = _exact_density(y, logits, temperature, subject_of(probe).density_of)
    off = float(_log_density(probe, y, logits, temperature).detach() - exact)
    least = 4 * torch.finfo(torch.float32).eps * d * (math.lgamma(k) + k)
    return off if abs(off) <= least else 0.0


_DENSITY_TOLERANCE = "32 roundings of the sum of the terms' absolute values, times K"


@of_density(
    "categorical/relaxed-density",
    statement="The log density of a relaxed sample is this, for every number of classes.",
    formula=r"p(y) = (K - 1)!\;\tau^{K-1}\,\frac{\prod_k e^{\ell_k} y_k^{-\tau-1}}"
    r"{\big(\sum_k e^{\ell_k} y_k^{-\tau}\big)^K} = (K - 1)!\,"
    r"\Big|\det\frac{\partial w}{\partial y}\Big|",
    kind="exact",
    tolerance=_DENSITY_TOLERANCE + "; the constant may be rounded to single precision",
    kills=(
        "relaxed-density-without-jacobian",
        "relaxed-density-without-factorial",
        "relaxed-density-without-temperature-power",
        "relaxed-density-temperature-sign",
        "relaxed-density-power-of-one",
        "relaxed-density-of-a-class",
        "relaxed-density-of-log-y",
    ),
)
def relaxed_density(probe: Probe) -> None:
    of = subject_of(probe).density_of
    every = sizes(probe, (1, 1, 3), (3, 2, 4), (2, 1, 2))
    for size, temperature in itertools.product(every, _TEMPERATURES):
        y, logits = _points(probe, "density", size)
        offset = _rounding_of_the_constant(probe, size, temperature)
        require_agreement(
            f"the log density at temperature {temperature}",
            _log_density(probe, y, logits, temperature) - offset,
            _exact_density(y, logits, temperature, of),
            scale=_density_scale(y, logits, temperature),
            dtype=probe.dtype,
            inputs={"y": y, "logits": logits},
        )


def _grid(classes: int) -> tuple[Tensor, Tensor, float]:
    """Return points of the simplex, a lattice of logarithms of ratios; their cell and y.

    Over these logarithms, a density of y has the Jacobian that is the product of all y.
    """
    reach, steps = 32.0, 257
    axis = torch.linspace(-reach, reach, steps, dtype=torch.float64)
    ratios = torch.cartesian_prod(*[axis] * (classes - 1)).view(-1, classes - 1)
    log_y = torch.log_softmax(torch.cat([ratios, 0 * ratios[:, :1]], 1), -1)
    return log_y.exp(), log_y.sum(1), (classes - 1) * math.log(2 * reach / (steps - 1))


@of_density(
    "categorical/relaxed-density-integral",
    statement="The density of a relaxed sample integrates to 1 over the simplex.",
    formula=r"\int_{\Delta^{K-1}} p(y)\,dy = 1 \quad (K = 2, 3)",
    kind="identity",
    tolerance="1e-6, or 32 roundings of the logarithms times 100",
    kills=("relaxed-density-without-factorial", "relaxed-density-without-temperature-power"),
    builds_on=_DENSITY,
)
def relaxed_density_integral(probe: Probe) -> None:
    _, d, _ = sizes(probe, (1, 1, 2))[0]
    fixed = subject_of(probe).classes
    if d > 1 or (fixed or 2) > 3:
        raise NotApplicable("only one latent of two or three classes can be integrated over")
    y, logits = _points(probe, "two", (2, 1, fixed or 2))
    if _raw_density(probe, y, logits, 1.0).numel() != len(y):
        raise NotApplicable("it is summed over the batch; the integral needs a number for each y")
    for k, temperature in itertools.product((fixed,) if fixed else (2, 3), (0.8, 1.3)):
        y, jacobian, cell = _grid(k)
        logits = probe.normal(f"integral {k}", 1, 1, k)
        found = _log_density(
            probe, y.unsqueeze(1).to(probe.dtype), logits.expand(len(y), 1, k), temperature
        )
        extra = 0 if subject_of(probe).density_of == "log y" else jacobian
        integral = torch.logsumexp(found.detach().double() + extra + cell, 0).exp()
        require_agreement(
            f"the integral of the density of {k} classes at temperature {temperature}",
            integral,
            torch.tensor(1.0),
            scale=100 + 1e-6 / (ROUNDINGS * torch.finfo(probe.dtype).eps),
            dtype=probe.dtype,
            inputs={"logits": logits},
        )


@of_density(
    "categorical/relaxed-density-slopes",
    statement="The log density has these derivatives with respect to the logits.",
    formula=r"\frac{\partial\log p}{\partial\ell_k} = 1 - K\,\frac{e^{\ell_k} y_k^{-\tau}}"
    r"{\sum_j e^{\ell_j} y_j^{-\tau}}",
    kind="gradient",
    tolerance="32 roundings of K, of the logarithms and of the logits",
    kills=("relaxed-density-detached",),
    builds_on=_DENSITY,
)
def relaxed_density_slopes(probe: Probe) -> None:
    probe.require_gradient("log_density_relaxed")
    for size, temperature in itertools.product(sizes(probe, (3, 2, 4)), _TEMPERATURES):
        y, logits = _points(probe, "density slopes", size)
        density: Callable[[Tensor], Tensor] = partial(
            _log_density, probe, y, temperature=temperature
        )
        (found,) = probe.gradient(density, logits)
        w = torch.softmax(logits.double() - temperature * y.double().log(), -1)
        logs = 1 + y.double().log().abs() + logits.double().abs()
        require_agreement(
            "the slope of the log density by the logits",
            found,
            1 - size[-1] * w,
            scale=size[-1] * (1 + temperature) * logs.sum(-1, keepdim=True),
            dtype=probe.dtype,
            inputs={"y": y, "logits": logits},
            symptom="" if bool(found.any()) else "no-gradient",
        )
