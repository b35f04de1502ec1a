"""Claims about normalizing flows: a map, its log-determinant, its inverse and the KL with it.

A flow is judged as it is, with the parameters that it has: by the determinant of its Jacobian,
which is computed in full.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from vae_ref.conformance.answers.comparison import plain, require_agreement, tolerance
from vae_ref.conformance.claims import registry
from vae_ref.conformance.foreign import NoGradientError
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import NotApplicable, Violation

_SOURCE = "Rezende and Mohamed 2015, equations 5 to 7; Dinh et al. 2017, equation 6"
_ROUNDINGS = "32 roundings of the logarithms that are summed, and of the Jacobian's condition"
_NEEDS = ("flow",)
_LOG_DET = ("flows/flow-log-det",)
_REACH, _CELLS = 8.0, 240  # the grid of z, which the mass outside of is below 1e-14

of_flow = partial(registry.claim, slot="flow", source=_SOURCE, needs=_NEEDS)


def _moved(probe: Probe, part: str, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes and log-determinants, one per example whatever form they come in."""
    with probe.calling():
        answer = getattr(probe.fields, part)(z.clone())
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise Violation(f"{part} returned no pair of codes and log-determinants", symptom="pair")
    moved, log_det = (torch.as_tensor(tensor) for tensor in answer)
    if moved.numel() != z.numel():
        found, expected = tuple(moved.shape), tuple(z.shape)
        raise Violation(f"{part} returned codes of shape {found}, not {expected}", symptom="shape")
    if log_det.numel() == len(z):
        return moved.reshape(z.shape), log_det.reshape(len(z))
    if log_det.numel() == z.numel() and log_det.shape[:1] == z.shape[:1]:
        return moved.reshape(z.shape), log_det.reshape(z.shape).sum(1)  # one for each coordinate
    if log_det.numel() == 1:  # summed or averaged over the batch
        rows = [_moved(probe, part, row) for row in z.split(1)]
        return moved.reshape(z.shape), torch.cat([row[1] for row in rows])
    raise Violation(
        f"{part} returned log-determinants of shape {tuple(log_det.shape)} for {len(z)} codes",
        symptom="shape",
    )


def _codes(probe: Probe, name: str, examples: int) -> Tensor:
    return 1.5 * probe.normal(name, examples, probe.fields.flow_dim)


def _require_function(probe: Probe, part: str) -> None:
    """Raise `NotApplicable` if a flow is random, or depends on the other examples of a batch."""
    probe.once(("flow", part), lambda: _as_a_function(probe, part))


def _as_a_function(probe: Probe, part: str) -> None:
    z = _codes(probe, "function", 4)
    if part == "inverse_flow":
        z = _moved(probe, "flow", z)[0].detach()
    first, again = (
        torch.cat([t.reshape(-1).double() for t in _moved(probe, part, z)]) for _ in range(2)
    )
    if not torch.equal(first.nan_to_num(), again.nan_to_num()):
        raise NotApplicable(f"{part} is random; give one whose log-determinant is exact")
    alone = torch.cat([_moved(probe, part, row)[0] for row in z.split(1)]).reshape(-1).double()
    if not torch.allclose(first[: len(alone)], alone, rtol=1e-3, atol=1e-3, equal_nan=True):
        raise NotApplicable(
            f"in {part} an example depends on the others, as with batch normalization; give one "
            "in evaluation mode"
        )


class _Jacobian(NamedTuple):
    """Per example: log|det|, its size, the sign of det, whether it is sure, the least stretch."""

    log_det: Tensor
    size: Tensor
    sign: Tensor
    sure: Tensor
    least: Tensor


