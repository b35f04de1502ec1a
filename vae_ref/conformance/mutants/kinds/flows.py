"""A correct VAE with richer posteriors and priors, and bugs of flows.

Bugs of full covariances, mixtures and von Mises-Fisher distributions have modules of their own.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref.conformance.kinds.flows import FlexibleVAE
from vae_ref.conformance.mutants import bank

__all__ = ["specimen"]

# Gaussians of full covariance.


def kl_full(mu: Tensor, L: Tensor) -> Tensor:  # noqa: N803
    """Return the KL from N(0, I) by the covariance, as textbooks write it."""
    covariance = L @ L.mT
    trace = torch.diagonal(covariance, dim1=1, dim2=2).sum(1)
    return 0.5 * ((mu**2).sum(1) + trace - mu.shape[1] - torch.logdet(covariance))


def draw_full(mu: Tensor, L: Tensor, eps: Tensor) -> Tensor:  # noqa: N803
    """Return a draw with the covariance L L^T."""
    return mu + torch.einsum("nij,nj->ni", L, eps)


def sample_full(mu: Tensor, L: Tensor) -> Tensor:  # noqa: N803
    """Return a draw with noise of its own."""
    return draw_full(mu, L, torch.randn_like(mu))


def log_density_full(z: Tensor, mu: Tensor, L: Tensor) -> Tensor:  # noqa: N803
    """Return the log density by the precision matrix."""
    distance = z - mu
    precision = torch.linalg.inv(L @ L.mT)
    square = torch.einsum("ni,nij,nj->n", distance, precision, distance)
    return 0.5 * (torch.logdet(precision) - square - mu.shape[1] * math.log(2 * math.pi))


# A planar flow, an affine coupling and a matrix, of two coordinates.

U, W, B = (
    torch.tensor([-3.0, 0.5], dtype=torch.float64),
    torch.tensor([0.6, 0.3], dtype=torch.float64),
    0.2,
)
MATRIX = torch.tensor(
    [[0.7, 0.9], [1.1, -0.5]], dtype=torch.float64
)  # its determinant is negative
Layer = Callable[[Tensor], tuple[Tensor, Tensor]]


def u_hat() -> Tensor:
    """Return the direction of the planar flow, for which it has an inverse."""
    product = W @ U
    return U + (F.softplus(product) - 1 - product) * W / (W @ W)


def planar(z: Tensor, u: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Move a code along u, which is the right one if it is left out."""
    w, u = W.to(z), (u_hat() if u is None else u).to(z)
    h = torch.tanh(z @ w + B)
    return z + h[:, None] * u, torch.log((1 + (1 - h**2) * (w @ u)).abs())


