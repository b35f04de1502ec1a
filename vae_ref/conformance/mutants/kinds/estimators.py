"""Bugs of estimators: of importance-weighted bounds, of gradients, and of a KL from samples."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from vae_ref.conformance.kinds.estimators import Estimators
from vae_ref.conformance.mutants import bank

__all__ = ["specimen"]

LogJoint = Callable[[Tensor], Tensor]


def weighted_bound(log_w: Tensor) -> Tensor:
    """Return the bound of each example, shifted by the largest weight; samples come first."""
    largest = log_w.amax(0)
    return largest + torch.log(torch.exp(log_w - largest).mean(0))


def draw(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """Return z, which is a function of mu and logvar."""
    return mu + torch.exp(logvar / 2) * eps


def log_density(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return log q(z)."""
    q = Normal(mu, torch.exp(logvar / 2), validate_args=False)
    log_q: Tensor = q.log_prob(z).sum(-1)
    return log_q


def surrogate(mu: Tensor, logvar: Tensor, eps: Tensor, log_joint: LogJoint) -> Tensor:
    """Return the loss of DReG: on its way to z, a gradient meets the weights once more."""
    z = draw(mu, logvar, eps)
    log_w = log_joint(z) - log_density(z, mu.detach(), logvar.detach())
    weights = torch.softmax(log_w.detach(), 0)
    z.register_hook(lambda slope: weights.unsqueeze(-1) * slope)
    return -(weights * log_w).sum()


def score_function(log_q: Tensor, rewards: Tensor) -> Tensor:
    """Return the loss of REINFORCE, with the mean of the other samples for a baseline."""
    others = (rewards.sum(0) - rewards) / (len(rewards) - 1)
    return -((rewards - others).detach() * log_q).mean(0)


def left_out(log_w: Tensor, instead: Tensor) -> Tensor:
    """Return the bounds in which one weight is another, for each sample."""
    own = torch.eye(len(log_w), dtype=torch.bool).unsqueeze(-1)
    return weighted_bound(torch.where(own, instead.unsqueeze(0), log_w.unsqueeze(1)))


def mean_of_others(log_w: Tensor) -> Tensor:
    """Return the logarithm of the geometric mean of the other weights."""
    return (log_w.sum(0) - log_w) / (len(log_w) - 1)


def vimco(log_w: Tensor, log_q: Tensor) -> Tensor:
    """Return the loss of VIMCO for each example."""
    bound = weighted_bound(log_w)
    signal = bound - left_out(log_w, mean_of_others(log_w))
    return -((signal.detach() * log_q).sum(0) + bound)


def k3(log_q: Tensor, log_p: Tensor) -> Tensor:
    """Return r - 1 - log r."""
    log_r = log_p - log_q
    return torch.exp(log_r) - 1 - log_r


def kl_estimate(log_q: Tensor, log_p: Tensor) -> Tensor:
    """Return k3, weighted by a ratio that is 1, whose gradient is that of log q."""
    return torch.exp(log_q - log_q.detach()) * k3(log_q, log_p)


def specimen(name: str = "specimen", **changes: Any) -> Estimators:
    """Return a correct subject, some of whose functions are replaced."""
    parts: dict[str, Any] = {
        "weighted_bound": weighted_bound,
        "surrogate": surrogate,
        "estimator": "dreg",
        "trains_model": True,
        "score_function": score_function,
        "baseline": "leave-one-out",
        "rewards_in_graph": True,
        "vimco": vimco,
        "kl_estimate": kl_estimate,
        "kl_estimator": "k3",
        "kl_use": "loss",
    }
    return Estimators(name=name, **(parts | changes))


bank.describe(
    "estimators",
    specimen,
    weighted_bound="log (1/K) Σ_k w_k",
    surrogate="Σ_k w̃_k² ∂log w_k/∂z_k · ∂z_k/∂φ",
    score_function="(1/K) Σ_k (r_k − mean_{j≠k} r_j) ∇log q(x_k)",
    vimco="Σ_k (L_K − L_{−k}) ∇log q(x_k) + ∇L_K, where L_{−k} has the geometric mean for w_k",
    kl_estimate="k, with E_q[∇k] = ∇KL(q ‖ p) as a loss, E_q[k ∇log q] = ∇KL(q ‖ p) in a reward",
)

