"""Bugs of draws of discrete codes: Gumbel-softmax, straight-through, relaxed densities."""

import math
from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance.mutants import bank
from vae_ref.conformance.mutants.kinds.categorical import (
    gumbel_softmax,
    log_density_relaxed,
    one_hot,
    race,
    relaxed,
    straight_through,
)

__all__ = ["gumbel_softmax"]

of_relaxed = partial(bank.mutant, "gumbel_softmax", deterministic=False)
of_hard = partial(bank.mutant, "straight_through", deterministic=False)
of_density = partial(bank.mutant, "log_density_relaxed")


@of_relaxed(
    "gumbel-softmax-over-latents",
    "your relaxed samples sum to 1 over the latents, not over the classes: the softmax has the "
    "wrong axis",
    wrong="y = softmax((logits + g)/τ) over d",
    seen=("lucidrains/DALLE-pytorch#12", "andreasveit/convnet-aig#11 (asked about)"),
)
def over_latents(logits: Tensor, temperature: float) -> Tensor:
    return torch.softmax(race(logits) / temperature, 1)


@of_relaxed(
    "gumbel-no-noise",
    "your relaxed samples have no noise: they are the softmax of the logits over the temperature",
    wrong="y = softmax(logits/τ)",
    seen=("JaminFong/DenseNAS#21 (asked about)",),
)
def no_noise(logits: Tensor, temperature: float) -> Tensor:
    return relaxed(logits, temperature)


@of_relaxed(
    "gumbel-noise-of-a-fixed-seed",
    "every call of your sampler draws the same noise: its generator is seeded anew each time",
    wrong="y = softmax((logits + g)/τ) with g of a fixed seed",
    seen=("FluxML/NNlib.jl#185",),
)
def fixed_seed(logits: Tensor, temperature: float) -> Tensor:
    u = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1234)).to(logits)
    return relaxed(logits - torch.log(-torch.log(u)), temperature)


@of_relaxed(
    "gumbel-noise-shared-over-batch",
    "all examples of a batch have the same noise",
    wrong="y_n = softmax((logits_n + g)/τ)",
    seen=("AnnaAraslanova/FBNet#15 (asked about)",),
)
def shared_over_batch(logits: Tensor, temperature: float) -> Tensor:
    return relaxed(logits + race(torch.zeros_like(logits[:1])), temperature)


@of_relaxed(
    "gumbel-noise-reversed",
    "your Gumbel noise has the wrong sign: classes are not drawn with their probabilities",
    wrong="y = softmax((logits − g)/τ)",
    seen=("chainer/chainerrl#104", "ermongroup/subsets#6"),
)
def reversed_noise(logits: Tensor, temperature: float) -> Tensor:
    return relaxed(logits + torch.empty_like(logits).exponential_().log(), temperature)


@of_relaxed(
    "gumbel-noise-with-one-log",
    "your Gumbel noise lacks one of its two logarithms",
    wrong="y = softmax((logits + g)/τ),  g = −log u",
)
def one_log(logits: Tensor, temperature: float) -> Tensor:
    return relaxed(logits + torch.empty_like(logits).exponential_(), temperature)


@of_relaxed(
    "gumbel-noise-normal",
    "your noise is normal, not that of Gumbel: classes are not drawn with their probabilities",
    wrong="y = softmax((logits + ε)/τ),  ε ~ N(0, 1)",
)
def normal_noise(logits: Tensor, temperature: float) -> Tensor:
    return relaxed(logits + torch.randn_like(logits), temperature)


@of_relaxed(
    "gumbel-temperature-multiplied",
    "your sampler multiplies by the temperature instead of dividing",
    wrong="y = softmax((logits + g)·τ)",
)
def multiplied(logits: Tensor, temperature: float) -> Tensor:
    return gumbel_softmax(logits, 1 / temperature)


@of_relaxed(
    "gumbel-temperature-unused",
    "your sampler does not use the temperature",
    wrong="y = softmax(logits + g)",
)
def unused(logits: Tensor, temperature: float) -> Tensor:
    return gumbel_softmax(logits, 1.0)


