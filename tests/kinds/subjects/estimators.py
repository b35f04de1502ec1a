"""Estimators that are right, each in a way of its own, and near misses."""

import math

import numpy as np
import torch
import torch.distributions as D
from scipy.special import logsumexp

from vae_ref.conformance import Conventions, from_numpy
from vae_ref.conformance.kinds import Estimators
from vae_ref.conformance.mutants.kinds.estimators import (
    kl_estimate,
    score_function,
    specimen,
    surrogate,
    vimco,
    weighted_bound,
)
from vae_ref.kinds.estimators import sticking_the_landing
from vae_ref.objective import importance_weighted_bound

OFF = 1 + 1e-9

NOT_OF_THE_REFERENCE = {
    "estimators/kl-in-the-reward": "the estimate is not used as a reward: declare kl_use"
}


def by_torch_distributions():
    """By the classes of torch, in sums over the batch: IWAE, REINFORCE, and k1 as a monitor."""

    def loss(mu, logvar, eps, log_joint):
        q = D.Independent(D.Normal(mu, (logvar / 2).exp()), 1)
        z = q.base_dist.loc + q.base_dist.scale * eps
        return -(torch.logsumexp(log_joint(z) - q.log_prob(z), 0) - math.log(len(z))).sum()

    @torch.no_grad()
    def kl(log_q, log_p):
        return (log_q - log_p).mean()

    return Estimators(
        name="by torch",
        weighted_bound=lambda w: (torch.logsumexp(w, 0) - math.log(len(w))).sum(),
        surrogate=loss,
        estimator="iwae",
        trains_model=True,
        score_function=lambda log_q, rewards: -(log_q * rewards).sum(),
        kl_estimate=kl,
        kl_estimator="k1",
    )


def by_scipy():
    """By scipy's log-sum-exp, which has no gradient; samples come last."""

    def bound(log_w):
        return logsumexp(log_w, axis=1, b=1 / log_w.shape[1])

    return Estimators(name="by scipy", weighted_bound=from_numpy(bound), samples_axis=1)


def by_numpy_and_weights():
    """The published gradients, written with weights that are constants: IWAE's equation 14."""

    def loss(mu, logvar, eps, log_joint):
        z = mu[:, None] + torch.exp(logvar / 2)[:, None] * eps
        log_q = -0.5 * (eps**2 + logvar[:, None] + math.log(2 * math.pi)).sum(-1)
        log_w = log_joint(z.flatten(0, 1)).view(z.shape[:2]) - log_q
        weights = torch.tensor(np.exp(log_w.detach().numpy()))
        return -(weights / weights.sum(1, keepdim=True) * log_w).sum(1).mean()

    return Estimators(
        name="constant weights",
        surrogate=loss,
        samples_axis=1,
        estimator="iwae",
        trains_model=True,
    )


def of_objectives_that_are_maximised():
    """Means over the batch, samples on the second axis: STL, scaled RLOO, k1 in the reward."""

    def elbo(mu, logvar, eps, log_joint):
        return sticking_the_landing(mu, logvar, eps.transpose(0, 1), log_joint).mean()

    def rloo(log_q, rewards):
        k = rewards.shape[1]
        advantage = k / (k - 1) * (rewards - rewards.mean(1, keepdim=True))
        return (advantage.detach() * log_q).mean()

    return Estimators(
        name="maximised",
        weighted_bound=lambda w: importance_weighted_bound(w.T).mean().item(),
        surrogate=elbo,
        score_function=rloo,
        kl_estimate=lambda log_q, log_p: log_q - log_p,
        samples_axis=1,
        maximised=True,
        estimator="stl",
        trains_model=True,
        baseline="leave-one-out",
        kl_estimator="k1",
        kl_use="reward",
    )


def of_an_entropy():
    """The ELBO by the entropy, summed over samples one by one; rewards that have a gradient."""

    def loss(mu, logvar, eps, log_joint):
        entropy = D.Normal(mu, torch.exp(logvar / 2)).entropy().sum(1)
        return -sum(log_joint(mu + (logvar / 2).exp() * e) + entropy for e in eps).mean()

    def score(log_q, rewards):
        baseline = rewards.detach().mean()  # of the whole batch
        return -(log_q * (rewards.detach() - baseline) + rewards).mean()

    return Estimators(
        name="entropy",
        surrogate=loss,
        trains_model=True,
        score_function=score,
        rewards_in_graph=True,
        kl_estimate=lambda log_q, log_p: (log_p - log_q).square() / 2,
        kl_use="loss",
    )


