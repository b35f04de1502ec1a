"""Bugs of likelihoods beyond the textbook's, and a correct one of each family."""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref.conformance.kinds.families import LikelihoodFamily
from vae_ref.conformance.mutants import bank

__all__ = ["specimen"]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_BIN = 1 / 255  # half of a level's width, of levels from -1 to 1


def gaussian(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Return the score of real numbers, as papers write it."""
    squares = (x - mean) ** 2 / (2 * torch.exp(2 * log_sigma))
    return (squares + log_sigma + _HALF_LOG_2PI).sum(1)


def laplace(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return the score of real numbers with heavier tails."""
    return ((x - mean).abs() / log_scale.exp() + log_scale + math.log(2)).sum(1)


def student(x: Tensor, mean: Tensor, scale: Tensor, degrees: Tensor) -> Tensor:
    """Return the score of real numbers with tails that fall like a power."""
    squares = ((x - mean) / scale) ** 2
    gammas = torch.lgamma((degrees + 1) / 2) - torch.lgamma(degrees / 2)
    power = (degrees + 1) / 2 * torch.log1p(squares / degrees)
    return (power + 0.5 * torch.log(math.pi * degrees) + scale.log() - gammas).sum(1)


def _level(x: Tensor, mean: Tensor, log_scale: Tensor, half: float = _BIN) -> Tensor:
    """Return the log probability of levels from -1 to 1, as PixelCNN++ computes it."""
    above, below = ((x - mean + d) * torch.exp(-log_scale) for d in (half, -half))
    between = torch.sigmoid(above) - torch.sigmoid(below)
    first, last = x < -1 + _BIN, x > 1 - _BIN
    safe = torch.where(between > 0, between, 1)
    inner = torch.where(between > 0, safe.log(), -math.inf)
    return torch.where(
        first, above - F.softplus(above), torch.where(last, -F.softplus(below), inner)
    )


def logistic(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return the score of grey levels."""
    return -_level(x, mean, log_scale).sum(1)


def mixture(x: Tensor, logits: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return the score of grey levels under several logistic distributions."""
    levels = _level(x[..., None], mean, log_scale)
    return -torch.logsumexp(F.log_softmax(logits, -1) + levels, -1).sum(1)


def poisson(x: Tensor, rate: Tensor) -> Tensor:
    """Return the score of counts."""
    return (rate - torch.xlogy(x, rate) + torch.lgamma(x + 1)).sum(1)


def _nb(x: Tensor, mean: Tensor, theta: Tensor) -> Tensor:
    """Return the log probability of counts, as scVI computes it."""
    log_sum = torch.log(theta + mean)
    powers = theta * (theta.log() - log_sum) + x * (mean.log() - log_sum)
    return powers + torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)


def negative_binomial(x: Tensor, mean: Tensor, theta: Tensor) -> Tensor:
    """Return the score of counts that vary more than Poisson's."""
    return -_nb(x, mean, theta).sum(1)


def zero_inflated(x: Tensor, mean: Tensor, theta: Tensor, gate_logits: Tensor) -> Tensor:
    """Return the score of counts with more zeros."""
    counts = F.logsigmoid(-gate_logits) + _nb(x, mean, theta)
    zeros = torch.logaddexp(F.logsigmoid(gate_logits), counts)
    return -torch.where(x < 0.5, zeros, counts).sum(1)


def categorical(x: Tensor, logits: Tensor) -> Tensor:
    """Return the score of classes."""
    return F.cross_entropy(logits.movedim(-1, 1), x, reduction="none").sum(1)


def multinomial(x: Tensor, logits: Tensor) -> Tensor:
    """Return the score of counts of classes."""
    ways = torch.lgamma(x.sum(1) + 1) - torch.lgamma(x + 1).sum(1)
    return -(ways + (x * F.log_softmax(logits, 1)).sum(1))


def draw_gaussian(mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Draw real numbers."""
    return mean + log_sigma.exp() * torch.randn_like(mean)


def draw_laplace(mean: Tensor, log_scale: Tensor) -> Tensor:
    """Draw real numbers with heavier tails."""
    u = torch.rand_like(mean) - 0.5
    return mean - log_scale.exp() * torch.sign(u) * torch.log1p(-2 * u.abs())


def draw_student(mean: Tensor, scale: Tensor, degrees: Tensor) -> Tensor:
    """Draw real numbers with tails that fall like a power."""
    chi_square = 2 * torch._standard_gamma(degrees / 2)
    return mean + scale * torch.randn_like(mean) * torch.sqrt(degrees / chi_square)


def _draw_logistic(mean: Tensor, log_scale: Tensor) -> Tensor:
    u = torch.rand_like(mean)
    return mean + log_scale.exp() * (u.log() - torch.log1p(-u))


def draw_logistic(mean: Tensor, log_scale: Tensor) -> Tensor:
    """Draw grey values, which are not rounded to levels."""
    return _draw_logistic(mean, log_scale).clamp(-1, 1)


def draw_mixture(logits: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Draw grey values of a component that is drawn first."""
    gumbel = -torch.log(-torch.log(torch.rand_like(logits)))
    chosen = (logits + gumbel).argmax(-1, keepdim=True)
    own = (t.gather(-1, chosen).squeeze(-1) for t in (mean, log_scale))
    return draw_logistic(*own)


def draw_nb(mean: Tensor, theta: Tensor) -> Tensor:
    """Draw counts whose rates vary."""
    return torch.poisson(torch._standard_gamma(theta.expand_as(mean)) * mean / theta)


def draw_zero_inflated(mean: Tensor, theta: Tensor, gate_logits: Tensor) -> Tensor:
    """Draw counts, and set some to zero."""
    kept = torch.rand_like(mean) > torch.sigmoid(gate_logits)
    return draw_nb(mean, theta) * kept


def draw_categorical(logits: Tensor) -> Tensor:
    """Draw classes."""
    gumbel = -torch.log(-torch.log(torch.rand_like(logits)))
    return (logits + gumbel).argmax(-1)


def draw_multinomial(logits: Tensor) -> Tensor:
    """Draw ten classes, and count them."""
    classes = torch.multinomial(logits.softmax(-1), 10, replacement=True)
    return F.one_hot(classes, logits.shape[-1]).sum(1).to(logits)


def mean_level(mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return the mean of the grey levels."""
    levels = torch.linspace(-1, 1, 256, dtype=mean.dtype).expand(*mean.shape, 256)
    return (levels * _level(levels, mean[..., None], log_scale[..., None]).exp()).sum(-1)


_SPECIMENS: dict[str, dict[str, Any]] = {
    "gaussian": {
        "score": gaussian,
        "mean_of": lambda mean, log_sigma: mean,
        "draw_pixels": draw_gaussian,
        "takes": ("mean", "log_sigma"),
    },
    "laplace": {
        "score": laplace,
        "mean_of": lambda mean, log_scale: mean,
        "draw_pixels": draw_laplace,
        "takes": ("mean", "log_scale"),
    },
    "student-t": {
        "score": student,
        "mean_of": lambda mean, scale, degrees: mean,
        "draw_pixels": draw_student,
        "takes": ("mean", "scale", "degrees"),
    },
    "discretised-logistic": {
        "score": logistic,
        "mean_of": mean_level,
        "draw_pixels": draw_logistic,
        "takes": ("mean", "log_scale"),
        "level_range": (-1.0, 1.0),
    },
    "logistic-mixture": {
        "score": mixture,
        "draw_pixels": draw_mixture,
        "takes": ("logits", "mean", "log_scale"),
        "level_range": (-1.0, 1.0),
        "axis": -1,
    },
    "poisson": {
        "score": poisson,
        "mean_of": lambda rate: rate,
        "draw_pixels": torch.poisson,
        "takes": ("rate",),
    },
    "negative-binomial": {
        "score": negative_binomial,
        "mean_of": lambda mean, theta: mean,
        "draw_pixels": draw_nb,
        "takes": ("mean", "inverse_dispersion"),
    },
    "zero-inflated-negative-binomial": {
        "score": zero_inflated,
        "mean_of": lambda mean, theta, gate_logits: mean * torch.sigmoid(-gate_logits),
        "draw_pixels": draw_zero_inflated,
        "takes": ("mean", "inverse_dispersion", "gate_logits"),
    },
    "categorical": {
        "score": categorical,
        "mean_of": lambda logits: logits.softmax(-1),
        "draw_pixels": draw_categorical,
        "takes": ("logits",),
        "axis": -1,
    },
    "multinomial": {
        "score": multinomial,
        "mean_of": lambda logits: logits.softmax(-1),
        "draw_pixels": draw_multinomial,
        "takes": ("logits",),
    },
}


def specimen(
    name: str = "specimen", *, family: str = "gaussian", **changes: Any
) -> LikelihoodFamily:
    """Return a correct subject of a family, some of whose functions are replaced."""
    own: dict[str, Any] = {"up_to_constant": False, "scale_per": "pixel"} | _SPECIMENS[family]
    return LikelihoodFamily(name=name, family=family, **(own | changes))


bank.describe(
    "families",
    specimen,
    score="−log p(x | θ)",
    mean_of="E[x]",
    draw_pixels="x ~ p(x | θ)",
)

of_score = partial(bank.mutant, "score")
of_mean = partial(bank.mutant, "mean_of")
of_draw = partial(bank.mutant, "draw_pixels", deterministic=False)

_GAUSSIAN = "Σ_i [(x − μ)²/(2σ²) + log σ + ½ log 2π]"
_LAPLACE = "Σ_i [|x − μ|/b + log 2b]"
_STUDENT = (
    "Σ_i [(ν + 1)/2 log(1 + (x − μ)²/(νσ²)) + log σ + ½ log νπ − log Γ((ν + 1)/2) + log Γ(ν/2)]"
)
_LEVELS = "−Σ_i log[s((x + w − μ)/b) − s((x − w − μ)/b)], edges with all that is beyond"
_MIXTURE = "−Σ_i log Σ_k softmax(l)_k p_k(x)"
_POISSON = "Σ_i [λ − x log λ + log x!]"
_NB = "−Σ_i log[Γ(x + θ)/(Γ(θ) x!) (θ/(θ + μ))^θ (μ/(θ + μ))^x]"
_ZINB = "−Σ_i log[π·1(x = 0) + (1 − π) NB(x)]"
_CATEGORICAL = "−Σ_i log softmax(l)_x"
_MULTINOMIAL = "−log(N!/Π_k x_k!) − Σ_k x_k log softmax(l)_k"

_T: dict[str, Any] = {"family": "student-t", "right": _STUDENT}
_LEVEL: dict[str, Any] = {"family": "discretised-logistic", "right": _LEVELS}
_MIX: dict[str, Any] = {"family": "logistic-mixture", "right": _MIXTURE}
_L: dict[str, Any] = {"family": "laplace", "right": _LAPLACE}
_P: dict[str, Any] = {"family": "poisson", "right": _POISSON}
_N: dict[str, Any] = {"family": "negative-binomial", "right": _NB}
_Z: dict[str, Any] = {"family": "zero-inflated-negative-binomial", "right": _ZINB}
_C: dict[str, Any] = {"family": "categorical", "right": _CATEGORICAL}
_M: dict[str, Any] = {"family": "multinomial", "right": _MULTINOMIAL}


@of_score(
    "gaussian-without-log-sigma",
    "your Gaussian score lacks log σ: it falls as σ grows, however large σ is",
    wrong="Σ_i [(x − μ)²/(2σ²) + ½ log 2π]",
    right=_GAUSSIAN,
)
def gaussian_without_log(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    return gaussian(x, mean, log_sigma) - log_sigma.expand_as(x).sum(1)


@of_score(
    "gaussian-divided-by-sigma",
    "your squared error is divided by σ, not by σ²",
    wrong="Σ_i [(x − μ)²/(2σ) + log σ + ½ log 2π]",
    right=_GAUSSIAN,
    seen=("orybkin/sigma-vae-pytorch#11 (asked about)", "hill-a/stable-baselines#1060"),
)
def gaussian_by_sigma(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    squares = (x - mean) ** 2 / (2 * log_sigma.exp())
    return (squares + log_sigma + _HALF_LOG_2PI).sum(1)


@of_score(
    "gaussian-halved-log-variance",
    "log σ in your score has half of its weight: log σ is taken for log σ²",
    wrong="Σ_i [(x − μ)²/(2σ²) + ½ log σ + ½ log 2π]",
    right=_GAUSSIAN,
    seen=("y0ast/VAE-Torch#5",),
)
def gaussian_halved_log(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    return gaussian(x, mean, log_sigma) - 0.5 * log_sigma.expand_as(x).sum(1)


@of_score(
    "gaussian-sigma-for-its-logarithm",
    "your score adds σ where its logarithm belongs",
    wrong="Σ_i [(x − μ)²/(2σ²) + σ + ½ log 2π]",
    right=_GAUSSIAN,
    seen=("piEsposito/blitz-bayesian-deep-learning#15", "LAMPSPUC/ScoreDrivenModels.jl#9"),
)
def gaussian_sigma_for_log(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    return gaussian(x, mean, log_sigma) + (log_sigma.exp() - log_sigma).expand_as(x).sum(1)


@of_score(
    "gaussian-sigma-as-variance",
    "your score takes σ for the variance: the standard deviation that it learns is the root of σ",
    wrong="Σ_i [(x − μ)²/(2σ) + ½ log σ + ½ log 2π]",
    right=_GAUSSIAN,
    seen=("unit8co/darts#1162",),
)
def gaussian_as_variance(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    return gaussian(x, mean, 0.5 * log_sigma)


@of_score(
    "family-mean-over-pixels",
    "your score is averaged over the pixels, not summed",
    wrong="1/D Σ_i [(x − μ)²/(2σ²) + log σ + ½ log 2π]",
    right=_GAUSSIAN,
    seen=("orybkin/sigma-vae-pytorch#12",),
)
def mean_over_pixels(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    return gaussian(x, mean, log_sigma) / x.shape[1]


@of_score(
    "scale-averaged-over-batch",
    "your score takes the average scale of the batch for every example",
    wrong="Σ_i [(x − μ)²/(2σ̄²) + log σ̄ + ½ log 2π],  σ̄ = mean_n σ_n",
    right=_GAUSSIAN,
)
def scale_averaged_batch(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    return gaussian(x, mean, log_sigma.exp().mean(0, keepdim=True).log())


@of_score(
    "scale-averaged-over-pixels",
    "your score takes the average scale of an example for each of its pixels",
    wrong="Σ_i [(x − μ)²/(2σ̄²) + log σ̄ + ½ log 2π],  σ̄ = mean_i σ_i",
    right=_GAUSSIAN,
)
def scale_averaged_pixels(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    return gaussian(x, mean, log_sigma.exp().mean(1, keepdim=True).log().expand_as(x))


@of_score(
    "scale-detached",
    "no gradient reaches the scale of your score, so it is never learned",
    wrong="∂ score/∂σ = 0",
    right=_GAUSSIAN,
)
def scale_detached(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    return gaussian(x, mean, log_sigma.detach())


@of_score(
    "scale-half-detached",
    "the error in your score is divided by a detached scale, which then only falls",
    wrong="Σ_i [(x − μ)²/(2 stop-gradient(σ²)) + log σ + ½ log 2π]",
    right=_GAUSSIAN,
)
def scale_half_detached(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    detached = log_sigma.detach()
    return gaussian(x, mean, detached) + (log_sigma - detached).expand_as(x).sum(1)


@of_score(
    "family-no-grad",
    "your score is computed without gradients",
    wrong="stop-gradient(score)",
    right=_GAUSSIAN,
)
def no_grad(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    return gaussian(x, mean, log_sigma).detach()


@of_score(
    "family-scale-clamped",
    "log σ in your score is clamped, to where data with little or much noise do not fit",
    wrong="Σ_i [(x − μ)²/(2σ²) + log σ + ½ log 2π],  log σ clamped to [-3, 3]",
    right=_GAUSSIAN,
)
def scale_clamped(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    return gaussian(x, mean, log_sigma.clamp(-3, 3))


@of_score(
    "laplace-as-gaussian",
    "your Laplace score is a Gaussian one",
    wrong="Σ_i [(x − μ)²/(2b²) + log b + ½ log 2π]",
    seen=("probtorch/probtorch#4",),
    **_L,
)
def laplace_as_gaussian(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    return 0.5 * torch.log(2 * math.pi * log_scale.exp() ** 2 + 0 * x).sum(1) + (
        0.5 * ((x - mean) / log_scale.exp()) ** 2
    ).sum(1)


@of_score(
    "laplace-without-log-scale",
    "your Laplace score lacks log b: it falls as b grows, however large b is",
    wrong="Σ_i [|x − μ|/b + log 2]",
    **_L,
)
def laplace_without_log(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    return laplace(x, mean, log_scale) - log_scale.expand_as(x).sum(1)


@of_score(
    "laplace-half-missing",
    "your Laplace score lacks log 2, so its values cannot be compared with those of others",
    wrong="Σ_i [|x − μ|/b + log b]",
    **_L,
)
def laplace_half(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    return laplace(x, mean, log_scale) - x.shape[1] * math.log(2)


@of_score(
    "student-without-scale",
    "your Student score lacks log σ",
    wrong="Σ_i [(ν + 1)/2 log(1 + (x − μ)²/(νσ²)) + ½ log νπ − log Γ((ν + 1)/2) + log Γ(ν/2)]",
    seen=("sktime/sktime#5942", "pytorch/pytorch#30228 (asked about)"),
    **_T,
)
def student_without_scale(x: Tensor, mean: Tensor, scale: Tensor, degrees: Tensor) -> Tensor:
    return student(x, mean, scale, degrees) - scale.log().expand_as(x).sum(1)


@of_score(
    "student-power",
    "the power in your Student score is ν/2, not (ν + 1)/2",
    wrong="Σ_i [ν/2 log(1 + (x − μ)²/(νσ²)) + log σ + ½ log νπ − log Γ((ν + 1)/2) + log Γ(ν/2)]",
    **_T,
)
def student_power(x: Tensor, mean: Tensor, scale: Tensor, degrees: Tensor) -> Tensor:
    tail = torch.log1p(((x - mean) / scale) ** 2 / degrees)
    return student(x, mean, scale, degrees) - 0.5 * tail.sum(1)


@of_score(
    "levels-without-edges",
    "your first and last level lack the probability of what is beyond them",
    wrong="−Σ_i log[s((x + w − μ)/b) − s((x − w − μ)/b)] at the edges too",
    **_LEVEL,
)
def levels_without_edges(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    above, below = ((x - mean + d) * torch.exp(-log_scale) for d in (_BIN, -_BIN))
    return -torch.log(torch.sigmoid(above) - torch.sigmoid(below)).sum(1)


@of_score(
    "levels-narrow-bins",
    "your levels are half as wide as the distance between them: for levels from -1 to 1, w is "
    "1/255",
    wrong="−Σ_i log[s((x + w/2 − μ)/b) − s((x − w/2 − μ)/b)]",
    seen=("openai/pixel-cnn#33 (asked about)",),
    **_LEVEL,
)
def levels_narrow(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    return -_level(x, mean, log_scale, _BIN / 2).sum(1)


@of_score(
    "levels-density-at-the-centre",
    "your score is the density at a level: it lacks the width, and the edges",
    wrong="−Σ_i log s'((x − μ)/b)/b",
    **_LEVEL,
)
def levels_density(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    t = (x - mean) * torch.exp(-log_scale)
    return -(t - log_scale - 2 * F.softplus(t)).sum(1)


@of_score(
    "mixture-weights-not-normalised",
    "the weights of your mixture do not add up to 1: the softmax is missing",
    wrong="−Σ_i log Σ_k e^{l_k} p_k(x)",
    seen=("pyro-ppl/numpyro#1489",),
    **_MIX,
)
def mixture_not_normalised(x: Tensor, logits: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    return -torch.logsumexp(logits + _level(x[..., None], mean, log_scale), -1).sum(1)


@of_score(
    "mixture-components-added",
    "the log probabilities are added up over your components, so that all components have the "
    "same one",
    wrong="−Σ_i log Σ_k softmax(l)_k Π_j p_j(x)",
    seen=("r9y9/wavenet_vocoder#34", "r9y9/wavenet_vocoder#33"),
    **_MIX,
)
def mixture_added(x: Tensor, logits: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    levels = _level(x[..., None], mean, log_scale).clamp_min(-1e4).sum(-1, keepdim=True)
    return -torch.logsumexp(F.log_softmax(logits, -1) + levels, -1).sum(1)


@of_score(
    "mixture-of-logarithms",
    "your mixture averages logarithms of probabilities, not probabilities",
    wrong="−Σ_i Σ_k softmax(l)_k log p_k(x)",
    seen=("tonyduan/mixture-density-network#1 (asked about)",),
    **_MIX,
)
def mixture_of_logs(x: Tensor, logits: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    levels = _level(x[..., None], mean, log_scale).clamp_min(-1e4)
    return -(logits.softmax(-1) * levels).sum(-1).sum(1)


@of_score(
    "poisson-exponential-twice",
    "your Poisson score takes the rate for its logarithm: it is exponentiated once too often",
    wrong="Σ_i [e^λ − xλ + log x!]",
    **_P,
)
def poisson_twice(x: Tensor, rate: Tensor) -> Tensor:
    return poisson(x, rate.exp())


@of_score(
    "poisson-stirling",
    "log x! in your score is x log x − x, which is too small by about ½ log 2πx",
    wrong="Σ_i [λ − x log λ + x log x − x]",
    seen=("icecube/pisa#854",),
    **_P,
)
def poisson_stirling(x: Tensor, rate: Tensor) -> Tensor:
    return (rate - torch.xlogy(x, rate) + torch.xlogy(x, x) - x).sum(1)


@of_score(
    "poisson-zeros-ignored",
    "your Poisson score ignores counts of 0, though they cost λ",
    wrong="Σ_{x > 0} [λ − x log λ + log x!]",
    seen=("sandialabs/pyGSTi#65",),
    **_P,
)
def poisson_zeros_ignored(x: Tensor, rate: Tensor) -> Tensor:
    return ((rate - torch.xlogy(x, rate) + torch.lgamma(x + 1)) * (x > 0)).sum(1)


@of_score(
    "poisson-arguments-swapped",
    "the counts and the rates in your score are swapped",
    wrong="Σ_i [x − λ log x + log λ!]",
    seen=("HopkinsIDD/flepiMoP#420",),
    **_P,
)
def poisson_swapped(x: Tensor, rate: Tensor) -> Tensor:
    return poisson(rate, x.clamp_min(1e-8))


@of_score(
    "poisson-factorial-missing",
    "your Poisson score lacks log x!, so its values cannot be compared with those of others",
    wrong="Σ_i [λ − x log λ]",
    **_P,
)
def poisson_no_factorial(x: Tensor, rate: Tensor) -> Tensor:
    return (rate - torch.xlogy(x, rate)).sum(1)


@of_score(
    "poisson-factorial-overflows",
    "x! in your score overflows: take lgamma, not the logarithm of the factorial",
    wrong="Σ_i [λ − x log λ + log(x!)],  170! is the largest",
    seen=("statsmodels/statsmodels#110", "tidymodels/yardstick#643"),
    **_P,
)
def poisson_overflow(x: Tensor, rate: Tensor) -> Tensor:
    return (rate - torch.xlogy(x, rate) + torch.log(torch.exp(torch.lgamma(x + 1)))).sum(1)


@of_score(
    "poisson-rate-detached",
    "the rate in your score is detached where it is subtracted, so it only grows",
    wrong="Σ_i [stop-gradient(λ) − x log λ + log x!]",
    **_P,
)
def poisson_detached(x: Tensor, rate: Tensor) -> Tensor:
    return (rate.detach() - torch.xlogy(x, rate) + torch.lgamma(x + 1)).sum(1)


@of_score(
    "nb-probability-swapped",
    "success and failure are swapped in your negative binomial: its mean is θ²/μ",
    wrong="−Σ_i log[Γ(x + θ)/(Γ(θ) x!) (μ/(θ + μ))^θ (θ/(θ + μ))^x]",
    seen=("OpenTabular/DeepTab#418", "dipetkov/eems#20 (asked about)"),
    **_N,
)
def nb_swapped(x: Tensor, mean: Tensor, theta: Tensor) -> Tensor:
    return negative_binomial(x, theta**2 / mean, theta)


@of_score(
    "nb-dispersion-inverted",
    "your negative binomial takes the dispersion for its inverse",
    wrong="−log NB(x; μ, 1/θ)",
    seen=("gavinsimpson/coenocliner#24",),
    **_N,
)
def nb_inverted(x: Tensor, mean: Tensor, theta: Tensor) -> Tensor:
    return negative_binomial(x, mean, 1 / theta)


@of_score(
    "nb-without-coefficient",
    "your negative binomial lacks its coefficient, which depends on θ",
    wrong="−Σ_i log[(θ/(θ + μ))^θ (μ/(θ + μ))^x]",
    seen=("theislab/dca#52 (asked about)",),
    **_N,
)
def nb_no_coefficient(x: Tensor, mean: Tensor, theta: Tensor) -> Tensor:
    log_sum = torch.log(theta + mean)
    return -(theta * (theta.log() - log_sum) + x * (mean.log() - log_sum)).sum(1)


@of_score(
    "zinb-zeros-not-mixed",
    "zeros in your score come from the gate alone, though the counts have zeros too",
    wrong="−Σ_i log π if x = 0, else log[(1 − π) NB(x)]",
    **_Z,
)
def zinb_not_mixed(x: Tensor, mean: Tensor, theta: Tensor, gate_logits: Tensor) -> Tensor:
    counts = F.logsigmoid(-gate_logits) + _nb(x, mean, theta)
    return -torch.where(x < 0.5, F.logsigmoid(gate_logits), counts).sum(1)


@of_score(
    "zinb-log-of-zeros-missing",
    "the probability of a zero in your score is not its logarithm",
    wrong="−Σ_i π + (1 − π) NB(0) if x = 0, else log[(1 − π) NB(x)]",
    **_Z,
)
def zinb_no_log(x: Tensor, mean: Tensor, theta: Tensor, gate_logits: Tensor) -> Tensor:
    counts = F.logsigmoid(-gate_logits) + _nb(x, mean, theta)
    return -torch.where(x < 0.5, torch.sigmoid(gate_logits) + counts.exp(), counts).sum(1)


@of_score(
    "zinb-counts-not-scaled",
    "counts above 0 in your score lack the factor 1 − π",
    wrong="−Σ_i log[π + (1 − π) NB(0)] if x = 0, else log NB(x)",
    **_Z,
)
def zinb_not_scaled(x: Tensor, mean: Tensor, theta: Tensor, gate_logits: Tensor) -> Tensor:
    counts = _nb(x, mean, theta)
    own, rest = F.logsigmoid(gate_logits), F.logsigmoid(-gate_logits)
    return -torch.where(x < 0.5, torch.logaddexp(own, rest + counts), counts).sum(1)


@of_score(
    "zinb-gate-swapped",
    "your gate is the probability of a count, not that of an excess zero",
    wrong="−Σ_i log[(1 − π)·1(x = 0) + π NB(x)]",
    **_Z,
)
def zinb_gate_swapped(x: Tensor, mean: Tensor, theta: Tensor, gate_logits: Tensor) -> Tensor:
    return zero_inflated(x, mean, theta, -gate_logits)


@of_score(
    "zinb-zeros-detached",
    "no gradient reaches the counts' own zeros in your score",
    wrong="−Σ_i log[π + (1 − π) stop-gradient(NB(0))] if x = 0, else log[(1 − π) NB(x)]",
    **_Z,
)
def zinb_detached(x: Tensor, mean: Tensor, theta: Tensor, gate_logits: Tensor) -> Tensor:
    counts = _nb(x, mean, theta)
    own, rest = F.logsigmoid(gate_logits), F.logsigmoid(-gate_logits)
    zeros = torch.logaddexp(own, rest + counts.detach())
    return -torch.where(x < 0.5, zeros, rest + counts).sum(1)


@of_score(
    "categorical-without-softmax",
    "your cross-entropy takes scores for log probabilities: the softmax is missing",
    wrong="−Σ_i l_x",
    seen=("octo-models/octo#79", "Alcoholrithm/TabularS3L#17"),
    **_C,
)
def categorical_no_softmax(x: Tensor, logits: Tensor) -> Tensor:
    return -logits.gather(-1, x[..., None]).squeeze(-1).sum(1)


@of_score(
    "categorical-softmax-twice",
    "the softmax is taken twice in your cross-entropy",
    wrong="−Σ_i log softmax(softmax(l))_x",
    seen=("nocotan/pytorch-lightning-gans#9", "jaehong31/CGES#1"),
    **_C,
)
def categorical_twice(x: Tensor, logits: Tensor) -> Tensor:
    return categorical(x, logits.softmax(-1))


@of_score(
    "categorical-softmax-over-pixels",
    "the softmax in your cross-entropy is over the pixels, not over the classes",
    wrong="−Σ_i log [e^{l_ix} / Σ_j e^{l_jx}]",
    seen=("dev4488/VAE_gumble_softmax#5",),
    **_C,
)
def categorical_over_pixels(x: Tensor, logits: Tensor) -> Tensor:
    return -F.log_softmax(logits, 1).gather(-1, x[..., None]).squeeze(-1).sum(1)


@of_score(
    "multinomial-without-coefficient",
    "your multinomial score lacks its coefficient, so its values cannot be compared",
    wrong="−Σ_k x_k log softmax(l)_k",
    **_M,
)
def multinomial_no_coefficient(x: Tensor, logits: Tensor) -> Tensor:
    return -(x * F.log_softmax(logits, 1)).sum(1)


@of_mean(
    "nb-mean-inverted",
    "your mean is θ²/μ: success and failure are swapped",
    wrong="θ · θ/μ",
    seen=("OpenTabular/DeepTab#418", "QuantEcon/rvlib#18"),
    right="μ",
    family=_N["family"],
)
def nb_mean_inverted(mean: Tensor, theta: Tensor) -> Tensor:
    return theta**2 / mean


@of_mean(
    "zinb-mean-without-gate",
    "your mean ignores the excess zeros",
    wrong="μ",
    right="(1 − π) μ",
    family=_Z["family"],
)
def zinb_mean(mean: Tensor, theta: Tensor, gate_logits: Tensor) -> Tensor:
    return mean


@of_mean(
    "poisson-mean-is-its-logarithm",
    "your mean is the logarithm of the rate",
    wrong="log λ",
    right="λ",
    family=_P["family"],
)
def poisson_log_mean(rate: Tensor) -> Tensor:
    return rate.log()


@of_draw(
    "family-draws-without-noise",
    "your draws are the means: nothing is drawn",
    wrong="x = μ",
    right="x = μ + σε",
)
def draws_without_noise(mean: Tensor, log_sigma: Tensor) -> Tensor:
    return mean


@of_draw(
    "gaussian-drawn-with-variance",
    "your draws have the standard deviation σ², not σ",
    wrong="x = μ + σ²ε",
    right="x = μ + σε",
    seen=("CyberPoint/libpgm#10",),
)
def gaussian_drawn_with_variance(mean: Tensor, log_sigma: Tensor) -> Tensor:
    return draw_gaussian(mean, 2 * log_sigma)


@of_draw(
    "noise-shared-between-pixels",
    "all pixels of your draws get the same noise",
    wrong="x_i = μ_i + σ_i ε",
    right="x_i = μ_i + σ_i ε_i",
)
def noise_shared_pixels(mean: Tensor, log_sigma: Tensor) -> Tensor:
    return mean + log_sigma.exp() * torch.randn_like(mean[:, :1])


@of_draw(
    "noise-shared-over-batch",
    "all examples of your draws get the same noise",
    wrong="x_n = μ_n + σ_n ε",
    right="x_n = μ_n + σ_n ε_n",
)
def noise_shared_batch(mean: Tensor, log_sigma: Tensor) -> Tensor:
    return mean + log_sigma.exp() * torch.randn_like(mean[:1])


@of_draw(
    "laplace-drawn-on-one-side",
    "your Laplace draws are all above the mean",
    wrong="x = μ + b |log u|",
    right="x = μ ± b |log u|",
    seen=("statrs-dev/statrs#150",),
    family=_L["family"],
)
def laplace_one_side(mean: Tensor, log_scale: Tensor) -> Tensor:
    return mean - log_scale.exp() * torch.log1p(-torch.rand_like(mean))


@of_draw(
    "student-drawn-without-degrees",
    "the chi-square number in your Student draws is not divided by ν",
    wrong="x = μ + σ z/√χ²",
    right="x = μ + σ z/√(χ²/ν)",
    family=_T["family"],
)
def student_without_degrees(mean: Tensor, scale: Tensor, degrees: Tensor) -> Tensor:
    return draw_student(mean, scale / degrees.sqrt(), degrees)


@of_draw(
    "nb-drawn-with-rate-for-scale",
    "your Gamma draw takes the rate for the scale: the mean is θ²/μ",
    wrong="λ ~ Gamma(θ)·θ/μ,  x ~ Poisson(λ)",
    right="λ ~ Gamma(θ)·μ/θ,  x ~ Poisson(λ)",
    seen=("statrs-dev/statrs#328", "pymc-devs/pymc#1255"),
    family=_N["family"],
)
def nb_drawn_with_rate(mean: Tensor, theta: Tensor) -> Tensor:
    return torch.poisson(torch._standard_gamma(theta) * theta / mean)


@of_draw(
    "nb-drawn-with-parameters-swapped",
    "the mean and θ are swapped in your Gamma draw",
    wrong="λ ~ Gamma(μ)·θ/μ,  x ~ Poisson(λ)",
    right="λ ~ Gamma(θ)·μ/θ,  x ~ Poisson(λ)",
    seen=("scverse/scvi-tools#1999",),
    family=_N["family"],
)
def nb_drawn_swapped(mean: Tensor, theta: Tensor) -> Tensor:
    return draw_nb(theta, mean)


@of_draw(
    "zinb-drawn-without-zeros",
    "your draws lack the excess zeros",
    wrong="x ~ NB(μ, θ)",
    right="x ~ NB(μ, θ) with probability 1 − π, else 0",
    family=_Z["family"],
)
def zinb_without_zeros(mean: Tensor, theta: Tensor, gate_logits: Tensor) -> Tensor:
    return draw_nb(mean, theta)


@of_draw(
    "levels-drawn-outside",
    "your draws are not clamped to the levels that there are",
    wrong="x = μ + b logit(u)",
    right="x = clamp(μ + b logit(u))",
    family=_LEVEL["family"],
)
def levels_outside(mean: Tensor, log_scale: Tensor) -> Tensor:
    return _draw_logistic(mean, log_scale)


@of_draw(
    "levels-mixture-drawn-from-average",
    "your draw averages the components; one of them is to be drawn",
    wrong="x = Σ_k softmax(l)_k (μ_k + b_k logit(u))",
    right="x = μ_k + b_k logit(u),  k ~ softmax(l)",
    family=_MIX["family"],
)
def mixture_average(logits: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    each = _draw_logistic(mean, log_scale)
    return (logits.softmax(-1) * each).sum(-1).clamp(-1, 1)
