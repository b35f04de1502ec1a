"""Claims about estimators: importance-weighted bounds, gradients, and a KL from samples.

An expectation over samples of a categorical is enumerated, and one over Gaussian noise is
integrated by Gauss-Hermite quadrature: a bias is found without any noise.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vae_ref.conformance.answers.comparison import require_agreement, tolerance
from vae_ref.conformance.answers.oracles import gauss_hermite
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import NotApplicable

_IWAE = "Burda, Grosse and Salakhutdinov 2016"
_K = "Schulman, Approximating KL Divergence, 2020"
_SLOPES = "32 roundings of the terms' absolute values, in expectation"

of_bound = partial(registry.claim, slot="weighted_bound", needs=("weighted_bound",))
of_surrogate = partial(registry.claim, slot="surrogate", needs=("surrogate",), tolerance=_SLOPES)
of_score = partial(registry.claim, slot="score_function", needs=("score_function",))
of_vimco = partial(registry.claim, slot="vimco", needs=("vimco",))
of_kl = partial(registry.claim, slot="kl_estimate", needs=("kl_estimate",), source=_K)


def _answer(probe: Probe, part: str, *inputs: Any) -> Tensor:
    """Return what a function answers; the inputs have samples first, which the subject may not."""
    axis = probe.fields.samples_axis
    given = [t.transpose(0, axis).clone() if isinstance(t, Tensor) else t for t in inputs]
    with probe.calling():
        return _tensor(getattr(probe.subject, part)(*given))


def _tensor(answer: Any) -> Tensor:
    """Return an answer as a tensor: it may be a plain number."""
    return answer if isinstance(answer, Tensor) else torch.as_tensor(answer, dtype=torch.float64)


def _slopes(probe: Probe, part: str, *leaves: Tensor, rest: tuple[Any, ...] = ()) -> list[Tensor]:
    """Return the slopes of what a surrogate maximises, by its first inputs, in float64."""
    probe.require_gradient(part)
    sign = 1 if probe.fields.maximised else -1
    answer = probe.gradient(lambda *given: _answer(probe, part, *given, *rest), *leaves)
    return [sign * slope.double() for slope in answer]


def _per_example(found: Tensor, exact: Tensor, *factors: float) -> Tensor:
    """Return slopes of a surrogate of each example, whichever factor its reduction has."""
    factor = min(
        factors, key=lambda f: float((found - f * exact).abs().max().nan_to_num(math.inf))
    )
    return found / factor


def _reductions(samples: int, examples: int) -> list[float]:
    """Return the factors of sums and means, over samples the first and over examples the second.

    What they multiply is the mean over samples, and the sum over examples.
    """
    return [k * n for k in (1, samples) for n in (1, 1 / examples)]


# The bound.


def _log_weights(probe: Probe, samples: int, examples: int) -> Tensor:
    return 2 * probe.normal(f"weights {samples} {examples}", samples, examples) - 3


def _require_bound(probe: Probe, log_w: Tensor, shift: float = 0.0) -> None:
    """Hold the bounds of a batch against the right ones; of a wrong sum, look at each example."""
    samples, examples = log_w.shape
    exact = log_w.double().exp().mean(0).log() + shift
    scale = log_w.double().abs().amax(0) + abs(shift) + math.log(samples) + 1
    given, what = log_w + shift, f"the bound of {examples} examples, of {samples} samples"
    require = partial(require_agreement, dtype=probe.dtype, inputs={"log_w": given})
    answer = _answer(probe, "weighted_bound", given).detach().double()
    if answer.numel() != 1:
        one_each = answer.flatten() if answer.numel() == examples else answer
        require(what, one_each, exact, scale=scale)
        return
    total = _per_example(answer.reshape(()), exact.sum(), 1, 1 / examples)
    if not abs(total - exact.sum()) <= tolerance(probe.dtype, scale.sum()):
        alone = [_answer(probe, "weighted_bound", w).detach().sum() for w in given.split(1, 1)]
        require(f"{what}, of each alone,", torch.stack(alone), exact, scale=scale)
    require(f"{what}, summed over the batch,", total, exact.sum(), scale=scale.sum())


@of_bound(
    "estimators/bound",
    statement="The importance-weighted bound of an example is the logarithm of its mean weight.",
    formula=r"L_K = \log \tfrac1K \sum_{k=1}^K w_k",
    source=f"{_IWAE}, equation 8",
    kind="exact",
    tolerance="32 roundings of the largest |log w| and of log K",
    kills=(
        "bound-without-log-k",
        "bound-mean-of-log-weights",
        "bound-log-of-examples",
        "bound-over-examples",
        "bound-of-summed-examples",
        "bound-maximum-of-wrong-axis",
    ),
)
def bound(probe: Probe) -> None:
    """Sizes agree in some, since a wrong axis raises no error there."""
    for samples, examples in ((1, 2), (3, 3), (5, 2), (2, 5)):
        _require_bound(probe, _log_weights(probe, samples, examples))


@of_bound(
    "estimators/bound-range",
    statement="The bound is right for log weights far below and above zero.",
    formula=r"L_K(\log w + c) = L_K(\log w) + c, \quad |c| = 1000",
    source="xqding/Importance_Weighted_Autoencoders issue 3",
    kind="metamorphic",
    tolerance="32 roundings of the largest |log w| and of |c|",
    kills=("bound-overflows",),
    builds_on=("estimators/bound",),
)
def bound_range(probe: Probe) -> None:
    for shift in (-1000.0, 1000.0):
        _require_bound(probe, _log_weights(probe, 5, 2), shift)


@of_bound(
    "estimators/bound-gradient",
    statement="The derivatives of the bound with respect to the log weights are the normalised "
    "weights of each example.",
    formula=r"\frac{\partial L_K}{\partial \log w_k} = \tilde w_k = \frac{w_k}{\sum_j w_j}",
    source=f"{_IWAE}, equation 13",
    kind="gradient",
    tolerance="32 roundings of 1 + |log w|",
    kills=("bound-maximum-detached-once",),
    builds_on=("estimators/bound",),
)
def bound_gradient(probe: Probe) -> None:
    probe.require_gradient("weighted_bound")
    log_w = _log_weights(probe, 5, 3)
    if not _answer(probe, "weighted_bound", log_w.clone().requires_grad_()).requires_grad:
        raise NotApplicable("the bound comes without a gradient, as for evaluation")
    (found,) = probe.gradient(lambda w: _answer(probe, "weighted_bound", w), log_w)
    w = log_w.double().exp()
    require_agreement(
        "the slope of the bound by a log weight",
        _per_example(found.double(), w / w.sum(0), 1, 1 / 3),
        w / w.sum(0),
        scale=1 + log_w.double().abs(),
        dtype=probe.dtype,
        inputs={"log_w": log_w},
    )


# The surrogate of the ELBO or the bound: a linear model, each of whose latents has a pixel.


@dataclass(frozen=True)
class _Model:
    r"""z ~ N(0, 1), x | z ~ N(wz + b, s^2), for each latent; its posterior is N(m, v)."""

    x: Tensor
    w: Tensor
    b: Tensor
    s2: float = 0.5

    @property
    def v(self) -> Tensor:
        return 1 / (1 + self.w**2 / self.s2)

    @property
    def m(self) -> Tensor:
        return self.v * self.w * (self.x - self.b) / self.s2

    def log_joint(self, z: Tensor) -> Tensor:
        x, w, b = self.x.to(z), self.w.to(z), self.b.to(z)
        squares = z**2 + (x - b - w * z) ** 2 / self.s2
        return -0.5 * (squares + math.log(2 * math.pi) + math.log(2 * math.pi * self.s2)).sum(-1)

    def log_weights(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
        squares = eps**2 + math.log(2 * math.pi) + logvar
        return self.log_joint(mu + torch.exp(logvar / 2) * eps) + 0.5 * squares.sum(-1)

    def size(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
        """Return the absolute values that the slopes by mu and logvar add up, two for a latent."""
        sigma = torch.exp(logvar / 2)
        z = mu.abs() + sigma * eps.abs()
        by_z = z + self.w.abs() * (self.x.abs() + self.b.abs() + self.w.abs() * z) / self.s2
        by_z = by_z + (1 + eps.abs()) / sigma
        weights = 1 - self.log_joint(z) + (eps**2 + logvar.abs()).sum(-1)  # whose rounding counts
        by = torch.cat([by_z, 1 + by_z * sigma * eps.abs()], -1)
        return by * weights.abs().unsqueeze(-1)


def _model(probe: Probe, latents: int) -> _Model:
    x, b = (probe.normal(f"{name} {latents}", latents).double() for name in ("x", "b"))
    return _Model(x, 0.5 + probe.uniform(f"w {latents}", latents).double(), b)


def _ascents(
    probe: Probe, model: _Model, mu: Tensor, logvar: Tensor, eps: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the slopes of the surrogate by (mu, logvar), two for a latent, and by b."""

    def surrogate(mu: Tensor, logvar: Tensor, b: Tensor) -> Tensor:
        axis = probe.fields.samples_axis
        given = mu.clone(), logvar.clone(), eps.transpose(0, axis).clone()
        with probe.calling():
            log_joint = _Model(model.x, model.w, b, model.s2).log_joint
            return _tensor(probe.fields.surrogate(*given, log_joint))

    probe.require_gradient("surrogate")
    sign = 1 if probe.fields.maximised else -1
    leaves = mu, logvar, model.b.to(probe.dtype)
    of_mu, of_logvar, of_b = (sign * s.double() for s in probe.gradient(surrogate, *leaves))
    return torch.cat([of_mu, of_logvar], -1), of_b