of_bound = partial(bank.mutant, "weighted_bound")
of_surrogate = partial(bank.mutant, "surrogate")
of_score = partial(bank.mutant, "score_function")
of_vimco = partial(bank.mutant, "vimco")
of_kl = partial(bank.mutant, "kl_estimate")

STL: Any = {"estimator": "stl", "right": "(1/K) Σ_k ∂log w_k/∂z_k · ∂z_k/∂φ"}
IWAE: Any = {"estimator": "iwae", "right": "Σ_k w̃_k ∇log w_k"}
PLAIN: Any = {"estimator": "plain", "right": "(1/K) Σ_k ∇log w_k"}
K1: Any = {"kl_estimator": "k1"}
K1_VALUE: Any = {"kl_estimator": "k1", "kl_use": "value"}
K2: Any = {"kl_estimator": "k2"}
REWARD: Any = {"kl_use": "reward"}


@of_bound(
    "bound-without-log-k",
    "your bound lacks - log K: it is the logarithm of the sum of the weights, not of their mean",
    wrong="log Σ_k w_k",
    seen=("YosefLab/scVI-dev#8",),
)
def bound_without_log_k(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 0)


@of_bound(
    "bound-mean-of-log-weights",
    "your bound is the mean of the log weights, which is the ELBO, whatever K is",
    wrong="(1/K) Σ_k log w_k",
    seen=("arahuja/generative-tf#1 (asked about)",),
)
def bound_mean_of_logs(log_w: Tensor) -> Tensor:
    return log_w.mean(0)


@of_bound(
    "bound-log-of-examples",
    "your bound subtracts the logarithm of the number of examples, not of samples",
    wrong="log Σ_k w_k − log N",
)
def bound_log_of_examples(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[1])


@of_bound(
    "bound-over-examples",
    "your bound averages the weights over the examples: the axes of samples and examples are "
    "swapped",
    wrong="log (1/N) Σ_n w_{k,n}",
)
def bound_over_examples(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])


@of_bound(
    "bound-of-summed-examples",
    "your bound sums the log weights over the batch before it averages the samples",
    wrong="log (1/K) Σ_k Π_n w_{k,n}",
    seen=("pyro-ppl/pyro#2220",),
)
def bound_of_summed_examples(log_w: Tensor) -> Tensor:
    return weighted_bound(log_w.sum(1))


@of_bound(
    "bound-maximum-of-wrong-axis",
    "your log-sum-exp subtracts the largest weight over one axis, and adds that over another",
    wrong="max_k log w_{k,n} + log (1/K) Σ_k exp(log w_{k,n} − max_j log w_{j,k})",
    seen=("pyro-ppl/pyro#1214",),
)
def bound_maximum_of_wrong_axis(log_w: Tensor) -> Tensor:
    largest = log_w.amax(0)
    return largest + (log_w - largest.unsqueeze(-1)).exp().sum(0).log() - math.log(len(log_w))


@of_bound(
    "bound-overflows",
    "your bound exponentiates the log weights as they are: it over- and underflows",
    wrong="log((1/K) Σ_k exp(log w_k)), unshifted",
    seen=("xqding/Importance_Weighted_Autoencoders#3 (asked about)",),
)
def bound_overflows(log_w: Tensor) -> Tensor:
    return torch.log(torch.exp(log_w).mean(0))


@of_bound(
    "bound-maximum-detached-once",
    "your log-sum-exp detaches the largest weight in one of its two places: its gradient stays",
    wrong="max log w + log (1/K) Σ_k exp(log w_k − stop-gradient(max log w))",
)
def bound_maximum_detached_once(log_w: Tensor) -> Tensor:
    largest = log_w.amax(0)
    return largest + torch.log(torch.exp(log_w - largest.detach()).mean(0))


