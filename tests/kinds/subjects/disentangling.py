"""Disentangling terms that are right, each in a way of its own, and near misses."""

import math

import numpy as np
import torch
import torch.distributions as D
import torch.nn.functional as F
from scipy import special, stats

from vae_ref.conformance import Conventions
from vae_ref.conformance.foreign import from_numpy
from vae_ref.conformance.kinds import DisentanglingTerms, Schedule
from vae_ref.conformance.mutants.kinds.disentangling import (
    GAMMA,
    capacity_term,
    decomposition,
    dip_penalty,
    discriminator_loss,
    free_bits,
    permute_latents,
    specimen,
    stratified_log_weights,
    tc_from_logits,
    total_correlation,
    weight_at,
)

OFF = 1 + 1e-10


def by_a_mixture_of_torch():
    """q(z) by torch's class of mixtures, reduced to means; weighted sampling divides by N too."""

    def parts(z, mu, logvar, data):
        each = D.Normal(mu, (logvar / 2).exp())
        index = D.Categorical(torch.ones(len(z), dtype=z.dtype))
        q = D.MixtureSameFamily(index, D.Independent(each, 1)).log_prob(z) - math.log(data)
        each_latent = D.Normal(mu.T, (logvar / 2).exp().T)
        of_latents = D.Categorical(torch.ones_like(mu.T))
        marginals = D.MixtureSameFamily(of_latents, each_latent).log_prob(z) - math.log(data)
        own = each.log_prob(z).sum(1)
        prior = D.Normal(0.0, 1.0).log_prob(z).sum(1)
        q_marginals = marginals.sum(1)
        return (own - q).mean(), (q - q_marginals).mean(), (q_marginals - prior).mean()

    return DisentanglingTerms(
        name="by a mixture of torch",
        decomposition=parts,
        total_correlation=lambda *given: parts(*given)[1],
    )


def with_constants_in_single_precision():
    """Its log(NB) and log 2 pi are float32 tensors, whatever the codes are."""

    def log_density(z, mu, logvar):
        log_2pi = torch.log(torch.tensor([2 * math.pi], dtype=torch.float32))
        return -0.5 * (log_2pi + logvar + (z - mu) ** 2 * torch.exp(-logvar))

    def parts(z, mu, logvar, data):
        log_nb = torch.log(torch.tensor([len(z) * data], dtype=torch.float32))
        pairs = log_density(z[:, None], mu, logvar)
        joint = torch.logsumexp(pairs.sum(-1), 1) - log_nb
        marginals = (torch.logsumexp(pairs, 1) - log_nb).sum(-1)
        own, prior = log_density(z, mu, logvar), log_density(z, 0 * z, 0 * z)
        return own.sum(1) - joint, joint - marginals, marginals - prior.sum(1)

    return DisentanglingTerms(
        name="constants in single precision",
        decomposition=parts,
        total_correlation=lambda *given: parts(*given)[1].mean(),
    )


def by_scipy():
    """In NumPy with SciPy's densities and logsumexp, without gradients; sums over the batch."""

    def parts(z, mu, logvar, data):
        density = stats.norm.logpdf(z[:, None], mu, np.exp(logvar / 2))
        log_nb = math.log(len(z) * data)
        q = special.logsumexp(density.sum(2), axis=1) - log_nb
        marginals = (special.logsumexp(density, axis=1) - log_nb).sum(1)
        own = stats.norm.logpdf(z, mu, np.exp(logvar / 2)).sum(1)
        prior = stats.norm.logpdf(z).sum(1)
        return (own - q).sum(), (q - marginals).sum(), (marginals - prior).sum()

    def takes_tensors(z, mu, logvar, data):
        return from_numpy(lambda *given: parts(*given, data))(z, mu, logvar)

    takes_tensors.differentiable = False
    return DisentanglingTerms(name="by scipy", decomposition=takes_tensors)