def _jacobian(probe: Probe, part: str, z: Tensor) -> _Jacobian:
    """Compute the Jacobian in full: by the gradients of the codes, or by differences."""
    matrix, more = _by_gradients(probe, part, z), 0.0
    if matrix is None:
        matrix, more = _by_differences(probe, part, z), 1e9
    if not bool(torch.isfinite(matrix).all()):
        raise Violation(f"the derivatives of {part} are not finite", symptom="jacobian")
    s = torch.linalg.svdvals(matrix)
    # A slope such as 1 - tanh^2 is rounded as 1 is, however small it is.
    condition = (1 + s[:, 0]) / s[:, -1].clamp_min(1e-300)
    size = 1 + s.clamp_min(1e-300).log().abs().sum(1) + (1 + more) * s.shape[1] * condition
    sure = torch.finfo(probe.dtype).eps * (1 + more) * condition < 1e-3
    sign = torch.linalg.det(matrix).sign()
    return _Jacobian(s.log().sum(1), size, sign, sure, s[:, -1].clamp_min(1e-300))


def _by_gradients(probe: Probe, part: str, z: Tensor) -> Tensor | None:
    leaf = z.clone().requires_grad_()
    try:
        moved, _ = _moved(probe, part, leaf)
    except RuntimeError:  # which it raises of no tensor without a gradient
        return None
    if not moved.requires_grad:
        return None
    try:
        rows = [
            torch.autograd.grad(column.sum(), leaf, retain_graph=True, allow_unused=True)[0]
            for column in moved.unbind(1)
        ]
    except NoGradientError:
        return None
    zero = torch.zeros_like(z)
    return torch.stack([zero if row is None else row for row in rows], 1).double()


def _by_differences(probe: Probe, part: str, z: Tensor) -> Tensor:
    def along(h: Tensor) -> Tensor:
        return _moved(probe, part, z + h)[0].detach().double()

    return torch.stack([_difference(along, e, probe.dtype) for e in torch.eye(z.shape[1])], 2)


def _difference(function: Callable[[Tensor], Tensor], e: Tensor, dtype: torch.dtype) -> Tensor:
    """Differentiate at 0 along e, by differences of the fourth order."""
    h = _step(dtype)
    e = e.to(dtype)
    near, far = function(h * e) - function(-h * e), function(2 * h * e) - function(-2 * h * e)
    return (8 * near - far) / (12 * h)


def _step(dtype: torch.dtype) -> float:
    return 1e-3 if dtype == torch.float64 else 3e-2


@of_flow(
    "flows/flow-log-det",
    statement="The log-determinant of a flow is that of its Jacobian, all layers together.",
    formula=r"\log\Big|\det\frac{\partial z'}{\partial z}\Big|",
    kind="exact",
    tolerance=_ROUNDINGS,
    kills=(
        "flow-log-det-sign",
        "flow-log-det-of-batch",
        "flow-det-without-log",
        "flow-det-without-abs",
        "flow-log-det-of-the-last-layer",
        "flow-planar-slope-of-tanh",
        "flow-planar-slope-twice",
        "flow-coupling-log-det-of-raw-scale",
    ),
)
def flow_log_det(probe: Probe) -> None:
    _require_function(probe, "flow")
    z = _codes(probe, "log det", 6)
    exact = _jacobian(probe, "flow", z)
    found = _moved(probe, "flow", z)[1].detach().double()
    right = exact.log_det
    _require_one_of(
        probe,
        "the log-determinant of the flow",
        found,
        right,
        size=exact.size,
        inputs={"z": z},
        mistakes={
            "sign": (-right, "it is the negative of it, which belongs to the inverse"),
            "batch": (right.sum().expand(6), "it is the sum over the batch"),
            "determinant": (right.exp(), "it is the determinant itself"),
        },
    )