@of_surrogate(
    "dreg-weights-not-squared",
    "your weights are not squared: the gradient with respect to mu and logvar is that of STL for "
    "more than one sample, which is biased",
    wrong="Σ_k w̃_k ∂log w_k/∂z_k · ∂z_k/∂φ",
)
def dreg_not_squared(mu: Tensor, logvar: Tensor, eps: Tensor, log_joint: LogJoint) -> Tensor:
    z = draw(mu, logvar, eps)
    log_w = log_joint(z) - log_density(z, mu.detach(), logvar.detach())
    return -(torch.softmax(log_w, 0).detach() * log_w).sum()


@of_surrogate(
    "dreg-weights-not-detached",
    "your squared weights are not detached: their own gradient is added",
    wrong="∇ Σ_k w̃_k² log w_k",
)
def dreg_weights_not_detached(
    mu: Tensor, logvar: Tensor, eps: Tensor, log_joint: LogJoint
) -> Tensor:
    z = draw(mu, logvar, eps)
    log_w = log_joint(z) - log_density(z, mu.detach(), logvar.detach())
    return -(torch.softmax(log_w, 0).square() * log_w).sum()


@of_surrogate(
    "dreg-score-left-in",
    "mu and logvar are not detached in your log q(z): the score function, which DReG replaces, "
    "is still there",
    wrong="Σ_k w̃_k² ∇log w_k",
)
def dreg_score_left_in(mu: Tensor, logvar: Tensor, eps: Tensor, log_joint: LogJoint) -> Tensor:
    z = draw(mu, logvar, eps)
    log_w = log_joint(z) - log_density(z, mu, logvar)
    return -(torch.softmax(log_w, 0).detach().square() * log_w).sum()


@of_surrogate(
    "dreg-samples-detached",
    "your samples are detached, and not mu and logvar in log q(z): the score function is left, "
    "and not the path",
    wrong="−Σ_k w̃_k² ∂log q(z_k)/∂φ",
)
def dreg_samples_detached(mu: Tensor, logvar: Tensor, eps: Tensor, log_joint: LogJoint) -> Tensor:
    z = draw(mu, logvar, eps).detach()
    log_w = log_joint(z) - log_density(z, mu, logvar)
    return -(torch.softmax(log_w, 0).detach().square() * log_w).sum()


@of_surrogate(
    "dreg-squared-weights-train-the-model",
    "your squared weights train the parameters of log p(x, z) too, whose weights are not squared",
    wrong="∇_θ = Σ_k w̃_k² ∇_θ log p(x, z_k)",
)
def dreg_trains_model(mu: Tensor, logvar: Tensor, eps: Tensor, log_joint: LogJoint) -> Tensor:
    z = draw(mu, logvar, eps)
    log_w = log_joint(z) - log_density(z, mu.detach(), logvar.detach())
    return -(torch.softmax(log_w, 0).detach().square() * log_w).sum()


@of_surrogate(
    "stl-samples-detached",
    "your log q(z) has detached samples, not detached parameters: the path through it is missing, "
    "and the score function is left",
    wrong="(1/K) Σ_k (∂log p(x, z_k)/∂z_k · ∂z_k/∂φ − ∂log q(z_k)/∂φ)",
    **STL,
)
def stl_samples_detached(mu: Tensor, logvar: Tensor, eps: Tensor, log_joint: LogJoint) -> Tensor:
    z = draw(mu, logvar, eps)
    return -(log_joint(z) - log_density(z.detach(), mu, logvar)).mean(0)


@of_surrogate(
    "stl-log-q-detached",
    "your log q(z) is detached as a whole: what pushes the posterior to be wide is missing",
    wrong="(1/K) Σ_k ∂log p(x, z_k)/∂z_k · ∂z_k/∂φ",
    **STL,
)
def stl_log_q_detached(mu: Tensor, logvar: Tensor, eps: Tensor, log_joint: LogJoint) -> Tensor:
    z = draw(mu, logvar, eps)
    return -(log_joint(z) - log_density(z, mu, logvar).detach()).mean(0)


@of_surrogate(
    "stl-nothing-detached",
    "nothing is detached in your log q(z): the gradient is right in the mean, but it does not "
    "vanish at the true posterior",
    wrong="(1/K) Σ_k ∇log w_k",
    **STL,
)
def stl_nothing_detached(mu: Tensor, logvar: Tensor, eps: Tensor, log_joint: LogJoint) -> Tensor:
    z = draw(mu, logvar, eps)
    return -(log_joint(z) - log_density(z, mu, logvar)).mean(0)


