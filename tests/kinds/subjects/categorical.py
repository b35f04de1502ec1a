"""Discrete codes that are right, each in a way of its own, and near misses."""

import math

import torch
import torch.distributions as D
import torch.nn.functional as F
from scipy import stats

from vae_ref.conformance import Conventions, from_numpy
from vae_ref.conformance.kinds import CategoricalVAE
from vae_ref.conformance.mutants.kinds.categorical import (
    entropy_of_codes,
    gumbel_softmax,
    kl_to_categorical,
    kl_to_uniform,
    log_density_relaxed,
    one_hot,
    specimen,
    straight_through,
)

__all__ = ["NEAR", "RIGHT", "specimen"]

OFF = 1 + 1e-12


def by_torch_distributions():
    """By the classes of torch, one number for each latent."""

    def relaxed(logits, temperature):
        return D.RelaxedOneHotCategorical(torch.tensor(temperature), logits=logits)

    def prior(logits):
        return D.Categorical(logits=torch.zeros_like(logits))

    return CategoricalVAE(
        name="torch.distributions",
        kl_to_uniform=lambda q: D.kl_divergence(D.Categorical(logits=q), prior(q)),
        kl_to_categorical=lambda q, p: D.kl_divergence(
            D.Categorical(logits=q), D.Categorical(logits=p)
        ),
        entropy_of_codes=lambda q: D.Categorical(logits=q).entropy(),
        gumbel_softmax=lambda q, t: relaxed(q, t).rsample(),
        straight_through=lambda q, t: F.gumbel_softmax(q, tau=t, hard=True),
        log_density_relaxed=lambda y, q, t: relaxed(q, t).log_prob(y),
    )


def by_torch_of_the_logarithm():
    """Whose density is that of log y, and whose gradient is that of the probabilities."""

    def relaxed(logits, temperature):
        return D.relaxed_categorical.ExpRelaxedCategorical(
            torch.tensor(temperature), logits=logits
        )

    return CategoricalVAE(
        name="log y",
        gumbel_softmax=lambda q, t: relaxed(q, t).rsample().exp(),
        log_density_relaxed=lambda y, q, t: relaxed(q, t).log_prob(y).sum(),
        straight_through=lambda q, t: D.OneHotCategoricalStraightThrough(logits=q).rsample(),
        gradient_of="probabilities",
        density_of="log y",
    )


def by_scipy():
    """By scipy, of probabilities, without a gradient."""

    def kl(q):
        return stats.entropy(q, q * 0 + 1 / q.shape[-1], axis=-1).sum(1)

    return CategoricalVAE(
        name="scipy",
        kl_to_uniform=from_numpy(kl),
        kl_to_categorical=from_numpy(lambda q, p: stats.entropy(q, p, axis=-1).sum()),
        entropy_of_codes=from_numpy(lambda q: stats.entropy(q, axis=-1).sum(1)),
        takes="probabilities",
    )


def as_in_the_first_notebook():
    """The published formulas: uniform noise, and a small number in every logarithm."""
    eps = 1e-20

    def sample(logits, temperature):
        g = -torch.log(-torch.log(torch.rand(logits.shape) + eps) + eps)
        return F.softmax((logits + g) / temperature, dim=-1).flatten(1)

    def hard(logits, temperature):
        y = sample(logits, temperature).view_as(logits)
        hard = (y == y.amax(-1, keepdim=True)).to(y)
        return (hard - y).detach() + y

    def kl(logits):
        q = F.softmax(logits, dim=-1)
        log_k = torch.log(torch.tensor(1.0 / q.shape[-1], dtype=torch.float32))
        return (q * (torch.log(q + eps) - log_k)).sum()

    def loss(outputs, x, logits):
        return F.binary_cross_entropy(outputs, x, reduction="sum") + kl(logits)

    return CategoricalVAE(
        name="notebook",
        kl_to_uniform=kl,
        gumbel_softmax=sample,
        straight_through=hard,
        loss_of_codes=loss,
    )


def of_log_probabilities():
    """By kl_div, whose target is the posterior; the loss has a mean over pixels and a weight."""

    def kl(log_q, log_p):
        return F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)

    def loss(outputs, x, log_q):
        uniform = torch.full_like(log_q, -math.log(log_q.shape[-1]))
        return F.mse_loss(outputs, x) + 0.1 * kl(log_q, uniform)

    return CategoricalVAE(
        name="log probabilities",
        kl_to_uniform=lambda q: kl(q, torch.full_like(q, -math.log(q.shape[-1]))),
        kl_to_categorical=kl,
        loss_of_codes=loss,
        takes="log_probabilities",
    )


def tokens_of_an_image():
    """Of a discrete VAE of images: classes on the second axis, latents on a grid, 8 classes."""

    def checked(logits):
        assert logits.shape[1:] == (8, 4, 4)
        return logits

    def kl(logits):
        log_q = checked(logits).log_softmax(1)
        return (log_q.exp() * (log_q + math.log(8))).sum((1, 2, 3)).mean()

    def loss(outputs, x, logits):
        return (outputs - x).square().flatten(1).sum(1) + kl(logits)

    return CategoricalVAE(
        name="tokens",
        kl_to_uniform=kl,
        entropy_of_codes=lambda q: D.Categorical(logits=checked(q).movedim(1, -1)).entropy(),
        gumbel_softmax=lambda q, t: F.gumbel_softmax(checked(q), tau=t, dim=1),
        straight_through=lambda q, t: F.gumbel_softmax(checked(q), tau=t, hard=True, dim=1),
        loss_of_codes=loss,
        classes=8,
        classes_last=False,
        conventions=Conventions(latent_shape=(4, 4), pixel_shape=(3, 16, 16)),
    )