def _factors(probe: Probe, samples: int, examples: int) -> list[float]:
    """Return what a surrogate may be multiplied by; one of the bound has no sum over samples."""
    return _reductions(1 if _of_bound(probe) else samples, examples)


def _of_bound(probe: Probe) -> bool:
    """Return whether the surrogate is one of the bound, not of the ELBO."""
    return probe.fields.estimator in ("iwae", "dreg")


@of_surrogate(
    "estimators/surrogate-unbiased",
    statement="The mean gradient with respect to the parameters of the posterior is that of the "
    "ELBO or of the importance-weighted bound.",
    formula=r"E_\varepsilon[g(\mu, \log\sigma^2, \varepsilon)] = "
    r"\nabla_{\mu, \log\sigma^2}\, E_\varepsilon\Big[\log \tfrac1K \sum_k "
    r"\frac{p(x, z_k)}{q(z_k)}\Big], \qquad z_k = \mu + \sigma\varepsilon_k",
    source="Roeder, Wu and Duvenaud 2017; Tucker, Lawson, Gu and Maddison 2019",
    kind="gradient",
    kills=(
        "dreg-weights-not-squared",
        "dreg-weights-not-detached",
        "dreg-score-left-in",
        "dreg-samples-detached",
        "stl-samples-detached",
        "stl-log-q-detached",
        "iwae-weights-not-detached",
        "iwae-mean-of-elbos",
        "plain-samples-detached",
    ),
)
def surrogate_unbiased(probe: Probe) -> None:
    """The nodes of the quadrature are the examples, so that they must not be mixed either."""
    for samples, latents in ((1, 2), (2, 1)):
        model = _model(probe, latents)
        nodes, weights = gauss_hermite(32)
        eps = torch.cartesian_prod(nodes, nodes).T.reshape(samples, latents, -1).transpose(1, 2)
        weights = torch.cartesian_prod(weights, weights).prod(1)
        sigma = (0.8 * model.v).sqrt()
        mu = (model.m + 0.5 * sigma).expand(len(weights), -1)
        logvar = (2 * sigma.log()).expand(len(weights), -1)
        found, _ = _ascents(probe, model, *(t.to(probe.dtype) for t in (mu, logvar, eps)))
        by = [t[0].clone().requires_grad_() for t in (mu, logvar)]
        log_w = model.log_weights(by[0], by[1], eps)
        value = log_w.exp().mean(0).log() if _of_bound(probe) else log_w.mean(0)
        exact = torch.cat(torch.autograd.grad((weights * value).sum(), by))
        mean = weights @ found
        what = "the bound" if _of_bound(probe) and samples > 1 else "the ELBO"
        require_agreement(
            f"the mean slope of {what} by mu and logvar, of {samples} samples in one example,",
            _per_example(mean, exact, *_factors(probe, samples, len(weights))),
            exact,
            scale=weights @ model.size(mu, logvar, eps).sum(0),
            dtype=probe.dtype,
            inputs={"mu": mu[0], "logvar": logvar[0], "x": model.x, "w": model.w, "b": model.b},
        )