def scale_and_shift(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the raw log scale and the shift of the second coordinate, given the first."""
    return 1.5 * torch.sin(z[:, 0]) + 0.5, z[:, 0] ** 2 / 4


def coupling(z: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift the second coordinate."""
    s, t = scale_and_shift(z)
    s = 0.8 * torch.tanh(s)
    return torch.stack([z[:, 0], z[:, 1] * torch.exp(s) + t], 1), s


def linear(z: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply by a matrix."""
    matrix = MATRIX.to(z)
    return z @ matrix.T, torch.det(matrix).abs().log().expand(len(z))


def chain(*layers: Layer) -> Layer:
    """Return flows one after the other."""

    def flow(z: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(z[:, 0])
        for layer in layers:
            z, log_det = layer(z)
            total = total + log_det
        return z, total

    return flow


flow = chain(planar, coupling, linear)


def _planar_back(y: Tensor) -> tuple[Tensor, Tensor]:
    w, u = W.to(y), u_hat().to(y)
    target = y @ w
    reach = (w @ u).abs() + 1e-3
    low, high = target - reach, target + reach
    for _ in range(70):
        a = (low + high) / 2
        under = a + (w @ u) * torch.tanh(a + B) < target
        low, high = torch.where(under, a, low), torch.where(under, high, a)
    z = y - torch.tanh((low + high) / 2 + B)[:, None] * u
    return z, -planar(z)[1]


def _coupling_back(y: Tensor) -> tuple[Tensor, Tensor]:
    s, t = scale_and_shift(y)
    s = 0.8 * torch.tanh(s)
    return torch.stack([y[:, 0], (y[:, 1] - t) * torch.exp(-s)], 1), -s


def _linear_back(y: Tensor) -> tuple[Tensor, Tensor]:
    matrix = MATRIX.to(y)
    return y @ torch.linalg.inv(matrix).T, -torch.det(matrix).abs().log().expand(len(y))


inverse_flow = chain(_linear_back, _coupling_back, _planar_back)


def log_normal(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return log N(z; mu, sigma^2), one value per example."""
    return -0.5 * (math.log(2 * math.pi) + logvar + (z - mu) ** 2 / torch.exp(logvar)).sum(1)


def kl_flow(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the estimate of the KL from one draw z before the flow."""
    z_k, log_det = flow(z)
    zero = torch.zeros_like(z)
    return log_normal(z, mu, logvar) - log_det - log_normal(z_k, zero, zero)


# A mixture of three Gaussians that are the posteriors of pseudo-inputs.

WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
PSEUDO_INPUTS = torch.tensor(
    [[1.0, -0.5], [-1.2, 0.3], [0.4, 1.5]], dtype=torch.float64
).requires_grad_()


def prior_components() -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, means and log variances."""
    return WEIGHTS, 1.5 * PSEUDO_INPUTS, 0.4 * PSEUDO_INPUTS.flip(1) - 0.7


def parts_of_prior(z: Tensor) -> Tensor:
    """Return log N(z; mu_k, sigma_k^2) per example, component and coordinate."""
    _, mu, logvar = (t.to(z) for t in prior_components())
    return -0.5 * (math.log(2 * math.pi) + logvar + (z[:, None] - mu) ** 2 / torch.exp(logvar))


def log_flexible_prior(z: Tensor) -> Tensor:
    """Return the log density of the mixture."""
    return torch.logsumexp(parts_of_prior(z).sum(2) + WEIGHTS.to(z).log(), 1)


def draw_flexible_prior(n: int) -> Tensor:
    """Draw from the mixture."""
    weights, mu, logvar = prior_components()
    k = torch.multinomial(weights, n, replacement=True)
    return (mu[k] + torch.exp(logvar[k] / 2) * torch.randn(n, 2)).detach()


# The von Mises-Fisher distribution, by quadrature over the angle.

_NODES, _RATES = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(300))


def _log_rates(kappa: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return log exp(kappa (cos - 1)) sin^(dim - 2) of the angles, with their weights, and cos."""
    angle = (1 + _NODES.to(kappa)) * math.pi / 2
    rest = (dim - 2) * torch.log(torch.sin(angle)) + torch.log(_RATES.to(kappa) * math.pi / 2)
    # cos - 1 = -2 sin^2(angle / 2) has all its digits at small angles.
    return rest - 2 * kappa * torch.sin(angle / 2) ** 2, torch.cos(angle)


def log_area(dim: int) -> float:
    """Return the log area of the sphere in R^dim."""
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


def log_normaliser_vmf(kappa: Tensor, dim: int) -> Tensor:
    """Return log C_m(kappa)."""
    rates, _ = _log_rates(kappa, dim)
    return -kappa[:, 0] - torch.logsumexp(rates, 1) - log_area(dim - 1)


def mean_length(kappa: Tensor, dim: int) -> Tensor:
    """Return the mean of mu^T x."""
    rates, cosine = _log_rates(kappa, dim)
    return (torch.softmax(rates, 1) * cosine).sum(1)


def kl_vmf(kappa: Tensor, dim: int) -> Tensor:
    """Return the KL from the uniform distribution."""
    mean = kappa[:, 0] * mean_length(kappa, dim)
    return mean + log_normaliser_vmf(kappa, dim) + log_area(dim)


def envelope(kappa: Tensor, dim: int) -> Tensor:
    """Return b of Wood's sampler."""
    return (dim - 1) / (2 * kappa + torch.sqrt(4 * kappa**2 + (dim - 1) ** 2))


def cosines(kappa: Tensor, dim: int, b: Tensor, *, rejects: bool = True) -> Tensor:
    """Draw mu^T x by rejection, as Wood (1994) does."""
    x0 = (1 - b) / (1 + b)
    c = kappa * x0 + (dim - 1) * torch.log1p(-(x0**2))
    beta = torch.distributions.Beta(torch.tensor((dim - 1) / 2).to(kappa), (dim - 1) / 2)
    found, missing = torch.zeros_like(kappa), torch.ones_like(kappa, dtype=torch.bool)
    while bool(missing.any()):
        e = beta.sample(kappa.shape)
        w = (1 - (1 + b) * e) / (1 - (1 - b) * e)
        u = torch.rand_like(kappa)
        good = kappa * w + (dim - 1) * torch.log1p(-x0 * w) - c >= torch.log(u)
        found = torch.where(missing & (good | (not rejects)), w, found)
        missing = missing & ~good if rejects else torch.zeros_like(missing)
    return found


def around_pole(mu: Tensor, w: Tensor) -> Tensor:
    """Return directions around e_1, whose first coordinate is w."""
    v = torch.randn_like(mu)[:, 1:]
    v = v / v.norm(dim=1, keepdim=True)
    return torch.cat([w, torch.sqrt((1 - w**2).clamp_min(0)) * v], 1)


def reflect(mu: Tensor, x: Tensor) -> Tensor:
    """Reflect so that e_1 becomes mu."""
    pole = torch.zeros_like(mu)
    pole[:, 0] = 1
    u = pole - mu
    u = u / u.norm(dim=1, keepdim=True).clamp_min(1e-30)
    reflected: Tensor = x - 2 * (x * u).sum(1, keepdim=True) * u
    return reflected


def draw_vmf(mu: Tensor, kappa: Tensor) -> Tensor:
    """Draw a direction for each example."""
    dim = mu.shape[1]
    return reflect(mu, around_pole(mu, cosines(kappa, dim, envelope(kappa, dim))))


def specimen(name: str = "specimen", **changes: Any) -> FlexibleVAE:
    """Return a correct subject, some of whose functions are replaced."""
    functions: dict[str, Any] = {
        "kl_full": kl_full,
        "draw_full": draw_full,
        "sample_full": sample_full,
        "log_density_full": log_density_full,
        "flow": flow,
        "inverse_flow": inverse_flow,
        "kl_flow": kl_flow,
        "log_flexible_prior": log_flexible_prior,
        "draw_flexible_prior": draw_flexible_prior,
        "prior_components": prior_components,
        "prior_parameters": [PSEUDO_INPUTS],
        "log_normaliser_vmf": log_normaliser_vmf,
        "kl_vmf": kl_vmf,
        "draw_vmf": draw_vmf,
    }
    return FlexibleVAE(name=name, **(functions | changes))


bank.describe(
    "flows",
    specimen,
    kl_full="½ (‖μ‖² + Σ_ij L_ij² − D) − Σ_i log L_ii",
    draw_full="z = μ + L ε",
    sample_full="z ~ N(μ, L Lᵀ)",
    log_density_full="−½ (D log 2π + ‖L⁻¹(z − μ)‖²) − Σ_i log L_ii",
    flow="f(z), log|det ∂f/∂z|",
    inverse_flow="f⁻¹(z'), −log|det ∂f/∂z|",
    kl_flow="log N(z; μ, σ²) − log|det ∂f/∂z| − log N(f(z); 0, I)",
    log_flexible_prior="log Σ_k w_k N(z; μ_k, σ_k²)",
    draw_flexible_prior="k ~ w,  z = μ_k + σ_k ε",
    log_normaliser_vmf="(m/2 − 1) log κ − (m/2) log 2π − log I_{m/2−1}(κ)",
    kl_vmf="κ I_{m/2}(κ)/I_{m/2−1}(κ) + log C_m(κ) + log(2 π^{m/2}/Γ(m/2))",
    draw_vmf="x ~ C_m(κ) exp(κ μᵀx)",
)

of_flow = partial(bank.mutant, "flow")
of_inverse = partial(bank.mutant, "inverse_flow")
of_kl = partial(bank.mutant, "kl_flow")
ALONE: dict[str, Any] = {"inverse_flow": None, "kl_flow": None}
"""A bug of the flow is shown without functions that belong to the right one."""


@of_flow(
    "flow-log-det-sign",
    "the log-determinant of your flow has the wrong sign: it is that of the inverse",
    wrong="f(z), −log|det ∂f/∂z|",
    seen=("VincentStimper/normalizing-flows#27", "ikostrikov/pytorch-flows#16 (asked about)"),
    **ALONE,
)
def flow_sign(z: Tensor) -> tuple[Tensor, Tensor]:
    moved, log_det = flow(z)
    return moved, -log_det


@of_flow(
    "flow-log-det-of-batch",
    "your flow adds up the log-determinants of all examples, and gives each the sum",
    wrong="f(z_n), Σ_m log|det ∂f/∂z_m|",
    seen=("wohlert/semi-supervised-pytorch#21 (asked about)",),
    **ALONE,
)
def flow_of_batch(z: Tensor) -> tuple[Tensor, Tensor]:
    moved, log_det = flow(z)
    return moved, log_det.sum().expand(len(z))


@of_flow(
    "flow-det-without-log",
    "your flow returns the determinant, not its logarithm",
    wrong="f(z), |det ∂f/∂z|",
    **ALONE,
)
def flow_without_log(z: Tensor) -> tuple[Tensor, Tensor]:
    moved, log_det = flow(z)
    return moved, log_det.exp()


@of_flow(
    "flow-det-without-abs",
    "your flow takes the logarithm of a determinant that may be negative: the absolute value is "
    "missing",
    wrong="f(z), log det ∂f/∂z",
    seen=("kazewong/jim#126", "aesara-devs/aeppl#111"),
    **ALONE,
)
def flow_without_abs(z: Tensor) -> tuple[Tensor, Tensor]:
    moved, log_det = chain(planar, coupling)(z)
    return moved @ MATRIX.to(z).T, log_det + torch.log(torch.det(MATRIX.to(z)))


@of_flow(
    "flow-log-det-of-the-last-layer",
    "the log-determinant of your flow is that of its last layer: the others are overwritten",
    wrong="f_K(… f_1(z)), log|det ∂f_K/∂z_{K−1}|",
    seen=("tensorflow/models#7465 (asked about)",),
    **ALONE,
)
def flow_last_layer(z: Tensor) -> tuple[Tensor, Tensor]:
    z, _ = planar(z)
    return coupling(z)


@of_flow(
    "flow-planar-slope-of-tanh",
    "the derivative of tanh in your planar flow is 1 - tanh, not 1 - tanh²",
    wrong="log|1 + (1 − tanh(wᵀz + b)) wᵀû|",
    **ALONE,
)
def flow_slope(z: Tensor) -> tuple[Tensor, Tensor]:
    u = u_hat().to(z)
    h = torch.tanh(z @ W.to(z) + B)
    return planar(z)[0], torch.log((1 + (1 - h) * (W.to(z) @ u)).abs())


@of_flow(
    "flow-planar-slope-twice",
    "the slope of the activation is counted twice in the log-determinant of your planar flow",
    wrong="log|1 + h'(wᵀz + b)² wᵀû|",
    seen=("danielward27/flowjax#169",),
    **ALONE,
)
def flow_slope_twice(z: Tensor) -> tuple[Tensor, Tensor]:
    slope = 1 - torch.tanh(z @ W.to(z) + B) ** 2
    return planar(z)[0], torch.log((1 + slope**2 * (W.to(z) @ u_hat().to(z))).abs())


@of_flow(
    "flow-coupling-log-det-of-raw-scale",
    "the log-determinant of your coupling adds up the raw outputs of the network, not the log "
    "scales that the code is multiplied with",
    wrong="z₂ exp(a tanh s) + t, Σ s",
    **ALONE,
)
def flow_raw_scale(z: Tensor) -> tuple[Tensor, Tensor]:
    return coupling(z)[0], scale_and_shift(z)[0]


@of_flow(
    "flow-planar-without-constraint",
    "your planar flow has no inverse: its u is not constrained to wᵀu > -1",
    wrong="z + u tanh(wᵀz + b)",
    seen=("ex4sperans/variational-inference-with-normalizing-flows#2",),
    **ALONE,
)
def flow_without_constraint(z: Tensor) -> tuple[Tensor, Tensor]:
    return planar(z, U)


@of_flow(
    "flow-planar-norm-not-squared",
    "your planar flow has no inverse: the correction of its u is divided by the norm of w, not by "
    "its square",
    wrong="û = u + (log(1 + exp(wᵀu)) − 1 − wᵀu) w / ‖w‖",
    seen=(
        "tonyduan/normalizing-flows#2",
        "pyro-ppl/pyro#2192",
        "abdulfatir/planar-flow-pytorch#1",
        "LukasRinder/normalizing-flows#2 (asked about)",
    ),
    **ALONE,
)
def flow_norm(z: Tensor) -> tuple[Tensor, Tensor]:
    product = W @ U
    return planar(z, U + (F.softplus(product) - 1 - product) * W / W.norm())


@of_flow(
    "flow-log-det-detached",
    "the log-determinant of your flow is detached: its parameters and the code do not learn from "
    "it",
    wrong="f(z), stop-gradient(log|det ∂f/∂z|)",
    **ALONE,
)
def flow_detached(z: Tensor) -> tuple[Tensor, Tensor]:
    moved, log_det = flow(z)
    return moved, log_det.detach()


@of_inverse(
    "inverse-flow-log-det-sign",
    "the log-determinant of your inverse flow is that of the flow: its sign is wrong",
    wrong="f⁻¹(z'), log|det ∂f/∂z|",
    seen=("danielward27/flowjax#208", "Information-Fusion-Lab-Umass/NuX#10"),
)
def inverse_sign(z: Tensor) -> tuple[Tensor, Tensor]:
    back, log_det = inverse_flow(z)
    return back, -log_det


@of_inverse(
    "inverse-flow-in-the-same-order",
    "your inverse flow undoes the layers in the order in which they were applied, not backwards",
    wrong="f_K⁻¹(… f_1⁻¹(z'))",
)
def inverse_order(z: Tensor) -> tuple[Tensor, Tensor]:
    return chain(_planar_back, _coupling_back, _linear_back)(z)


@of_inverse(
    "inverse-flow-scales-before-shift",
    "your inverse coupling divides by the scale before it subtracts the shift",
    wrong="z₂ = z'₂ exp(−s) − t",
)
def inverse_scales_first(z: Tensor) -> tuple[Tensor, Tensor]:
    def back(y: Tensor) -> tuple[Tensor, Tensor]:
        s, t = scale_and_shift(y)
        s = 0.8 * torch.tanh(s)
        return torch.stack([y[:, 0], y[:, 1] * torch.exp(-s) - t], 1), -s

    return chain(_linear_back, back, _planar_back)(z)


@of_kl(
    "kl-flow-log-det-added",
    "your KL adds the log-determinant of the flow, which has to be subtracted",
    wrong="log N(z; μ, σ²) + log|det ∂f/∂z| − log N(f(z); 0, I)",
    seen=("VincentStimper/normalizing-flows#27",),
)
def kl_added(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return kl_flow(z, mu, logvar) + 2 * flow(z)[1]


@of_kl(
    "kl-flow-without-log-det",
    "your KL lacks the log-determinant of the flow",
    wrong="log N(z; μ, σ²) − log N(f(z); 0, I)",
    seen=("sbaurdlp/keras-iaf-mnist#1 (asked about)",),
)
def kl_without_log_det(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return kl_flow(z, mu, logvar) + flow(z)[1]


@of_kl(
    "kl-flow-log-det-of-batch",
    "your KL subtracts the log-determinants of all examples from that of each",
    wrong="log N(z_n; μ, σ²) − Σ_m log|det ∂f/∂z_m| − log N(f(z_n); 0, I)",
    seen=("wohlert/semi-supervised-pytorch#21 (asked about)",),
)
def kl_of_batch(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    log_det = flow(z)[1]
    return kl_flow(z, mu, logvar) + log_det - log_det.sum()


@of_kl(
    "kl-flow-prior-before-flow",
    "your KL evaluates the prior at the code before the flow, not after it",
    wrong="log N(z; μ, σ²) − log|det ∂f/∂z| − log N(z; 0, I)",
    seen=("casperkaae/parmesan#21",),
)
def kl_prior_before(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    zero = torch.zeros_like(z)
    return log_normal(z, mu, logvar) - flow(z)[1] - log_normal(z, zero, zero)


@of_kl(
    "kl-flow-base-after-flow",
    "your KL evaluates the Gaussian of the encoder at the code after the flow, not before it",
    wrong="log N(f(z); μ, σ²) − log|det ∂f/∂z| − log N(f(z); 0, I)",
    seen=("kingofspace0wzz/wae-rnf-lm#3 (asked about)",),
)
def kl_base_after(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    z_k, log_det = flow(z)
    zero = torch.zeros_like(z)
    return log_normal(z_k, mu, logvar) - log_det - log_normal(z_k, zero, zero)