def _require_one_of(
    probe: Probe,
    what: str,
    found: Tensor,
    right: Tensor,
    *,
    size: Tensor,
    inputs: dict[str, Tensor],
    mistakes: dict[str, tuple[Tensor, str]],
) -> None:
    """Compare; say which of some known mistakes it is, whatever parameters the subject has."""
    allowed = tolerance(probe.dtype, size)

    def agrees(answer: Tensor) -> bool:
        return bool(((found - answer).abs() <= allowed * (1 + answer.abs())).all())

    if not bool(((found - right).abs() <= allowed).all()):
        finite = torch.isfinite(found)
        if not bool(finite.all()):
            raise Violation(f"{what} is {found[~finite][0].item()}", symptom="not-finite")
        for symptom, (answer, words) in mistakes.items():
            if agrees(answer):
                raise Violation(
                    f"{what} is {found[0]:.9g}, not {right[0]:.9g}: {words}", symptom=symptom
                )
    require_agreement(what, found, right, scale=size, dtype=probe.dtype, inputs=inputs)


@of_flow(
    "flows/flow-has-an-inverse",
    statement="The flow does not fold: its determinant has the same sign everywhere, so that it "
    "can have an inverse.",
    formula=r"\operatorname{sign}\det\frac{\partial z'}{\partial z} = \text{constant}",
    kind="metamorphic",
    tolerance="none, where the sign is certain: determinants near zero are left out",
    kills=("flow-planar-without-constraint", "flow-planar-norm-not-squared"),
)
def flow_has_an_inverse(probe: Probe) -> None:
    _require_function(probe, "flow")
    z = torch.cat([_codes(probe, "near", 1000), 2 * _codes(probe, "far", 1000)])
    found = _jacobian(probe, "flow", z)
    signs = found.sign * found.sure
    if bool((signs > 0).any()) and bool((signs < 0).any()):
        rare = 1 if int((signs > 0).sum()) < int((signs < 0).sum()) else -1
        size = torch.where(signs == rare, found.log_det, -torch.inf)
        index = int(size.argmax())
        raise Violation(
            f"the determinant of the flow is positive at some codes and negative at others, such "
            f"as {rare * math.exp(size[index].item()):.3g} at {plain(z[index])}: it folds, and "
            "two codes become one (a planar flow needs w'u > -1)",
            symptom="folds",
            counterexample={"inputs": {"z": plain(z[index])}, "got": size[index].item()},
        )


@of_flow(
    "flows/flow-keeps-mass",
    statement="The density that the flow makes of N(0, I) integrates to 1, with areas measured on "
    "the image of a grid. Only flows of 1 or 2 coordinates are judged.",
    formula=r"\int q(z')\,dz' = 1, \qquad \log q(z') = \log N(z; 0, I) - \log|\det|",
    kind="identity",
    tolerance="what half of the grid changes, and 1e-5",
    kills=("flow-log-det-sign", "flow-log-det-of-the-last-layer", "flow-det-without-log"),
    builds_on=_LOG_DET,
)
def flow_keeps_mass(probe: Probe) -> None:
    _require_function(probe, "flow")
    dim = probe.fields.flow_dim
    if dim > 2:
        raise NotApplicable(f"a flow of {dim} coordinates; one of 1 or 2 can be judged")
    cells = _CELLS if dim == 2 else 40 * _CELLS
    axis = torch.linspace(-_REACH, _REACH, cells + 1, dtype=probe.dtype)
    z = torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)
    moved, log_det = _moved(probe, "flow", z)
    normal = -0.5 * (z.double().square().sum(1) + dim * math.log(2 * math.pi))
    density = torch.exp(normal - log_det.detach().double())
    shape = (cells + 1,) * dim
    density, moved = density.reshape(shape), moved.detach().double().reshape(*shape, dim)
    masses = [_mass(density[s], moved[s]) for s in ((slice(None, None, 2),) * dim, ...)]
    if not math.isfinite(masses[1]):
        raise Violation("the density that the flow makes is not finite", symptom="not-finite")
    doubt = abs(masses[1] - masses[0])
    if doubt > 0.02:
        raise NotApplicable("the flow is too steep for the grid on which areas are measured")
    refined = (4 * masses[1] - masses[0]) / 3
    if not abs(refined - 1) <= doubt + 1e-5 + 1e4 * torch.finfo(probe.dtype).eps:
        raise Violation(
            f"the density that the flow makes of N(0, I) adds up to {refined:.6g}, not to 1",
            symptom="mass",
            counterexample={"expected": 1.0, "got": refined},
        )