def of_single_precision():
    """Declared to be in single precision; k3 is only looked at, and clamped as in public code."""
    return Estimators(
        name="float32",
        weighted_bound=lambda w: torch.logsumexp(w.float(), 0) - math.log(len(w)),
        surrogate=surrogate,
        estimator="dreg",
        trains_model=True,
        score_function=lambda log_q, rewards: -_grpo(log_q, rewards),
        baseline="mean",
        vimco=vimco,
        kl_estimate=lambda log_q, log_p: (
            torch.exp((log_p - log_q).clamp(-20, 20)) - 1 - (log_p - log_q)
        ).clamp(-10, 10),
        kl_estimator="k3",
        conventions=Conventions(dtype="float32"),
    )


def _grpo(log_q, rewards):
    """The ratio of a policy to itself, times what a reward is above the mean of its group."""
    advantage = torch.tensor((rewards - rewards.mean(0)).tolist(), dtype=log_q.dtype)
    return (torch.exp(log_q - log_q.detach()) * advantage).sum()


def of_the_paper_of_vimco():
    """A loop over samples, with sums of the other weights; and with their arithmetic mean."""

    def loss(log_w, log_q):
        total, k = torch.logsumexp(log_w, 0), len(log_w)
        terms = []
        for i in range(k):
            others = log_w[[j for j in range(k) if j != i]]
            without = torch.logsumexp(others, 0) + math.log(k / (k - 1))
            terms.append((total - without).detach() * log_q[i])
        weights = torch.softmax(log_w, 0).detach()
        return -(sum(terms) + (weights * log_w).sum(0)).mean()

    return Estimators(name="VIMCO", vimco=loss, left_out="arithmetic")


def of_hooks_and_ratios():
    """The specimen with the samples on the second axis."""

    def loss(mu, logvar, eps, log_joint):
        return surrogate(mu, logvar, eps.transpose(0, 1), log_joint)

    return specimen(
        "second axis",
        weighted_bound=lambda w: weighted_bound(w.T),
        surrogate=loss,
        score_function=lambda log_q, rewards: score_function(log_q.T, rewards.T),
        vimco=lambda log_w, log_q: vimco(log_w.T, log_q.T).sum(),
        samples_axis=1,
    )


RIGHT = [
    by_torch_distributions,
    by_scipy,
    by_numpy_and_weights,
    of_objectives_that_are_maximised,
    of_an_entropy,
    of_single_precision,
    of_the_paper_of_vimco,
    of_hooks_and_ratios,
]


def _with_slopes(function, off, *which):
    """Return a function with the same values, some of whose inputs have slopes that are off."""

    def changed(*inputs):
        given = [
            off * t - ((off - 1) * t).detach() if i in which else t for i, t in enumerate(inputs)
        ]
        return function(*given)

    return changed


def _with_a_little_score(mu, logvar, eps, log_joint):
    little = 1 + (OFF - 1) * (mu.sum() + logvar.sum() - (mu.sum() + logvar.sum()).detach())
    return surrogate(mu, logvar, eps, log_joint) * little


def _of_model(mu, logvar, eps, log_joint):
    z = (mu + torch.exp(logvar / 2) * eps).detach()
    more = log_joint(z)
    return surrogate(mu, logvar, eps, log_joint) + (OFF - 1) * (more - more.detach()).sum()


def _of_rewards(log_q, rewards):
    return score_function(log_q, rewards) + (OFF - 1) * (rewards - rewards.detach()).sum()


def _signal_off(log_w, log_q):
    return vimco(log_w, log_q) + (OFF - 1) * log_q.sum(0)


NEAR = {
    "estimators/bound": {"weighted_bound": lambda w: OFF * weighted_bound(w)},
    "estimators/bound-gradient": {"weighted_bound": _with_slopes(weighted_bound, OFF, 0)},
    "estimators/surrogate-unbiased": {"surrogate": _with_slopes(surrogate, OFF, 1)},
    "estimators/surrogate-zero-at-the-posterior": {"surrogate": _with_a_little_score},
    "estimators/surrogate-trains-the-model": {"surrogate": _of_model},
    "estimators/score-unbiased": {"score_function": _with_slopes(score_function, OFF, 0)},
    "estimators/score-rewards-are-constants": {"score_function": _of_rewards},
    "estimators/vimco-unbiased": {"vimco": _with_slopes(vimco, OFF, 0)},
    "estimators/vimco-signal": {"vimco": _signal_off},
    "estimators/kl-value": {"kl_estimate": lambda *g: OFF * kl_estimate(*g)},
    "estimators/kl-unbiased": {"kl_estimate": lambda *g: OFF * kl_estimate(*g)},
    "estimators/kl-as-a-loss": {"kl_estimate": _with_slopes(kl_estimate, OFF, 0)},
    "estimators/kl-in-the-reward": {
        "kl_estimate": lambda log_q, log_p: OFF * (log_q - log_p),
        "kl_estimator": "k1",
        "kl_use": "reward",
    },
}
"""Name of a claim -> changes of the specimen that are off by a few tolerances."""