@of_surrogate(
    "estimators/surrogate-zero-at-the-posterior",
    statement="The gradient along the path alone is zero at the true posterior, whatever the "
    "noise.",
    formula=r"q = p(z \mid x):\quad g(\mu, \log\sigma^2, \varepsilon) = 0",
    source="Roeder, Wu and Duvenaud 2017, the path derivative",
    kind="gradient",
    kills=("stl-nothing-detached", "dreg-score-left-in", "stl-log-q-detached"),
    builds_on=("estimators/surrogate-unbiased",),
)
def surrogate_zero_at_the_posterior(probe: Probe) -> None:
    if probe.fields.estimator not in ("stl", "dreg"):
        raise NotApplicable("the gradient is not along the path alone: it is neither stl nor dreg")
    model, eps = _model(probe, 3), probe.normal("eps", 4, 5, 3)
    mu, logvar = (t.expand(5, -1).to(probe.dtype) for t in (model.m, model.v.log()))
    found, _ = _ascents(probe, model, mu, logvar, eps)
    require_agreement(
        "the slope by mu and logvar, at the true posterior,",
        found,
        torch.zeros_like(found),
        scale=model.size(mu.double(), logvar.double(), eps.double()).sum(0),
        dtype=probe.dtype,
        inputs={"mu": mu, "logvar": logvar, "eps": eps},
    )