def pairs_of_classes():
    """Of two classes: a logistic number decides, in single precision."""

    def sample(logits, temperature):
        u = torch.rand(logits.shape[:2])
        noise = torch.log(u) - torch.log1p(-u)
        first = torch.sigmoid((logits[..., 0] - logits[..., 1] + noise) / temperature)
        return torch.stack([first, 1 - first], -1)

    return CategoricalVAE(
        name="pairs",
        kl_to_uniform=kl_to_uniform,
        gumbel_softmax=sample,
        classes=2,
        conventions=Conventions(dtype="float32"),
    )


def that_changes_its_arguments():
    """In place, and with one latent alone."""

    def kl(logits):
        logits -= logits.detach().amax(-1, keepdim=True)
        log_q = logits.log_softmax(-1)
        return (log_q.exp() * log_q.add(math.log(logits.shape[-1]))).sum()

    def sample(logits, temperature):
        return (
            logits.sub_(torch.zeros_like(logits).exponential_().log_())
            .div_(temperature)
            .softmax(-1)
        )

    def density(y, logits, temperature):
        log_y, k = y.log_(), y.shape[-1]
        terms = logits.sub_(temperature * log_y).log_softmax(-1).sub(log_y).sum(-1)
        return terms + math.lgamma(k) + (k - 1) * math.log(temperature)

    return CategoricalVAE(
        name="in place",
        kl_to_uniform=kl,
        gumbel_softmax=sample,
        log_density_relaxed=density,
        conventions=Conventions(latent_shape=(1,)),
    )


RIGHT = [
    by_torch_distributions,
    by_torch_of_the_logarithm,
    by_scipy,
    as_in_the_first_notebook,
    of_log_probabilities,
    tokens_of_an_image,
    pairs_of_classes,
    that_changes_its_arguments,
]


def _slope_off(function, *which):
    def changed(*inputs):
        off = [
            OFF * t - ((OFF - 1) * t).detach() if i in which else t for i, t in enumerate(inputs)
        ]
        return function(*off)

    return changed


def _at_uniform(logits):
    return kl_to_uniform(logits) + (1e-4 if not logits.any() else 0)


def _certain(function):
    def changed(logits, *prior):
        off = 1 + 1e-8 if logits.abs().amax() > 100 else 1
        return off * function(logits, *prior)

    return changed


def _other(y, logits, temperature):
    return log_density_relaxed(y, logits, temperature) + (1e-5 if len(y) > 100 else 0)


def _too_often(function):
    """Draw the last class more often by 0.025."""

    def changed(logits, temperature):
        q = torch.softmax(logits, -1)
        more = q + 0.025 * (torch.eye(q.shape[-1]).to(q)[-1] - 1 / q.shape[-1]) * 1.5
        return function(more.log(), temperature)

    return changed


def _other_gradient(logits, temperature):
    y = gumbel_softmax(logits, temperature)
    return one_hot(y) + (1 + 1e-5) * (y - y.detach())


NEAR = {
    "categorical/kl-to-uniform": {"kl_to_uniform": lambda q: OFF * kl_to_uniform(q)},
    "categorical/kl-zero-at-uniform": {"kl_to_uniform": _at_uniform},
    "categorical/kl-of-certain-codes": {"kl_to_uniform": _certain(kl_to_uniform)},
    "categorical/kl-slopes": {"kl_to_uniform": _slope_off(kl_to_uniform, 0)},
    "categorical/evidence": {"kl_to_uniform": lambda q: OFF * kl_to_uniform(q)},
    "categorical/kl-to-a-prior": {"kl_to_categorical": lambda q, p: OFF * kl_to_categorical(q, p)},
    "categorical/kl-zero-at-the-prior": {
        "kl_to_categorical": lambda q, p: kl_to_categorical(q, p) + 1e-12
    },
    "categorical/kl-of-certain-codes-to-a-prior": {
        "kl_to_categorical": _certain(kl_to_categorical)
    },
    "categorical/kl-slopes-of-the-posterior": {
        "kl_to_categorical": _slope_off(kl_to_categorical, 0)
    },
    "categorical/kl-slopes-of-the-prior": {"kl_to_categorical": _slope_off(kl_to_categorical, 1)},
    "categorical/entropy": {"entropy_of_codes": lambda q: OFF * entropy_of_codes(q)},
    "categorical/entropy-slopes": {"entropy_of_codes": _slope_off(entropy_of_codes, 0)},
    "categorical/relaxed-on-the-simplex": {
        "gumbel_softmax": lambda q, t: OFF * gumbel_softmax(q, t)
    },
    "categorical/relaxed-argmax": {"gumbel_softmax": _too_often(gumbel_softmax)},
    "categorical/relaxed-law": {"gumbel_softmax": lambda q, t: gumbel_softmax(q, 1.1 * t)},
    "categorical/relaxed-slopes": {"gumbel_softmax": _slope_off(gumbel_softmax, 0)},
    "categorical/one-hot": {"straight_through": lambda q, t: OFF * straight_through(q, t)},
    "categorical/one-hot-law": {"straight_through": _too_often(straight_through)},
    "categorical/straight-through-slopes": {"straight_through": _other_gradient},
    "categorical/relaxed-density": {
        "log_density_relaxed": lambda *given: OFF**10 * log_density_relaxed(*given)
    },
    "categorical/relaxed-density-integral": {"log_density_relaxed": _other},
    "categorical/relaxed-density-slopes": {
        "log_density_relaxed": lambda y, q, t: _slope_off(
            lambda q: log_density_relaxed(y, q, t), 0
        )(q)
    },
}
"""Name of a claim -> changes of the specimen that are off by a few tolerances."""