def stratified_on_the_next_diagonal():
    """The usual matrix, mended: strides of B + 1, in single precision; and a log sigma."""

    def log_weights(batch, data):
        m = batch - 1
        flat = torch.empty(batch * batch, dtype=torch.float32).fill_(1 / m)
        flat[:: batch + 1] = 1 / data
        flat[1 :: batch + 1] = (data - m) / (data * m)
        flat[batch * m] = (data - m) / (data * m)
        return flat.view(batch, batch).log()

    def parts(z, mu, log_sigma, data):
        scaled = (z[:, None] - mu) * torch.exp(-log_sigma)
        density = -0.5 * (scaled**2 + math.log(2 * math.pi)) - log_sigma
        w = log_weights(len(z), data)
        q = (w + density.sum(2)).logsumexp(1)
        marginals = (w.unsqueeze(2) + density).logsumexp(1).sum(1)
        prior = (-0.5 * (z**2 + math.log(2 * math.pi))).sum(1)
        own = density[range(len(z)), range(len(z))].sum(1)
        return own - q, q - marginals, marginals - prior

    return DisentanglingTerms(
        name="the next diagonal",
        stratified_log_weights=log_weights,
        decomposition=lambda *given: [part.mean() for part in parts(*given)],
        total_correlation=lambda *given: parts(*given)[1].sum(),
        sampling="stratified",
        conventions=Conventions(spread="log_sigma"),
    )


def stratified_evenly():
    """All others weigh the same: unbiased too, and of less variance."""

    def log_weights(batch, data):
        others = (data - 1) / (data * (batch - 1))
        return torch.full((batch, batch), others).fill_diagonal_(1 / data).log()

    def parts(z, q, data):
        pairs = q.log_prob(z[:, None])
        w = log_weights(len(z), data).to(z)
        joint = torch.logsumexp(pairs.sum(2) + w, 1)
        marginals = torch.logsumexp(pairs + w[:, :, None], 1).sum(1)
        prior = D.Normal(0.0, 1.0).log_prob(z).sum(1)
        return q.log_prob(z).sum(1) - joint, joint - marginals, marginals - prior

    return DisentanglingTerms(
        name="evenly",
        stratified_log_weights=log_weights,
        decomposition=parts,
        sampling="stratified",
        conventions=Conventions(spread="distribution"),
    )


def _unweighted(shift):
    def tc(z, mu, logvar, data):
        pairs = D.Normal(mu, (logvar / 2).exp()).log_prob(z[:, None])
        joint, marginals = pairs.sum(2).logsumexp(1), pairs.logsumexp(1)
        return ((joint - shift(len(z))) - (marginals - shift(len(z))).sum(1)).mean()

    return tc


def without_the_constants():
    """A log-sum-exp and no more, as in the library of a large study; a form of DIP-VAE-I too."""

    def dip(mu, logvar):
        second = (mu[:, :, None] * mu[:, None, :]).mean(0)
        covariance = second - mu.mean(0)[:, None] * mu.mean(0)[None, :]
        diagonal = torch.diagonal(covariance)
        off = covariance - torch.diag(diagonal)
        return 3.0 * (off**2).sum() + 7.0 * ((diagonal - 1) ** 2).sum()

    return DisentanglingTerms(
        name="without the constants",
        total_correlation=_unweighted(lambda batch: 0.0),
        sampling="unweighted",
        dip_penalty=dip,
        lambda_od=3.0,
        lambda_d=7.0,
        tc_from_logits=lambda logits: (logits[:, :1] - logits[:, 1:]).mean(),
        discriminator_loss=lambda joint, permuted: (
            F.cross_entropy(joint, torch.zeros(len(joint)).long())
            + F.cross_entropy(permuted, torch.ones(len(permuted)).long())
        ),
    )