@of_surrogate(
    "estimators/surrogate-trains-the-model",
    statement="The gradient with respect to the parameters of the model has the normalised "
    "weights of the samples, which are not squared.",
    formula=r"\nabla_\theta = \sum_k \tilde w_k \nabla_\theta \log p_\theta(x, z_k), \qquad "
    r"\text{of the ELBO: } \tilde w_k = \tfrac1K",
    source="Tucker, Lawson, Gu and Maddison 2019",
    kind="gradient",
    kills=("dreg-squared-weights-train-the-model",),
    builds_on=("estimators/surrogate-unbiased",),
)
def surrogate_trains_the_model(probe: Probe) -> None:
    if not probe.fields.trains_model:
        raise NotApplicable("the gradient does not train the model: declare trains_model")
    model, eps = _model(probe, 3), probe.normal("eps of the model", 4, 5, 3)
    mu, logvar = (probe.normal(name, 5, 3) for name in ("mu", "logvar"))
    _, found = _ascents(probe, model, mu, logvar, eps)
    wide = mu.double(), logvar.double(), eps.double()
    log_w = model.log_weights(*wide)
    weights = torch.softmax(log_w, 0) if _of_bound(probe) else torch.full_like(log_w, 1 / 4)
    z = wide[0] + torch.exp(wide[1] / 2) * wide[2]
    each = weights.unsqueeze(-1) * (model.x - model.b - model.w * z) / model.s2
    require_agreement(
        "the slope by the parameters of the model",
        _per_example(found, each.sum((0, 1)), *_factors(probe, 4, 5)),
        each.sum((0, 1)),
        scale=model.size(*wide)[..., :3].sum((0, 1)),
        dtype=probe.dtype,
        inputs={"mu": mu, "logvar": logvar, "eps": eps},
    )


# Samples that cannot be differentiated: all those of a categorical are enumerated.


