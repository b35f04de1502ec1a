"""Whose functions of one float are judged: the reference, formulas as often written, and torch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, ContinuousBernoulli, Normal, kl_divergence

import vae_ref
from vae_ref.bridge.reference import reference

__all__ = ["CONTESTANTS", "REFERENCE", "computed"]

REFERENCE = "vae_ref"  #: the first contestant of every function

_EPS = 1e-8  # what scripts often add to a probability


def _normal(mu: Tensor, sigma: Tensor) -> Normal:
    return Normal(mu, sigma, validate_args=False)


def _kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """The reference sums over the last axis, so each number is an example with one latent."""
    return vae_ref.kl_to_standard_normal(mu.unsqueeze(-1), logvar.unsqueeze(-1))


def _textbook_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())


def _torch_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    standard = _normal(torch.zeros_like(mu), torch.ones_like(mu))
    return kl_divergence(_normal(mu, (0.5 * logvar).exp()), standard)


def _nll(likelihood: vae_ref.Likelihood, outputs: Tensor, x: float) -> Tensor:
    return likelihood.nll(outputs.unsqueeze(-1), torch.full_like(outputs, x).unsqueeze(-1))


def _cross_entropy(p: Tensor, x: float) -> Tensor:
    return F.binary_cross_entropy(p, torch.full_like(p, x), reduction="none")


def _cross_entropy_of_sigmoid(logit: Tensor, x: float) -> Tensor:
    """Torch refuses NaN here; so that the others can be counted, it is given 0 and ignored."""
    p = torch.sigmoid(logit)
    unknown = p.isnan()
    return torch.where(unknown, p, _cross_entropy(torch.where(unknown, 0, p), x))


def _bernoulli(x: float, **parameter: Tensor) -> Tensor:
    (given,) = parameter.values()
    return -Bernoulli(**parameter, validate_args=False).log_prob(torch.full_like(given, x))


def _reference_by_probability(p: Tensor, x: float) -> Tensor:
    return _SUBJECT.nll(p.unsqueeze(-1), torch.full_like(p, x).unsqueeze(-1))


_SUBJECT = reference()

#: For every function of `exact.FUNCTIONS`, who computes it how. The argument is a vector.
CONTESTANTS: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "kl_by_logvar": {
        REFERENCE: lambda x: _kl(torch.zeros_like(x), x),
        "-0.5 * (1 + x - mu**2 - exp(x))": lambda x: _textbook_kl(torch.zeros_like(x), x),
        "kl_divergence(Normal, Normal)": lambda x: _torch_kl(torch.zeros_like(x), x),
    },
    "kl_by_mu": {
        REFERENCE: lambda x: _kl(x, torch.zeros_like(x)),
        "-0.5 * (1 + logvar - x**2 - exp(logvar))": (
            lambda x: _textbook_kl(x, torch.zeros_like(x))
        ),
        "kl_divergence(Normal, Normal)": lambda x: _torch_kl(x, torch.zeros_like(x)),
    },
    "bernoulli_0_by_logit": {
        REFERENCE: lambda x: _nll(vae_ref.Bernoulli(), x, 0),
        "log(1 + exp(x))": lambda x: torch.log(1 + torch.exp(x)),
        "F.binary_cross_entropy(sigmoid(x), 0)": lambda x: _cross_entropy_of_sigmoid(x, 0),
        "F.softplus(x)": F.softplus,
        "Bernoulli(logits=x).log_prob(0)": lambda x: _bernoulli(0, logits=x),
    },
    "bernoulli_1_by_logit": {
        REFERENCE: lambda x: _nll(vae_ref.Bernoulli(), x, 1),
        "log(1 + exp(x)) - x": lambda x: torch.log(1 + torch.exp(x)) - x,
        "F.binary_cross_entropy(sigmoid(x), 1)": lambda x: _cross_entropy_of_sigmoid(x, 1),
        "Bernoulli(logits=x).log_prob(1)": lambda x: _bernoulli(1, logits=x),
    },
    "bernoulli_0_by_probability": {
        REFERENCE: lambda x: _reference_by_probability(x, 0),
        "-log(1 - x + 1e-8)": lambda x: -torch.log(1 - x + _EPS),
        "Bernoulli(probs=x).log_prob(0)": lambda x: _bernoulli(0, probs=x),
    },
    "bernoulli_1_by_probability": {
        REFERENCE: lambda x: _reference_by_probability(x, 1),
        "-log(x + 1e-8)": lambda x: -torch.log(x + _EPS),
        "Bernoulli(probs=x).log_prob(1)": lambda x: _bernoulli(1, probs=x),
    },
    "log_normaliser": {
        REFERENCE: lambda x: _nll(vae_ref.ContinuousBernoulli(), x, 0),
        "log((exp(x) - 1) / x)": lambda x: torch.log((torch.exp(x) - 1) / x),
        "ContinuousBernoulli(logits=x).log_prob(0)": lambda x: (
            -ContinuousBernoulli(logits=x, validate_args=False).log_prob(torch.zeros_like(x))
        ),
    },
    "sigma_by_logvar": {
        REFERENCE: lambda x: vae_ref.reparameterize(torch.zeros_like(x), x, torch.ones_like(x)),
        "sqrt(exp(x))": lambda x: x.exp().sqrt(),
    },
}


def computed(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values of a function, and its derivatives by automatic differentiation."""
    x = x.detach().requires_grad_()
    y = function(x)
    (derivative,) = torch.autograd.grad(y, x, torch.ones_like(y))
    return y.detach(), derivative