@of_surrogate(
    "iwae-weights-not-detached",
    "the weights that average your log weights are not detached: their own gradient is added",
    wrong="∇ Σ_k w̃_k log w_k",
    seen=("AntixK/PyTorch-VAE#34", "AntixK/PyTorch-VAE#53"),
    **IWAE,
)
def iwae_weights_not_detached(
    mu: Tensor, logvar: Tensor, eps: Tensor, log_joint: LogJoint
) -> Tensor:
    z = draw(mu, logvar, eps)
    log_w = log_joint(z) - log_density(z, mu, logvar)
    return -(torch.softmax(log_w, 0) * log_w).sum(0)


@of_surrogate(
    "iwae-mean-of-elbos",
    "your surrogate is the mean of the log weights: it trains the ELBO, not the bound",
    wrong="(1/K) Σ_k ∇log w_k",
    **IWAE,
)
def iwae_mean_of_elbos(mu: Tensor, logvar: Tensor, eps: Tensor, log_joint: LogJoint) -> Tensor:
    z = draw(mu, logvar, eps)
    return -(log_joint(z) - log_density(z, mu, logvar)).mean(0)


@of_surrogate(
    "plain-samples-detached",
    "your samples are detached: the decoder's part of the ELBO has no gradient",
    wrong="−(1/K) Σ_k ∂log q(z_k)/∂φ",
    seen=("izmailovpavel/understandingbdl#8",),
    **PLAIN,
)
def plain_samples_detached(mu: Tensor, logvar: Tensor, eps: Tensor, log_joint: LogJoint) -> Tensor:
    z = draw(mu, logvar, eps).detach()
    return -(log_joint(z) - log_density(z, mu, logvar)).mean(0)


@of_score(
    "score-sign",
    "your loss rises with the reward: the minus is missing",
    wrong="−(1/K) Σ_k (r_k − b_k) ∇log q(x_k)",
)
def score_sign(log_q: Tensor, rewards: Tensor) -> Tensor:
    return -score_function(log_q, rewards)


@of_score(
    "score-own-reward-in-baseline",
    "your baseline is the mean of all rewards, the sample's own included: the gradient shrinks by "
    "1 - 1/K",
    wrong="(1/K) Σ_k (r_k − mean_j r_j) ∇log q(x_k)",
    seen=("jsboige/CoursIA#15256",),
)
def score_own_reward(log_q: Tensor, rewards: Tensor) -> Tensor:
    return -((rewards - rewards.mean(0)).detach() * log_q).mean(0)


@of_score(
    "score-baseline-too-small",
    "your baseline divides the sum of the other rewards by K, not by K - 1",
    wrong="(1/K) Σ_k (r_k − (1/K) Σ_{j≠k} r_j) ∇log q(x_k)",
)
def score_baseline_too_small(log_q: Tensor, rewards: Tensor) -> Tensor:
    others = (rewards.sum(0) - rewards) / len(rewards)
    return -((rewards - others).detach() * log_q).mean(0)


@of_score(
    "score-rewards-not-detached",
    "your rewards are not detached: their gradient is multiplied by log q",
    wrong="(1/K) Σ_k ((r_k − b_k) ∇log q(x_k) + log q(x_k) ∇(r_k − b_k))",
    seen=("batra-mlp-lab/visdial-rl#13",),
)
def score_rewards_not_detached(log_q: Tensor, rewards: Tensor) -> Tensor:
    others = (rewards.sum(0) - rewards) / (len(rewards) - 1)
    return -((rewards - others) * log_q).mean(0)


@of_score(
    "score-mean-of-log-probabilities",
    "your rewards are multiplied by the mean of the log probabilities, not each by its own",
    wrong="(1/K) Σ_k r_k · (1/K) Σ_j ∇log q(x_j)",
    seen=("Farama-Foundation/Gymnasium#1336",),
)
def score_mean_of_logs(log_q: Tensor, rewards: Tensor) -> Tensor:
    return -(rewards.detach().mean(0) * log_q.mean(0))