@dataclass(frozen=True)
class _Tuples:
    """All tuples of samples from a categorical, as the examples of a batch.

    Attributes:
        log_probs: log q of each value, shape ``(values,)``.
        index: The samples of each example, shape ``(samples, examples)``.
        weights: The probability of each example.
    """

    log_probs: Tensor
    index: Tensor
    weights: Tensor

    @classmethod
    def of(cls, logits: Tensor, samples: int) -> "_Tuples":
        log_probs = torch.log_softmax(logits.double(), 0)
        index = torch.tensor(list(itertools.product(range(len(logits)), repeat=samples))).T
        return cls(log_probs, index, log_probs[index].sum(0).exp())

    def by_logits(self, slopes: Tensor) -> Tensor:
        """Return the mean gradient by the logits, of slopes by log q of each sample."""
        score = torch.eye(len(self.log_probs), dtype=torch.float64) - self.log_probs.exp()
        return torch.einsum("n,kn,knv->v", self.weights, slopes, score[self.index])


def _enumerated(probe: Probe, samples: int) -> _Tuples:
    return _Tuples.of(probe.normal(f"logits {samples}", 3), samples)


@of_score(
    "estimators/score-unbiased",
    statement="The mean gradient of the score function's surrogate is that of the expected "
    "reward, and raises it; with the mean of all rewards as the baseline, it is 1 - 1/K "
    "times that.",
    formula=r"E_q\Big[\tfrac1K \sum_k (r_k - b_k) \nabla \log q(x_k)\Big] = \nabla E_q[r]",
    source="Williams 1992, theorem 1; Kool, van Hoof and Welling 2019",
    kind="gradient",
    tolerance="32 roundings of K times the rewards' absolute values",
    kills=(
        "score-sign",
        "score-own-reward-in-baseline",
        "score-mean-of-log-probabilities",
        "score-probabilities",
    ),
)
def score_unbiased(probe: Probe) -> None:
    """Two samples would not do: their shrunken sum looks like their mean."""
    baseline = probe.fields.baseline
    for samples in (4, 3):
        tuples = _enumerated(probe, samples)
        rewards, q = 1 + probe.normal("rewards", 3), tuples.log_probs.exp()
        log_q = tuples.log_probs[tuples.index].to(probe.dtype)
        (slopes,) = _slopes(probe, "score_function", log_q, rest=(rewards[tuples.index],))
        centred = rewards.double() - q @ rewards.double()
        exact = q * centred * (1 - (baseline == "mean") / samples)
        require_agreement(
            f"the mean slope of the expected reward by the logits, of {samples} samples,",
            _per_example(tuples.by_logits(slopes), exact, *_reductions(*log_q.shape)),
            exact,
            scale=4 * samples * rewards.double().abs().max(),
            dtype=probe.dtype,
            inputs={"log_q": tuples.log_probs, "rewards": rewards},
        )


@of_score(
    "estimators/score-rewards-are-constants",
    statement="Rewards are constants in the surrogate, or add their own mean to it: no log "
    "probability multiplies their gradient.",
    formula=r"\frac{\partial}{\partial r_k} = 0 \ \text{ or } \ \tfrac1K",
    source="Schulman et al. 2015, corollary 1",
    kind="gradient",
    tolerance="32 roundings of 1 + |log q|",
    kills=("score-rewards-not-detached",),
    builds_on=("estimators/score-unbiased",),
)
def score_rewards_are_constants(probe: Probe) -> None:
    if not probe.fields.rewards_in_graph:
        raise NotApplicable("the rewards have no gradient of their own: declare rewards_in_graph")
    log_q, rewards = -probe.uniform("log_q", 3, 4) - 1, probe.normal("other rewards", 3, 4)
    _, found = _slopes(probe, "score_function", log_q, rewards)
    scale = 1 + log_q.double().abs()
    for constant in (k / 3 for k in _reductions(3, 4)):
        if bool(((found - constant).abs() <= tolerance(probe.dtype, scale)).all()):
            return
    require_agreement(
        "the slope of the surrogate by a reward",
        found,
        torch.zeros_like(found),
        scale=scale,
        dtype=probe.dtype,
        inputs={"log_q": log_q, "rewards": rewards},
    )