def _mass(density: Tensor, moved: Tensor) -> float:
    """Add up densities at the corners of cells, times the area that a cell is moved to."""
    if density.ndim == 1:
        lengths = (moved[1:, 0] - moved[:-1, 0]).abs()
        return float((lengths * (density[1:] + density[:-1]) / 2).sum())
    diagonals = moved[1:, 1:] - moved[:-1, :-1], moved[:-1, 1:] - moved[1:, :-1]
    areas = (diagonals[0][..., 0] * diagonals[1][..., 1]).sub(
        diagonals[0][..., 1] * diagonals[1][..., 0]
    ).abs() / 2
    corners = density[1:, 1:] + density[:-1, 1:] + density[1:, :-1] + density[:-1, :-1]
    return float((areas * corners / 4).sum())


@of_flow(
    "flows/flow-log-det-slopes",
    statement="The gradient of the log-determinant with respect to the code agrees with "
    "differences of its values, where they are smooth.",
    formula=r"\frac{\partial}{\partial z} \log\Big|\det\frac{\partial z'}{\partial z}\Big|",
    kind="gradient",
    tolerance="1e-5 of the largest slope (1e-2 in single precision), against differences",
    kills=("flow-log-det-detached",),
    builds_on=_LOG_DET,
)
def flow_log_det_slopes(probe: Probe) -> None:
    _require_function(probe, "flow")
    probe.require_gradient("flow")
    z, e = _codes(probe, "slopes", 12), probe.normal("direction", 12, probe.fields.flow_dim)
    if _by_gradients(probe, "flow", z) is None:
        raise NotApplicable("the flow comes without a gradient")
    leaf = z.clone().requires_grad_()
    _, log_det = _moved(probe, "flow", leaf)
    gradient = None
    if log_det.requires_grad:
        try:
            gradient = torch.autograd.grad(log_det.sum(), leaf, allow_unused=True)[0]
        except NoGradientError as error:
            raise NotApplicable("the flow comes without a gradient") from error
    own = torch.zeros(12).double() if gradient is None else (gradient * e).sum(1).double()
    _require_slope(
        probe,
        "the slope of the log-determinant along a line",
        own,
        lambda h: _moved(probe, "flow", z + h * e)[1].detach().double(),
        missing=gradient is None or not bool(gradient.any()),
    )


def _require_slope(
    probe: Probe, what: str, own: Tensor, value: Callable[[float], Tensor], *, missing: bool
) -> None:
    """Compare slopes with differences, where these do not depend on the step; most must agree."""
    h = _step(probe.dtype)
    wide, narrow = (
        (8 * (value(k) - value(-k)) - value(2 * k) + value(-2 * k)) / (12 * k) for k in (h, h / 2)
    )
    allowed = (1e-5 if probe.dtype == torch.float64 else 1e-2) * (1 + narrow.abs().amax())
    smooth = (wide - narrow).abs() <= 0.1 * allowed
    wrong = smooth & ~((own - narrow).abs() <= allowed)
    if 2 * int(wrong.sum()) > int(smooth.sum()):  # differences look smooth at some kinks, too
        index = int(wrong.int().argmax())
        raise Violation(
            f"{what} is {own[index]:.6g} by its gradient, but {narrow[index]:.6g} by its values"
            + (": no gradient flows through it" if missing else ""),
            symptom="no-gradient" if missing else "slope",
        )