@of_score(
    "score-probabilities",
    "your rewards are multiplied by probabilities, not by their logarithms",
    wrong="(1/K) Σ_k (r_k − b_k) ∇q(x_k)",
)
def score_probabilities(log_q: Tensor, rewards: Tensor) -> Tensor:
    return score_function(log_q.exp(), rewards)


@of_vimco(
    "vimco-sign",
    "the learning signals of your loss have the wrong sign: good samples become rarer",
    wrong="−Σ_k (L_K − L_{−k}) ∇log q(x_k) + ∇L_K",
)
def vimco_sign(log_w: Tensor, log_q: Tensor) -> Tensor:
    return vimco(log_w, -log_q)


@of_vimco(
    "vimco-own-weight-in-mean",
    "the mean that takes the place of a weight contains that weight: the gradient is biased",
    wrong="L_{−k} with (Π_j w_j)^(1/K) for w_k",
)
def vimco_own_weight(log_w: Tensor, log_q: Tensor) -> Tensor:
    bound = weighted_bound(log_w)
    signal = bound - left_out(log_w, log_w.mean(0).expand_as(log_w))
    return -((signal.detach() * log_q).sum(0) + bound)


@of_vimco(
    "vimco-arithmetic-mean",
    "the arithmetic mean of the other weights takes the place of the one that is left out, not "
    "the geometric mean: the gradient is right in the mean; declare left_out='arithmetic' if you "
    "mean it",
    wrong="L_{−k} = log 1/(K − 1) Σ_{j≠k} w_j",
)
def vimco_arithmetic(log_w: Tensor, log_q: Tensor) -> Tensor:
    bound = weighted_bound(log_w)
    own = torch.eye(len(log_w), dtype=torch.bool).unsqueeze(-1)
    others = torch.where(own, -torch.inf, log_w.unsqueeze(1)).logsumexp(0)
    signal = bound - others + math.log(len(log_w) - 1)
    return -((signal.detach() * log_q).sum(0) + bound)


@of_vimco(
    "vimco-terms-of-different-size",
    "the learning signals of your loss are summed, and the bound is averaged over samples: the "
    "signals count K times as much",
    wrong="K Σ_k (L_K − L_{−k}) ∇log q(x_k) + ∇L_K",
    seen=("casperkaae/parmesan#46 (asked about)",),
)
def vimco_terms_of_different_size(log_w: Tensor, log_q: Tensor) -> Tensor:
    return vimco(log_w, len(log_w) * log_q)


@of_vimco(
    "vimco-without-path",
    "the bound itself is missing from your loss, though the weights depend on log q too",
    wrong="Σ_k (L_K − L_{−k}) ∇log q(x_k)",
)
def vimco_without_path(log_w: Tensor, log_q: Tensor) -> Tensor:
    return vimco(log_w.detach(), log_q)


@of_vimco(
    "vimco-signal-not-detached",
    "your learning signals are not detached: their gradient is multiplied by log q",
    wrong="∇ (Σ_k (L_K − L_{−k}) log q(x_k) + L_K)",
)
def vimco_signal_not_detached(log_w: Tensor, log_q: Tensor) -> Tensor:
    bound = weighted_bound(log_w)
    signal = bound - left_out(log_w, mean_of_others(log_w))
    return -((signal * log_q).sum(0) + bound)


@of_vimco(
    "vimco-left-out-without-log-k",
    "the bound without a sample lacks - log K: every learning signal is log K too small",
    wrong="L_{−k} = log (Σ_{j≠k} w_j + ŵ_k)",
)
def vimco_without_log_k(log_w: Tensor, log_q: Tensor) -> Tensor:
    return vimco(log_w, log_q) + math.log(len(log_w)) * log_q.sum(0)


@of_vimco(
    "vimco-overflows",
    "your bound without a sample exponentiates the log weights as they are: it over- and "
    "underflows",
    wrong="L_{−k} = log (1/K) (Σ_j exp(log w_j) − exp(log w_k) + exp(log ŵ_k)), unshifted",
)
def vimco_overflows(log_w: Tensor, log_q: Tensor) -> Tensor:
    bound, w = weighted_bound(log_w), log_w.exp()
    without = torch.log((w.sum(0) - w + mean_of_others(log_w).exp()) / len(w))
    return -(((bound - without).detach() * log_q).sum(0) + bound)