@of_score(
    "estimators/score-baseline",
    statement="With a mean of rewards as the baseline, the gradient is the same if all rewards "
    "rise by the same amount.",
    formula=r"g(r + c) = g(r)",
    source="Kool, van Hoof and Welling 2019",
    kind="metamorphic",
    tolerance="32 roundings of |r| + |c|",
    kills=("score-baseline-too-small",),
    builds_on=("estimators/score-unbiased",),
)
def score_baseline(probe: Probe) -> None:
    if probe.fields.baseline == "none":
        raise NotApplicable("no mean is declared as the baseline")
    log_q, rewards = -probe.uniform("log_q", 3, 4) - 1, probe.normal("other rewards", 3, 4)
    (found,) = _slopes(probe, "score_function", log_q, rest=(rewards + 5,))
    (before,) = _slopes(probe, "score_function", log_q, rest=(rewards,))
    require_agreement(
        "the slope by log q, of rewards that have all risen by 5,",
        found,
        before,
        scale=10 + 2 * rewards.double().abs().max(),
        dtype=probe.dtype,
        inputs={"log_q": log_q, "rewards": rewards + 5},
    )


@of_vimco(
    "estimators/vimco-unbiased",
    statement="The mean gradient of VIMCO's surrogate is that of the expected bound.",
    formula=r"E_q\Big[\sum_k \hat L_k \nabla \log q(x_k) + \sum_k \tilde w_k \nabla \log w_k\Big] "
    r"= \nabla E_q[L_K]",
    source="Mnih and Rezende 2016",
    kind="gradient",
    tolerance="32 roundings of K + the log weights' absolute values",
    kills=(
        "vimco-sign",
        "vimco-own-weight-in-mean",
        "vimco-terms-of-different-size",
        "vimco-without-path",
        "vimco-signal-not-detached",
    ),
)
def vimco_unbiased(probe: Probe) -> None:
    for samples in (2, 3):
        tuples = _enumerated(probe, samples)
        log_p, index = probe.normal("log_p", 3).double() - 2, tuples.index
        log_q, log_w = tuples.log_probs[index], (log_p - tuples.log_probs)[index]
        of_w, of_q = _slopes(probe, "vimco", log_w.to(probe.dtype), log_q.to(probe.dtype))
        logits = tuples.log_probs.clone().requires_grad_()
        new = torch.log_softmax(logits, 0)
        value = (log_p - new)[index].exp().mean(0).log()
        (exact,) = torch.autograd.grad((new[index].sum(0).exp() * value).sum(), logits)
        require_agreement(
            f"the mean slope of the bound by the logits, of {samples} samples,",
            _per_example(tuples.by_logits(of_q - of_w), exact, 1, 1 / log_q.shape[1]),
            exact,
            scale=4 * samples * (1 + log_w.abs().max()),
            dtype=probe.dtype,
            inputs={"log_q": tuples.log_probs, "log_p": log_p},
        )


def _require_signal(probe: Probe, log_w: Tensor, shift: float = 0.0) -> None:
    """Hold the learning signals against those of weights that are replaced one by one."""
    samples, examples = log_w.shape
    wide, exact = log_w.double(), torch.empty_like(log_w, dtype=torch.float64)
    for k in range(samples):
        others = torch.cat([wide[:k], wide[k + 1 :]])
        geometric = probe.fields.left_out == "geometric"
        instead = others.mean(0) if geometric else others.exp().mean(0).log()
        without = torch.cat([others, instead.unsqueeze(0)])
        exact[k] = (wide.exp().mean(0) / without.exp().mean(0)).log()
    log_q = -probe.uniform("log_q", samples, examples) - 1
    (_, found) = _slopes(probe, "vimco", log_w + shift, log_q)
    spread = (wide.amax(0) - wide.amin(0)).exp()  # of a difference of weights, which cancels
    require_agreement(
        "the learning signal of VIMCO: the slope by log q",
        _per_example(found, exact, 1, 1 / examples),
        exact,
        scale=(1 + wide.abs().amax(0) + abs(shift)) * spread,
        dtype=probe.dtype,
        inputs={"log_w": log_w + shift, "log_q": log_q},
    )