def of_the_batch():
    """q(z) of the batch; the covariance divided by B - 1; one logit; free bits of examples."""

    def permute(z):
        _, *others = z.unbind(1)  # in place, and one latent need not be moved
        for d in range(1, z.shape[1]):
            z[:, d] = others[d - 1][torch.randperm(len(z))]
        return z

    def dip(mu, logvar):
        covariance = torch.cov(mu.T) + torch.diag(logvar.exp().mean(0))
        mask = ~torch.eye(mu.shape[1], dtype=torch.bool)
        return covariance[mask].square().sum() + 2 * (covariance.diag() - 1).square().sum()

    return DisentanglingTerms(
        name="of the batch",
        total_correlation=_unweighted(math.log),
        sampling="batch",
        permute_latents=permute,
        dip_penalty=dip,
        dip_version="II",
        lambda_od=1.0,
        lambda_d=2.0,
        logits=1,
        tc_from_logits=lambda logits: torch.log(logits.sigmoid() / (1 - logits.sigmoid())),
        discriminator_loss=lambda joint, permuted: (
            F.binary_cross_entropy_with_logits(joint, torch.ones_like(joint))
            + F.binary_cross_entropy_with_logits(permuted, torch.zeros_like(permuted))
        ),
        capacity_term=lambda kl, capacity: 30.0 * torch.sqrt((kl - capacity) ** 2),
        gamma=30.0,
        free_bits=lambda kl: kl.sum(1).clamp(min=3.0),
        floor=3.0,
        floor_over="example",
    )


def from_the_log_of_a_loop():
    """The weights that a training used: counted from 1, and fewer than two cycles of them."""
    weights, weight = {}, 0.0
    for step in range(1, 1001):
        weight = 0.0 if (step - 1) % 400 == 0 else min(2.0, weight + 2.0 / 300)
        weights[step - 1] = torch.tensor(weight, dtype=torch.float32)
    return DisentanglingTerms(
        name="a log",
        weight_at=weights.__getitem__,
        schedule=Schedule(steps=300, end=2.0, cycle=400),
        free_bits=lambda kl: F.relu(kl.sum(1).mean() - 2.0),
        floor=2.0,
        floor_over="batch",
    )


def by_linspace():
    """A warm-up whose weights are a list, masks for free bits, and a stateful capacity."""
    weights = [*np.linspace(0.0, 1.0, 250), *np.ones(400)]

    def masked(kl):
        return ((kl > 0.1) * kl).sum(dim=1).mean()

    return DisentanglingTerms(
        name="by linspace",
        weight_at=lambda step: weights[step],
        schedule=Schedule(steps=250),
        free_bits=masked,
        floor=0.1,
        floor_over="element",
        capacity_term=lambda kl, capacity: 0.5 * torch.abs(kl.mean() - capacity),
        gamma=0.5,
    )


def from_high_to_low():
    """A weight that falls, step by step, with joint codes as class 1."""
    state = {"weight": 4.0}

    def weight(step):
        state["weight"] = 4.0 if step == 0 else max(1.0, state["weight"] - 3.0 / 50)
        return state["weight"]

    return DisentanglingTerms(
        name="falling",
        weight_at=weight,
        schedule=Schedule(steps=50, start=4.0, end=1.0),
        joint_class=1,
        tc_from_logits=lambda logits: logits.log_softmax(1)[:, 1] - logits.log_softmax(1)[:, 0],
        discriminator_loss=lambda joint, permuted: (
            -(joint.log_softmax(1)[:, 1].sum() + permuted.log_softmax(1)[:, 0].sum())
        ),
    )


RIGHT = [
    specimen,
    by_a_mixture_of_torch,
    with_constants_in_single_precision,
    by_scipy,
    stratified_on_the_next_diagonal,
    stratified_evenly,
    without_the_constants,
    of_the_batch,
    from_the_log_of_a_loop,
    by_linspace,
    from_high_to_low,
]


def _log_weights_off(batch, data):
    weights = stratified_log_weights(batch, data)
    weights[0, 0] += 1e-4
    return weights


def _part_off(index, by):
    def parts(*given):
        found = list(decomposition(*given))
        found[index] = by(found[index], *given)
        return tuple(found)

    return parts


def _same(mu):
    return (mu == mu[:1]).all()


def _leaks(value, leak):
    """Return a value with a slope that is off."""
    return value + 1e-9 * (leak - leak.detach())


def _sticky(z):
    """Every now and then, latents are permuted together."""
    return z[torch.randperm(len(z))] if torch.rand(()) < 0.3 else permute_latents(z)