@of_relaxed(
    "gumbel-temperature-on-logits-alone",
    "your sampler divides the logits alone by the temperature, not the noise: the codes have "
    "other probabilities than the KL assumes",
    wrong="y = softmax(logits/τ + g)",
)
def on_logits_alone(logits: Tensor, temperature: float) -> Tensor:
    return gumbel_softmax(logits / temperature, 1.0)


@of_relaxed(
    "gumbel-temperature-as-epsilon",
    "your sampler hands the temperature to the Gumbel noise, as the small number that it adds "
    "within the logarithms",
    wrong="g = −log(−log(u + τ) + τ)",
    seen=("nec-research/tf-imle#1",),
)
def as_epsilon(logits: Tensor, temperature: float) -> Tensor:
    u = torch.rand_like(logits)
    return relaxed(logits - torch.log(-torch.log(u + temperature) + temperature), temperature)


@of_relaxed(
    "gumbel-of-probabilities",
    "your sampler adds the noise to probabilities; it has to be added to logits",
    wrong="y = softmax((softmax(logits) + g)/τ)",
    seen=("chaoshangcs/GTS#10 (asked about)", "rlworkgroup/garage#1357"),
)
def of_probabilities(logits: Tensor, temperature: float) -> Tensor:
    return gumbel_softmax(torch.softmax(logits, 2), temperature)


@of_relaxed(
    "gumbel-detached",
    "your relaxed samples have no gradient",
    wrong="y = stop-gradient(softmax((logits + g)/τ))",
)
def relaxed_detached(logits: Tensor, temperature: float) -> Tensor:
    return gumbel_softmax(logits.detach(), temperature)


@of_hard(
    "straight-through-soft",
    "your straight-through samples are relaxed ones, not one-hot",
    wrong="z = y",
    seen=("kengz/SLM-Lab#422",),
)
def soft(logits: Tensor, temperature: float) -> Tensor:
    return gumbel_softmax(logits, temperature)


@of_hard(
    "straight-through-minus-soft",
    "your straight-through samples lack the relaxed sample that has to be added back: they are "
    "not one-hot, and have no gradient",
    wrong="z = onehot(argmax y) − stop-gradient(y)",
)
def minus_soft(logits: Tensor, temperature: float) -> Tensor:
    y = gumbel_softmax(logits, temperature)
    return one_hot(y) - y.detach()


@of_hard(
    "straight-through-wrong-axis",
    "your straight-through samples are one-hot over the latents, not over the classes",
    wrong="z = onehot over d (argmax_d y)",
    seen=("andreasveit/convnet-aig#11 (asked about)",),
)
def wrong_axis(logits: Tensor, temperature: float) -> Tensor:
    y = torch.softmax(race(logits) / temperature, 1)
    return one_hot(y, 1) - y.detach() + y


@of_hard(
    "straight-through-without-noise",
    "your straight-through samples are the most likely classes: nothing is drawn",
    wrong="z = onehot(argmax logits)",
    seen=("JaminFong/DenseNAS#21 (asked about)",),
)
def hard_without_noise(logits: Tensor, temperature: float) -> Tensor:
    y = relaxed(logits, temperature)
    return one_hot(y) + (y - y.detach())


@of_hard(
    "straight-through-noise-shared-over-batch",
    "all examples of a batch draw their classes with the same noise",
    wrong="z_n = onehot(argmax (logits_n + g))",
    seen=("AnnaAraslanova/FBNet#15 (asked about)",),
)
def hard_shared(logits: Tensor, temperature: float) -> Tensor:
    y: Tensor = shared_over_batch(logits, temperature)
    return one_hot(y) + (y - y.detach())


@of_hard(
    "straight-through-temperature-in-the-law",
    "your straight-through samples are drawn from the softmax of the logits over the temperature: "
    "it has to change the gradient alone",
    wrong="z ~ softmax(logits/τ)",
)
def temperature_in_the_law(logits: Tensor, temperature: float) -> Tensor:
    return straight_through(logits / temperature, 1.0)


@of_hard(
    "gumbel-straight-through-detached",
    "your one-hot samples have no gradient: nothing is learned through them",
    wrong="z = stop-gradient(onehot(argmax y))",
    seen=("epignatelli/navix#152",),
)
def hard_detached(logits: Tensor, temperature: float) -> Tensor:
    return straight_through(logits, temperature).detach()