@of_vimco(
    "estimators/vimco-signal",
    statement="The learning signal of a sample is how much the bound falls if the mean of the "
    "other weights takes the place of its own.",
    formula=r"\hat L_k = L_K - \log \tfrac1K \Big(\sum_{j \ne k} w_j + \hat w_k\Big), \qquad "
    r"\log \hat w_k = \tfrac{1}{K-1} \sum_{j \ne k} \log w_j",
    source="Mnih and Rezende 2016, local learning signals",
    kind="gradient",
    tolerance="32 roundings of 1 + |log w|, times the ratio of the extreme weights",
    kills=("vimco-arithmetic-mean", "vimco-own-weight-in-mean", "vimco-left-out-without-log-k"),
    builds_on=("estimators/vimco-unbiased",),
)
def vimco_signal(probe: Probe) -> None:
    for samples, examples in ((4, 3), (2, 2)):
        _require_signal(probe, probe.normal(f"signal {samples}", samples, examples) - 1)


@of_vimco(
    "estimators/vimco-range",
    statement="The learning signal is the same for log weights far below and above zero.",
    formula=r"\hat L_k(\log w + c) = \hat L_k(\log w), \quad |c| = 1000",
    source="Mnih and Rezende 2016, local learning signals",
    kind="metamorphic",
    tolerance="32 roundings of |log w| + |c|, times the ratio of the extreme weights",
    kills=("vimco-overflows",),
    builds_on=("estimators/vimco-unbiased", "estimators/vimco-signal"),
)
def vimco_range(probe: Probe) -> None:
    for shift in (-1000.0, 1000.0):
        _require_signal(probe, probe.normal("signal 4", 4, 3) - 1, shift)


# The KL from samples.


def _pair(probe: Probe) -> tuple[Tensor, Tensor]:
    """Return log q and log p of five values, of ratios below 12: nobody clamps so little."""
    log_q, log_p = (
        torch.log_softmax(1.2 * probe.uniform(name, 5).double(), 0) for name in ("log_q", "log_p")
    )
    return log_q.to(probe.dtype), log_p.to(probe.dtype)