def _one_value_off(z):
    z = permute_latents(z)
    z[0, 0] += 1e-12
    return z


NEAR = {
    "disentangling/stratified-weights-unbiased": {"stratified_log_weights": _log_weights_off},
    "disentangling/stratified-weights-sum-to-one": {"stratified_log_weights": _log_weights_off},
    "disentangling/decomposition": {"decomposition": _part_off(1, lambda tc, *_: tc + 3e-5)},
    "disentangling/decomposition-adds-up": {
        "decomposition": _part_off(0, lambda information, *_: information + 1e-4)
    },
    "disentangling/decomposition-of-equal-posteriors": {
        "decomposition": _part_off(1, lambda tc, z, mu, *_: torch.where(_same(mu), tc + 3e-5, tc))
    },
    "disentangling/decomposition-far-out": {
        "decomposition": _part_off(
            1, lambda tc, z, mu, *_: tc + 3e-5 * ((z - mu).abs() > 30).any(1)
        )
    },
    "disentangling/decomposition-slopes": {
        "decomposition": _part_off(1, lambda tc, z, mu, *_: _leaks(tc, mu.sum(1)))
    },
    "disentangling/decomposition-of-a-gaussian": {
        "decomposition": _part_off(1, lambda tc, z, *_: tc + 0.2 * (len(z) > 400))
    },
    "disentangling/total-correlation": {
        "total_correlation": lambda *given: total_correlation(*given) + 3e-5
    },
    "disentangling/total-correlation-far-out": {
        "total_correlation": lambda z, mu, *rest: (
            total_correlation(z, mu, *rest) + 3e-5 * ((z - mu).abs() > 30).any(1)
        )
    },
    "disentangling/total-correlation-slopes": {
        "total_correlation": lambda z, mu, *rest: _leaks(total_correlation(z, mu, *rest), z.sum(1))
    },
    "disentangling/total-correlation-of-a-gaussian": {
        "total_correlation": lambda *given: total_correlation(*given) + 0.2
    },
    "disentangling/dip-penalty": {"dip_penalty": lambda *given: OFF * dip_penalty(*given)},
    "disentangling/dip-penalty-slopes": {
        "dip_penalty": lambda mu, logvar: _leaks(dip_penalty(mu, logvar), 1e3 * logvar.sum())
    },
    "disentangling/permuted-latents-keep-their-values": {"permute_latents": _one_value_off},
    "disentangling/latents-permuted-independently": {"permute_latents": _sticky},
    "disentangling/tc-from-logits": {
        "tc_from_logits": lambda logits: OFF * tc_from_logits(logits)
    },
    "disentangling/discriminator-loss": {
        "discriminator_loss": lambda j, p: discriminator_loss(j, p) + 1e-10 * j.mean()
    },
    "disentangling/discriminator-at-its-optimum": {
        "discriminator_loss": lambda j, p: discriminator_loss(j, p) + 1e-10 * j.mean(0)[0]
    },
    "disentangling/capacity-term": {"capacity_term": lambda kl, c: OFF * capacity_term(kl, c)},
    "disentangling/capacity-slopes": {
        "capacity_term": lambda kl, c: _leaks(capacity_term(kl, c), GAMMA * kl.mean())
    },
    "disentangling/capacity-of-a-batch": {
        "capacity_term": lambda kl, c: capacity_term(kl, c) + 1e-9 * (len(kl) > 1)
    },
    "disentangling/free-bits": {"free_bits": lambda kl: free_bits(kl) + 1e-10},
    "disentangling/free-bits-slopes": {
        "free_bits": lambda kl: _leaks(free_bits(kl), 10 * kl.mean())
    },
    "disentangling/schedule": {
        "weight_at": lambda step: weight_at(max(0, step - 2))  # two steps late
    },
    "disentangling/schedule-reaches-its-end": {
        "weight_at": lambda step: OFF**1e6 * weight_at(step)
    },
}
"""Name of a claim -> changes of the specimen that are off by a few tolerances."""