@of_kl(
    "kl-estimate-ratio-inverted",
    "your ratio is q/p, not p/q: for samples of q, the mean estimate is not a KL",
    wrong="r − 1 − log r, with r = q/p",
    seen=("hpcaitech/ColossalAI#3696",),
)
def kl_ratio_inverted(log_q: Tensor, log_p: Tensor) -> Tensor:
    return torch.exp(log_q - log_q.detach()) * k3(log_p, log_q)


@of_kl(
    "kl-estimate-sign",
    "your estimate has the wrong sign: as a loss, it drives q away from p",
    wrong="1 + log r − r",
    seen=("Unakar/Logic-RL#58", "Jiayi-Pan/TinyZero#72"),
)
def kl_sign(log_q: Tensor, log_p: Tensor) -> Tensor:
    return -kl_estimate(log_q, log_p)


@of_kl(
    "kl-estimate-ratio-for-its-logarithm",
    "your estimate has the ratio in place of its logarithm",
    wrong="exp(r) − 1 − r",
    seen=("Rolv-Arild/rocket-learn#12",),
)
def kl_ratio_for_log(log_q: Tensor, log_p: Tensor) -> Tensor:
    r = torch.exp(log_p - log_q)
    return torch.exp(log_q - log_q.detach()) * (torch.exp(r) - 1 - r)


@of_kl(
    "kl-estimate-without-half",
    "your estimate k2 lacks the factor 1/2: its gradient is twice that of the KL",
    wrong="(log r)²",
    right="½ (log r)²",
    seen=("one-covenant/grail#42",),
    **K2,
)
def kl_without_half(log_q: Tensor, log_p: Tensor) -> Tensor:
    return (log_p - log_q).square()


@of_kl(
    "kl-estimate-absolute",
    "your estimate is the absolute value of the log ratio, whose mean is larger than the KL",
    wrong="|log r|",
    right="−log r",
    seen=("openai/spinningup#292 (in a comment)",),
    **K1_VALUE,
)
def kl_absolute(log_q: Tensor, log_p: Tensor) -> Tensor:
    return (log_q - log_p).abs()


@of_kl(
    "kl-estimate-k1-as-loss",
    "k1 is your loss, whose mean gradient is zero: only noise is added; take k2 as a loss, or k1 "
    "in the reward",
    wrong="E_q[∇k₁] = 0",
    seen=("PrimeIntellect-ai/prime-rl#1390", "OpenRLHF/OpenRLHF#1309"),
    **K1,
)
def kl_k1_as_loss(log_q: Tensor, log_p: Tensor) -> Tensor:
    return log_q - log_p


@of_kl(
    "kl-estimate-k3-as-loss",
    "k3 is your loss, whose mean gradient is that of KL(p || q), not of KL(q || p); take k2 as a "
    "loss, or weigh k3 by q over a detached q",
    wrong="E_q[∇k₃] = ∇KL(p ‖ q)",
    seen=(
        "verl-project/verl#2953",
        "OpenRLHF/OpenRLHF#1309",
        "huggingface/trl#4967",
        "allenai/open-instruct#534",
    ),
)
def kl_k3_as_loss(log_q: Tensor, log_p: Tensor) -> Tensor:
    return k3(log_q, log_p)


@of_kl(
    "kl-estimate-detached-loss",
    "your estimate is a loss without a gradient: nothing keeps q near p",
    wrong="∇k = 0",
    seen=("NovaSky-AI/SkyRL#1340",),
)
def kl_detached(log_q: Tensor, log_p: Tensor) -> Tensor:
    return k3(log_q, log_p).detach()


@of_kl(
    "kl-estimate-k3-in-reward",
    "k3 is in your reward, whose mean gradient is that of KL(q || p) - KL(p || q); take k1 in a "
    "reward",
    wrong="E_q[k₃ ∇log q] = ∇KL(q ‖ p) − ∇KL(p ‖ q)",
    **REWARD,
)
def kl_k3_in_reward(log_q: Tensor, log_p: Tensor) -> Tensor:
    return k3(log_q, log_p)
