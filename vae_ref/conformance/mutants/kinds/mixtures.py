"""Bugs of priors that are mixtures, such as the VampPrior."""

from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance.mutants import bank
from vae_ref.conformance.mutants.kinds.flows import (
    WEIGHTS,
    log_flexible_prior,
    parts_of_prior,
    prior_components,
)

of_density = partial(bank.mutant, "log_flexible_prior")
of_draw = partial(bank.mutant, "draw_flexible_prior", deterministic=False)


@of_density(
    "mixture-without-weights",
    "your prior lacks the weights of the components, -log K of a VampPrior: it adds up to K, not "
    "to 1",
    wrong="log Σ_k N(z; μ_k, σ_k²)",
)
def mixture_without_weights(z: Tensor) -> Tensor:
    return torch.logsumexp(parts_of_prior(z).sum(2), 1)


@of_density(
    "mixture-logits-for-log-weights",
    "the logits of the components in your prior are not normalised: a log-softmax is missing",
    wrong="log Σ_k exp(a_k) N(z; μ_k, σ_k²), w = softmax(a)",
    seen=("pyro-ppl/numpyro#1489",),
)
def mixture_logits(z: Tensor) -> Tensor:
    return log_flexible_prior(z) + 0.9  # the logits of these weights may be log w + 0.9


@of_density(
    "mixture-of-every-coordinate",
    "your prior mixes every coordinate on its own: the components are summed before the "
    "coordinates",
    wrong="Σ_d log Σ_k w_k N(z_d; μ_kd, σ_kd²)",
    seen=("scverse/scvi-tools#3188",),
)
def mixture_of_coordinates(z: Tensor) -> Tensor:
    return torch.logsumexp(parts_of_prior(z) + WEIGHTS.to(z).log()[:, None], 1).sum(1)


@of_density(
    "mixture-of-logs",
    "your prior averages the log densities of the components, not their densities",
    wrong="Σ_k w_k log N(z; μ_k, σ_k²)",
    seen=("blei-lab/edward#185 (their sum)",),
)
def mixture_of_logs(z: Tensor) -> Tensor:
    return parts_of_prior(z).sum(2) @ WEIGHTS.to(z)


@of_density(
    "mixture-weights-added",
    "the weights in your prior are added to the densities of the components, not multiplied by "
    "them",
    wrong="log Σ_k (w_k + N(z; μ_k, σ_k²))",
    seen=("JavierAntoran/Bayesian-Neural-Networks#15",),
)
def mixture_weights_added(z: Tensor) -> Tensor:
    return torch.log((parts_of_prior(z).sum(2).exp() + WEIGHTS.to(z)).sum(1))


@of_density(
    "mixture-of-batch",
    "your prior adds up the densities of all examples of the batch: the wrong axis",
    wrong="log Σ_n Σ_k w_k N(z_n; μ_k, σ_k²)",
)
def mixture_of_batch(z: Tensor) -> Tensor:
    return torch.logsumexp(log_flexible_prior(z), 0).expand(len(z))


@of_density(
    "mixture-log-variance-halved",
    "the log variances in your prior are taken for log standard deviations",
    wrong="log Σ_k w_k N(z; μ_k, exp(2 log σ_k²))",
)
def mixture_sigma(z: Tensor) -> Tensor:
    weights, mu, logvar = (t.to(z) for t in prior_components())
    component = torch.distributions.Normal(mu, logvar.exp(), validate_args=False)
    return torch.logsumexp(component.log_prob(z[:, None]).sum(2) + weights.log(), 1)


@of_density(
    "mixture-detached-parameters",
    "the components of your prior are detached: its pseudo-inputs never learn",
    wrong="log Σ_k w_k N(z; stop-gradient(μ_k, σ_k²))",
)
def mixture_detached(z: Tensor) -> Tensor:
    _, mu, logvar = prior_components()
    component = torch.distributions.Normal(
        mu.detach().to(z), torch.exp(logvar / 2).detach().to(z), validate_args=False
    )
    return torch.logsumexp(component.log_prob(z[:, None]).sum(2) + WEIGHTS.to(z).log(), 1)


@of_density(
    "mixture-detached-code",
    "your prior is computed from a detached code: the encoder does not learn from it",
    wrong="log Σ_k w_k N(stop-gradient(z); μ_k, σ_k²)",
)
def mixture_detached_code(z: Tensor) -> Tensor:
    return log_flexible_prior(z.detach())


def _chosen(k: Tensor) -> tuple[Tensor, Tensor]:
    _, mu, logvar = prior_components()
    return mu[k].detach(), torch.exp(logvar[k] / 2).detach()


def _random(n: int) -> Tensor:
    return torch.multinomial(WEIGHTS, n, replacement=True)


@of_draw(
    "mixture-drawn-from-standard-normal",
    "your new codes are drawn from N(0, I), though the prior is another one",
    wrong="z = ε",
    seen=("AntixK/PyTorch-VAE#9",),
)
def drawn_standard(n: int) -> Tensor:
    return torch.randn(n, 2)


@of_draw(
    "mixture-drawn-without-noise",
    "your new codes are the means of the components: no noise is added",
    wrong="z = μ_k",
)
def drawn_without_noise(n: int) -> Tensor:
    return _chosen(_random(n))[0]


@of_draw(
    "mixture-drawn-without-weights",
    "your new codes come from all components equally often, whatever their weights",
    wrong="k ~ uniform",
)
def drawn_without_weights(n: int) -> Tensor:
    mu, sigma = _chosen(torch.randint(3, (n,)))
    return mu + sigma * torch.randn(n, 2)


@of_draw(
    "mixture-drawn-from-one-component",
    "your new codes come from one component alone",
    wrong="k = argmax w",
)
def drawn_from_one(n: int) -> Tensor:
    mu, sigma = _chosen(torch.zeros(n, dtype=torch.long))
    return mu + sigma * torch.randn(n, 2)


@of_draw(
    "mixture-drawn-from-average",
    "your new codes are drawn from one Gaussian with the average parameters of the components",
    wrong="z = Σ_k w_k μ_k + Σ_k w_k σ_k ε",
)
def drawn_from_average(n: int) -> Tensor:
    mu, sigma = _chosen(torch.arange(3))
    return WEIGHTS @ mu + (WEIGHTS @ sigma) * torch.randn(n, 2)


@of_draw(
    "mixture-drawn-with-variance",
    "your new codes are drawn with the variances of the components as their standard deviations",
    wrong="z = μ_k + σ_k² ε",
)
def drawn_with_variance(n: int) -> Tensor:
    mu, sigma = _chosen(_random(n))
    return mu + sigma**2 * torch.randn(n, 2)