@of_hard(
    "straight-through-temperature-not-in-gradient",
    "the gradient of your straight-through samples is that of the temperature 1, whatever it is",
    wrong="z = onehot(argmax y), with the gradient of softmax(logits + g)",
)
def temperature_not_in_gradient(logits: Tensor, temperature: float) -> Tensor:
    return straight_through(logits, 1.0)


@of_hard(
    "straight-through-gradient-of-other-noise",
    "your straight-through samples have the gradient of a relaxed sample with other noise: it is "
    "drawn twice",
    wrong="z = onehot(argmax y), with the gradient of another y",
)
def gradient_of_other_noise(logits: Tensor, temperature: float) -> Tensor:
    y = gumbel_softmax(logits, temperature)
    return one_hot(race(logits)).detach() + (y - y.detach())


@of_density(
    "relaxed-density-without-jacobian",
    "your log density lacks the factor 1/y of every coordinate: the exponent is −τ, not −τ − 1",
    wrong="log[(K − 1)! τ^(K−1) Π_k α_k y_k^(−τ) / (Σ_k α_k y_k^(−τ))^K]",
    seen=("aakhundov/tf-attend-infer-repeat#12",),
)
def without_jacobian(y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return log_density_relaxed(y, logits, temperature) + y.log().sum((1, 2))


@of_density(
    "relaxed-density-without-factorial",
    "your log density lacks the factor (K − 1)!",
    wrong="log[τ^(K−1) Π_k α_k y_k^(−τ−1) / (Σ_k α_k y_k^(−τ))^K]",
)
def without_factorial(y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    constant = y.shape[1] * math.lgamma(y.shape[2])
    return log_density_relaxed(y, logits, temperature) - constant


@of_density(
    "relaxed-density-without-temperature-power",
    "your log density lacks the factor τ^(K−1)",
    wrong="log[(K − 1)! Π_k α_k y_k^(−τ−1) / (Σ_k α_k y_k^(−τ))^K]",
)
def without_temperature_power(y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    constant = y.shape[1] * (y.shape[2] - 1) * math.log(temperature)
    return log_density_relaxed(y, logits, temperature) - constant


@of_density(
    "relaxed-density-temperature-sign",
    "the temperature has the wrong sign in the exponents of your log density",
    wrong="log[(K − 1)! τ^(K−1) Π_k α_k y_k^(τ−1) / (Σ_k α_k y_k^τ)^K]",
)
def temperature_sign(y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    k, powers = y.shape[2], logits + temperature * y.log()
    constant = math.lgamma(k) + (k - 1) * math.log(temperature)
    terms = (powers - y.log()).sum(2) - k * torch.logsumexp(powers, 2)
    return (terms + constant).sum(1)


@of_density(
    "relaxed-density-power-of-one",
    "the sum in the denominator of your density lacks the power K",
    wrong="log[(K − 1)! τ^(K−1) Π_k α_k y_k^(−τ−1) / Σ_k α_k y_k^(−τ)]",
)
def power_of_one(y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    log_sum = torch.logsumexp(logits - temperature * y.log(), 2)
    return log_density_relaxed(y, logits, temperature) + ((y.shape[2] - 1) * log_sum).sum(1)


@of_density(
    "relaxed-density-of-a-class",
    "your density is the probability of a class, weighted by the relaxed sample: it is not a "
    "density of relaxed samples",
    wrong="Σ_d Σ_k y_dk log q_dk",
)
def of_a_class(y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return (y * torch.log_softmax(logits, 2)).sum((1, 2))


@of_density(
    "relaxed-density-of-log-y",
    "your density takes y for its logarithm: it is that of the logarithm of a relaxed sample",
    wrong="log[(K − 1)! τ^(K−1) Π_k α_k e^(−τ y_k) / (Σ_k α_k e^(−τ y_k))^K]",
)
def of_log_y(y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return log_density_relaxed(y.exp(), logits, temperature) + y.sum((1, 2))


@of_density(
    "relaxed-density-detached",
    "your log density has no gradient with respect to the logits",
    wrong="log p(y; stop-gradient(logits))",
)
def density_detached(y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return log_density_relaxed(y, logits.detach(), temperature)