def _formula(name: str, log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Return an estimate of the KL, and the size of its terms."""
    log_r, size = log_p - log_q, log_p.abs() + log_q.abs()
    if name == "k1":
        return -log_r, size
    if name == "k2":
        return log_r.square() / 2, size.square()
    return torch.expm1(log_r) - log_r, 1 + size + log_r.exp() * (1 + size)


def _estimates(probe: Probe, log_q: Tensor, log_p: Tensor) -> Tensor:
    return probe.each("kl_estimate", log_q, log_p)


def _kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    return (log_q.exp() * (log_q - log_p)).sum()


@of_kl(
    "estimators/kl-value",
    statement="The estimate of the KL from a sample is the one that is declared.",
    formula=r"r = \frac{p(x)}{q(x)}:\quad k_1 = -\log r, \quad k_2 = \tfrac12 (\log r)^2, \quad "
    r"k_3 = r - 1 - \log r",
    kind="exact",
    tolerance="32 roundings of the sum of the terms' absolute values",
    kills=(
        "kl-estimate-sign",
        "kl-estimate-ratio-inverted",
        "kl-estimate-ratio-for-its-logarithm",
        "kl-estimate-without-half",
        "kl-estimate-absolute",
    ),
)
def kl_value(probe: Probe) -> None:
    name = probe.fields.kl_estimator
    if name == "any":
        raise NotApplicable("no estimate is declared: declare kl_estimator")
    log_q, log_p = _pair(probe)
    exact, scale = _formula(name, log_q.double(), log_p.double())
    require_agreement(
        f"the estimate {name} of the KL",
        _estimates(probe, log_q, log_p),
        exact,
        scale=scale,
        dtype=probe.dtype,
        inputs={"log_q": log_q, "log_p": log_p},
    )


@of_kl(
    "estimators/kl-unbiased",
    statement="The mean estimate over samples of q is the KL, unless it is k2.",
    formula=r"E_q[k] = \mathrm{KL}(q \,\|\, p)",
    kind="identity",
    tolerance="32 roundings of the sum of the terms' absolute values",
    kills=("kl-estimate-ratio-inverted", "kl-estimate-ratio-for-its-logarithm"),
    builds_on=("estimators/kl-value",),
)
def kl_unbiased(probe: Probe) -> None:
    name, use = probe.fields.kl_estimator, probe.fields.kl_use
    if name == "k2" or (name, use) == ("any", "loss"):
        raise NotApplicable(
            "the mean of k2 is not the KL, and the value of a loss does not matter"
        )
    log_q, log_p = _pair(probe)
    q = log_q.double().exp()
    require_agreement(
        "the mean estimate of the KL",
        q @ _estimates(probe, log_q, log_p).detach().double(),
        _kl(log_q.double(), log_p.double()),
        scale=q @ _formula("k3", log_q.double(), log_p.double())[1],
        dtype=probe.dtype,
        inputs={"log_q": log_q, "log_p": log_p},
    )


def _require_kl_slope(
    probe: Probe, what: str, use: str, slopes: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """Hold the mean gradient by the logits of q against that of the KL."""
    if probe.fields.kl_use != use:
        raise NotApplicable(f"the estimate is not used as a {use}: declare kl_use")
    log_q, log_p = _pair(probe)
    wide = log_q.double(), log_p.double()
    q, score = wide[0].exp(), torch.eye(5, dtype=torch.float64) - wide[0].exp()
    require_agreement(
        what,
        (q * slopes(log_q, log_p).detach().double()) @ score,
        q * (wide[0] - wide[1] - _kl(*wide)),
        scale=2 * (_formula("k3", *wide)[1] + _formula("k2", *wide)[1]).max(),
        dtype=probe.dtype,
        inputs={"log_q": log_q, "log_p": log_p},
    )


@of_kl(
    "estimators/kl-as-a-loss",
    statement="An estimate that is differentiated, with samples that are constants, has the mean "
    "gradient of the KL.",
    formula=r"E_q[\nabla k] = \nabla \mathrm{KL}(q \,\|\, p): \qquad "
    r"E_q[\nabla k_1] = 0, \quad E_q[\nabla k_2] = \nabla \mathrm{KL}(q \,\|\, p), \quad "
    r"E_q[\nabla k_3] = \nabla \mathrm{KL}(p \,\|\, q)",
    kind="gradient",
    tolerance="32 roundings of the sum of the terms' absolute values",
    kills=("kl-estimate-k1-as-loss", "kl-estimate-k3-as-loss", "kl-estimate-detached-loss"),
    builds_on=("estimators/kl-value", "estimators/kl-unbiased"),
)
def kl_as_a_loss(probe: Probe) -> None:
    def slopes(log_q: Tensor, log_p: Tensor) -> Tensor:
        probe.require_gradient("kl_estimate")
        return probe.gradient(lambda q: _estimates(probe, q, log_p), log_q)[0]

    _require_kl_slope(probe, "the mean slope by the logits of the KL as a loss", "loss", slopes)


@of_kl(
    "estimators/kl-in-the-reward",
    statement="An estimate in the reward, which multiplies the gradient of log q, has the mean "
    "gradient of the KL.",
    formula=r"E_q[k \nabla \log q] = \nabla \mathrm{KL}(q \,\|\, p): \qquad "
    r"E_q[k_3 \nabla \log q] = \nabla \mathrm{KL}(q \,\|\, p) - \nabla \mathrm{KL}(p \,\|\, q)",
    kind="identity",
    tolerance="32 roundings of the sum of the terms' absolute values",
    kills=("kl-estimate-k3-in-reward",),
    builds_on=("estimators/kl-value", "estimators/kl-unbiased"),
)
def kl_in_the_reward(probe: Probe) -> None:
    what = "the mean slope by the logits of the KL in the reward"
    _require_kl_slope(probe, what, "reward", partial(_estimates, probe))