@registry.claim(
    "flows/inverse-flow",
    statement="The inverse flow takes a code back, and its log-determinant is minus that of the "
    "flow.",
    formula=r"f^{-1}(f(z)) = z, \qquad "
    r"\log\Big|\det\frac{\partial z}{\partial z'}\Big| = "
    r"-\log\Big|\det\frac{\partial z'}{\partial z}\Big|",
    source=_SOURCE,
    slot="inverse_flow",
    needs=("flow", "inverse_flow"),
    kind="exact",
    tolerance="1e-4 of the size: many inverses are found by iteration",
    kills=(
        "inverse-flow-log-det-sign",
        "inverse-flow-in-the-same-order",
        "inverse-flow-scales-before-shift",
    ),
)
def inverse_flow(probe: Probe) -> None:
    _require_function(probe, "flow")
    _require_function(probe, "inverse_flow")
    z = _codes(probe, "inverse", 6)
    exact = _jacobian(probe, "flow", z)
    moved, _ = _moved(probe, "flow", z)
    back, log_det = (
        tensor.detach().double() for tensor in _moved(probe, "inverse_flow", moved.detach())
    )
    per_rounding = 1e-4 / (32 * torch.finfo(probe.dtype).eps)
    require_agreement(
        "the code that the inverse flow takes back",
        back,
        z.double(),
        scale=(per_rounding + exact.size[:, None]) * (1 + z.double().abs()),
        dtype=probe.dtype,
        inputs={"z": z},
    )
    _require_one_of(
        probe,
        "the log-determinant of the inverse flow",
        log_det,
        -exact.log_det,
        size=exact.size + per_rounding * (1 + exact.log_det.abs()),
        inputs={"z": z},
        mistakes={"sign": (exact.log_det, "it is that of the flow, not of its inverse")},
    )


@registry.claim(
    "flows/kl-flow",
    statement="The estimate of the KL with a flow subtracts the log-determinant, and evaluates "
    "the prior after the flow.",
    formula=r"\log N(z; \mu, \sigma^2) - \log\Big|\det\frac{\partial z'}{\partial z}\Big| - "
    r"\log N(z'; 0, I)",
    source="Rezende and Mohamed 2015, equation 15",
    slot="kl_flow",
    needs=("flow", "kl_flow"),
    kind="exact",
    tolerance=_ROUNDINGS,
    kills=(
        "kl-flow-log-det-added",
        "kl-flow-without-log-det",
        "kl-flow-log-det-of-batch",
        "kl-flow-prior-before-flow",
        "kl-flow-base-after-flow",
    ),
    builds_on=_LOG_DET,
)
def kl_flow(probe: Probe) -> None:
    _require_function(probe, "flow")
    z, mu = _codes(probe, "kl", 5), _codes(probe, "kl mu", 5)
    logvar = probe.normal("kl logvar", *mu.shape)
    exact = _jacobian(probe, "flow", z)
    after = _moved(probe, "flow", z)[0].detach().double()
    wide = (mu.double(), logvar.double())
    zero = (torch.zeros_like(wide[0]), torch.zeros_like(wide[1]))
    base, prior, log_det = _normal(z.double(), *wide), _normal(after, *zero), exact.log_det
    right = base - log_det - prior
    before, late = _normal(z.double(), *zero), _normal(after, *wide)
    slope = ((z.double() - wide[0]).abs() / wide[1].exp()).sum(1)
    back = (1 + after.abs().amax(1)) / exact.least * (10 + slope)  # if z is found from z'
    square = ((z.double() - wide[0]) ** 2 / wide[1].exp()).sum(1) + after.square().sum(1)
    size = base.abs() + prior.abs() + square + exact.size + back
    _require_one_of(
        probe,
        "the KL with the flow",
        probe.each("kl_flow", z, mu, logvar).detach().double(),
        right,
        size=size,
        inputs={"z": z, "mu": mu, "logvar": logvar},
        mistakes={
            "added": (right + 2 * log_det, "the log-determinant is added, not subtracted"),
            "without": (right + log_det, "the log-determinant is missing"),
            "batch": (
                right + log_det - log_det.sum(),
                "the log-determinants of the whole batch are subtracted",
            ),
            "before": (base - log_det - before, "the prior is evaluated before the flow"),
            "late": (late - log_det - prior, "the encoder's Gaussian is evaluated after the flow"),
        },
    )


def _normal(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (math.log(2 * math.pi) + logvar + (z - mu) ** 2 / logvar.exp()).sum(1)
