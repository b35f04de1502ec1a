"""VAEs that are right, each in a way of its own; the kit may object to none of them."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli, ContinuousBernoulli, Normal, StudentT, kl_divergence

from vae_ref.conformance import Conventions, Subject, from_jax, from_numpy

PIXELS, LATENTS, HIDDEN = 12, 3, 8

VARIANTS: list[Callable[[], Subject]] = []


def variant(make: Callable[[], Subject]) -> Callable[[], Subject]:
    VARIANTS.append(make)
    return make


# The textbook, which the variants change in one or two places.


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()


def reparameterize(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)


def kls(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)


def nll(p: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy(p, x, reduction="sum")


def loss(p: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return nll(p, x) + kl(mu, logvar)


def log_mean_exp(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 1) - np.log(log_w.shape[1])


def squares(mean: Tensor, x: Tensor) -> Tensor:
    return ((x - mean) ** 2).sum()


def dense(*sizes: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]


class Network(nn.Module):
    """Two networks around a sampler; ``second`` turns the second head into what it stands for."""

    def __init__(
        self,
        sample: Callable[..., Tensor] = reparameterize,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        second: Callable[[Tensor], Tensor] = lambda head: head,
    ) -> None:
        super().__init__()
        self.encoder = encoder or nn.Sequential(*dense(PIXELS, HIDDEN, 2 * LATENTS))
        self.decoder = decoder or nn.Sequential(*dense(LATENTS, HIDDEN, PIXELS), nn.Sigmoid())
        self.sample, self.second = sample, second

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, head = self.encoder(x).chunk(2, 1)
        return mu, self.second(head)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, second = self.encode(x)
        return self.decoder(self.sample(mu, second)), mu, second


def built(name: str, model: Network, **changes: Any) -> Subject:
    whole = Subject(
        name=name,
        kl=kl,
        reparameterize=model.sample,
        nll=nll,
        loss=loss,
        encode=model.encode,
        decode=model.decoder,
        forward=model,
        module=model,
    )
    return replace(whole, **changes)


def real() -> Network:
    """Return a network whose outputs are real numbers: means or logits."""
    return Network(decoder=nn.Sequential(*dense(LATENTS, HIDDEN, PIXELS)))


# Reductions, weights, and the shapes of what is returned.


@variant
def textbook() -> Subject:
    return built("the textbook", Network(), importance_weighted=log_mean_exp)


@variant
def per_example() -> Subject:
    def nlls(p: Tensor, x: Tensor) -> Tensor:
        return F.binary_cross_entropy(p, x, reduction="none").sum(1)

    return built(
        "one value per example",
        Network(),
        kl=kls,
        nll=nlls,
        loss=lambda p, x, mu, logvar: nlls(p, x) + kls(mu, logvar),
    )


@variant
def batch_mean() -> Subject:
    return built(
        "means over the batch",
        Network(),
        kl=lambda mu, logvar: kl(mu, logvar) / len(mu),
        nll=lambda p, x: nll(p, x) / len(x),
        loss=lambda p, x, mu, logvar: loss(p, x, mu, logvar) / len(x),
        importance_weighted=lambda log_w: log_mean_exp(log_w).mean(),
    )


@variant
def torch_mean_of_sums() -> Subject:
    def mean_kl(mu: Tensor, logvar: Tensor) -> Tensor:
        return torch.mean(-0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp(), dim=1), dim=0)

    def mean_loss(p: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        pixels = F.binary_cross_entropy(p, x, reduction="none")
        return torch.mean(pixels.sum(-1)) + mean_kl(mu, logvar)

    return Subject(name="torch.mean of sums, without an nll", kl=mean_kl, loss=mean_loss)


@variant
def parts_summed_loss_averaged() -> Subject:
    return Subject(
        name="parts summed, loss averaged",
        kl=kl,
        nll=nll,
        loss=lambda p, x, mu, logvar: loss(p, x, mu, logvar) / len(x),
    )


@variant
def mean_over_everything() -> Subject:
    """The textbook script of 784 pixels with both terms divided by 784 and the batch at hand."""

    def scaled(p: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        p, x = p.view(-1, 784), x.view(-1, 784)
        return F.binary_cross_entropy(p, x) + kl(mu, logvar) / (len(x) * 784)

    model = Network(
        encoder=nn.Sequential(*dense(784, HIDDEN, 2 * LATENTS)),
        decoder=nn.Sequential(*dense(LATENTS, HIDDEN, 784), nn.Sigmoid()),
    )
    return built("mean over everything", model, kl=None, nll=None, loss=scaled)


@variant
def mean_over_any_number_of_pixels() -> Subject:
    """As above for images of any size: a loss scaled as a whole is the same loss."""
    return built(
        "mean over everything, of any size",
        Network(),
        nll=None,
        loss=lambda p, x, mu, logvar: loss(p, x, mu, logvar) / x.numel(),
    )


@variant
def loss_alone() -> Subject:
    return Subject(name="nothing but a loss", loss=loss)


@variant
def kl_alone() -> Subject:
    return Subject(name="nothing but a KL", kl=kl)


@variant
def elementwise() -> Subject:
    return Subject(
        name="nothing reduced",
        kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 - logvar),
        nll=lambda p, x: F.binary_cross_entropy(p, x, reduction="none"),
    )


@variant
def loss_of_shape_1() -> Subject:
    return Subject(
        name="a loss of shape [1]",
        kl=lambda mu, logvar: kl(mu, logvar).reshape(1),
        loss=lambda p, x, mu, logvar: loss(p, x, mu, logvar).reshape(1),
    )


@variant
def one_example_mapped() -> Subject:
    """A function of one example, mapped over the batch by torch.func."""
    return Subject(name="torch.func.vmap", kl=torch.func.vmap(kl))


@variant
def beta_declared() -> Subject:
    return Subject(
        name="beta = 4, as declared",
        kl=kl,
        nll=nll,
        loss=lambda p, x, mu, logvar: nll(p, x) + 4 * kl(mu, logvar),
        conventions=Conventions(beta=4.0),
    )


@variant
def means_declared() -> Subject:
    """Averaged over latents and pixels: two weights that are no ELBO, but as declared."""
    return Subject(
        name="means over latents and pixels, as declared",
        kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean(),
        nll=F.binary_cross_entropy,
        loss=lambda p, x, mu, logvar: F.binary_cross_entropy(p, x) + kl(mu, logvar) / mu.numel(),
        conventions=Conventions(kl_reduction="mean", nll_reduction="mean"),
    )


@variant
def kl_mean_declared() -> Subject:
    return Subject(
        name="mean over latents, as declared",
        kl=lambda mu, logvar: kl(mu, logvar) / mu.shape[1],
        nll=nll,
        loss=lambda p, x, mu, logvar: nll(p, x) + kl(mu, logvar) / mu.shape[1],
        conventions=Conventions(kl_reduction="mean"),
    )


@variant
def infinite_off_its_support() -> Subject:
    """As with the distributions of NumPyro: a grey pixel has no probability."""

    def of_bits(logits: Tensor, x: Tensor) -> Tensor:
        terms = F.softplus(logits) - x * logits
        return torch.where((x == 0) | (x == 1), terms, torch.inf).sum(1)

    return built(
        "a likelihood of bits, as declared",
        real(),
        kl=kls,
        nll=of_bits,
        loss=lambda logits, x, mu, logvar: of_bits(logits, x) + kls(mu, logvar),
        conventions=Conventions(likelihood="bernoulli-logits"),
    )


# The KL and the sampler, written in other ways.


@variant
def kl_by_expm1() -> Subject:
    return Subject(
        name="expm1",
        kl=lambda mu, logvar: 0.5 * (mu**2 + torch.expm1(logvar) - logvar).sum(-1),
    )


@variant
def kl_of_mu_minus_one() -> Subject:
    """(mu - 1)^2 + 2 mu - 2 is mu^2 - 1, and small means leave few digits of its slope."""

    def kls(mu: Tensor, logvar: Tensor) -> Tensor:
        return 0.5 * ((mu - 1) ** 2 + 2 * mu - 2 + logvar.exp() - logvar).sum(1)

    return Subject(name="a square of mu - 1", kl=kls)


@variant
def minus_sigma_eps() -> Subject:
    def sample(mu: Tensor, logvar: Tensor) -> Tensor:
        return mu - logvar.mul(0.5).exp() * torch.randn_like(mu)

    return Subject(name="mu - sigma eps", reparameterize=sample)


@variant
def in_place_on_its_own() -> Subject:
    def sample(mu: Tensor, logvar: Tensor) -> Tensor:
        std = logvar.mul(0.5).exp_()
        return std.mul(torch.empty_like(std).normal_()).add_(mu)

    return Subject(name="in place, on tensors of its own", reparameterize=sample)


@variant
def noise_of_a_shape() -> Subject:
    def sample(mu: Tensor, logvar: Tensor) -> Tensor:
        return mu + torch.sqrt(logvar.exp()) * torch.randn(mu.shape)

    return Subject(name="torch.randn(mu.shape)", reparameterize=sample)


@variant
def noise_of_torch_normal() -> Subject:
    def sample(mu: Tensor, logvar: Tensor) -> Tensor:
        return torch.normal(torch.zeros_like(mu), 1.0) * torch.exp(logvar / 2) + mu

    return Subject(name="torch.normal", reparameterize=sample)


@variant
def noise_of_its_own_generator() -> Subject:
    generator = torch.Generator()

    def sample(mu: Tensor, logvar: Tensor) -> Tensor:
        eps = torch.randn(mu.shape, generator=generator, dtype=mu.dtype)
        return torch.addcmul(mu, torch.exp(logvar / 2), eps)

    return built("a generator of its own", Network(sample), seed=generator.manual_seed)


@variant
def noise_of_numpy() -> Subject:
    class Noise:
        def seed(self, seed: int) -> None:
            self.rng = np.random.default_rng(seed)

        def sample(self, mu: Tensor, logvar: Tensor) -> Tensor:
            eps = torch.from_numpy(self.rng.standard_normal(mu.shape))
            return mu + torch.exp(logvar / 2) * eps.to(mu)

    noise = Noise()
    noise.seed(0)
    return Subject(name="a NumPy generator", reparameterize=noise.sample, seed=noise.seed)


@variant
def noise_of_numpy_global() -> Subject:
    def sample(mu: Tensor, logvar: Tensor) -> Tensor:
        eps = torch.as_tensor(np.random.randn(*mu.shape), dtype=mu.dtype)
        return mu + torch.exp(logvar / 2) * eps

    return Subject(name="np.random.randn", reparameterize=sample)


@variant
def noise_of_the_system() -> Subject:
    def sample(mu: Tensor, logvar: Tensor) -> Tensor:
        eps = torch.from_numpy(np.random.default_rng().standard_normal(mu.shape)).to(mu)
        return mu + torch.exp(logvar / 2) * eps

    return built(
        "noise that no seed repeats", Network(sample), conventions=Conventions(seeded=False)
    )


class MeanInEvaluation(Network):
    """Decodes the mean in evaluation."""

    def __init__(self) -> None:
        super().__init__(self.take)

    def take(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return reparameterize(mu, logvar) if self.training else mu


@variant
def mean_in_evaluation_declared() -> Subject:
    convention = Conventions(evaluation="mean")
    return built("the mean in evaluation", MeanInEvaluation(), conventions=convention)


@variant
def handed_over_in_evaluation() -> Subject:
    """As above, given to the kit after ``model.eval()``."""
    model = MeanInEvaluation().eval()
    return built("after model.eval()", model, conventions=Conventions(evaluation="mean"))


# What the second head is.


@variant
def torch_distributions() -> Subject:
    def q(mu: Tensor, logvar: Tensor) -> Normal:
        return Normal(mu, torch.exp(logvar / 2))

    def kls(mu: Tensor, logvar: Tensor) -> Tensor:
        p = Normal(torch.zeros_like(mu), torch.ones_like(mu))
        return kl_divergence(q(mu, logvar), p).sum(-1)

    def nlls(p: Tensor, x: Tensor) -> Tensor:
        return -Bernoulli(p, validate_args=False).log_prob(x).sum(-1)

    model = Network(lambda mu, logvar: q(mu, logvar).rsample())
    return built(
        "torch.distributions",
        model,
        kl=kls,
        nll=nlls,
        loss=lambda p, x, mu, logvar: (nlls(p, x) + kls(mu, logvar)).mean(),
    )


@variant
def one_distribution() -> Subject:
    """The encoder's answer is a distribution; torch checks its scale, which may not be 0."""

    class Returning(Network):
        def encode(self, x: Tensor) -> Normal:
            mu, head = self.encoder(x).chunk(2, 1)
            return Normal(mu, torch.exp(head / 2))

        def forward(self, x: Tensor) -> tuple[Tensor, Normal]:
            q = self.encode(x)
            return self.decoder(q.rsample()), q

    def kls(q: Normal) -> Tensor:
        return kl_divergence(q, Normal(0.0, 1.0)).sum(-1)

    return built(
        "a distribution for both heads",
        Returning().float(),
        kl=kls,
        reparameterize=lambda q: q.rsample(),
        loss=lambda p, x, q: F.binary_cross_entropy(p, x, reduction="none").sum(1) + kls(q),
        conventions=Conventions(spread="distribution"),
    )


@variant
def log_sigma() -> Subject:
    def kls(mu: Tensor, log_sigma: Tensor) -> Tensor:
        return (0.5 * (mu**2 + torch.exp(2 * log_sigma) - 1) - log_sigma).sum(1)

    return built(
        "log sigma",
        Network(lambda mu, log_sigma: mu + log_sigma.exp() * torch.randn_like(mu)),
        kl=kls,
        loss=lambda p, x, mu, log_sigma: nll(p, x) + kls(mu, log_sigma).sum(),
        conventions=Conventions(spread="log_sigma"),
    )


@variant
def sigma_by_softplus() -> Subject:
    def kls(mu: Tensor, sigma: Tensor) -> Tensor:
        return (0.5 * (mu**2 + sigma**2 - 1) - torch.log(sigma)).sum(1)

    return built(
        "sigma, by softplus",
        Network(lambda mu, sigma: mu + sigma * torch.randn_like(mu), second=F.softplus),
        kl=kls,
        loss=lambda p, x, mu, sigma: nll(p, x) + kls(mu, sigma).sum(),
        conventions=Conventions(spread="sigma"),
    )


@variant
def variance() -> Subject:
    def kls(mu: Tensor, variance: Tensor) -> Tensor:
        return 0.5 * (mu**2 + variance - 1 - variance.log()).sum(1)

    return built(
        "the variance",
        Network(lambda mu, v: mu + v.sqrt() * torch.randn_like(mu), second=torch.exp),
        kl=kls,
        loss=lambda p, x, mu, v: nll(p, x) + kls(mu, v).sum(),
        conventions=Conventions(spread="variance"),
    )


# Likelihoods.


@variant
def logits() -> Subject:
    def bce(eta: Tensor, x: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(eta, x, reduction="sum")

    return built(
        "logits",
        real(),
        nll=bce,
        loss=lambda eta, x, mu, logvar: bce(eta, x) + kl(mu, logvar),
    )


@variant
def logits_declared_without_loss() -> Subject:
    return built(
        "logits, declared, without a loss",
        real(),
        nll=None,
        loss=None,
        conventions=Conventions(likelihood="bernoulli-logits"),
    )


@variant
def squared_error() -> Subject:
    """No factor 1/2: the variance of a pixel is 1/2."""
    return built(
        "sum of squares",
        real(),
        nll=squares,
        loss=lambda mean, x, mu, logvar: squares(mean, x) + kl(mu, logvar),
        conventions=Conventions(variance=0.5),
    )


@variant
def half_the_squared_error() -> Subject:
    return Subject(
        name="half the sum of squares",
        nll=lambda mean, x: 0.5 * squares(mean, x),
        loss=lambda mean, x, mu, logvar: 0.5 * squares(mean, x) / len(x) + kl(mu, logvar) / len(x),
    )


@variant
def gaussian_of_variance() -> Subject:
    """The density in full, constant included, by torch's own function."""

    def gaussian(mean: Tensor, x: Tensor) -> Tensor:
        variance = torch.full_like(mean, 0.05)
        return F.gaussian_nll_loss(mean, x, variance, full=True, reduction="sum")

    return Subject(
        name="sigma^2 = 0.05",
        nll=gaussian,
        loss=lambda mean, x, mu, logvar: gaussian(mean, x) + kl(mu, logvar),
        conventions=Conventions(variance=0.05),
    )


@variant
def strided() -> Subject:
    """A convolution whose stride is larger than its kernel: it sees nine pixels of 16."""
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3, 4), nn.Flatten(), nn.Linear(36, 2 * LATENTS))
    decoder = nn.Sequential(nn.Linear(LATENTS, 144), nn.Unflatten(1, (1, 12, 12)), nn.Sigmoid())
    return built("a large stride", Network(encoder=encoder, decoder=decoder))


@variant
def huber() -> Subject:
    """Right, as far as it can be judged: no claim knows its distribution."""

    def loss(mean: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        return F.smooth_l1_loss(mean, x, reduction="sum") + kl(mu, logvar)

    return Subject(name="a Huber loss", kl=kl, loss=loss)


@variant
def student() -> Subject:
    """A Student distribution of four degrees of freedom, in the loss alone."""

    def loss(mean: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        return -StudentT(4.0, mean, 0.3).log_prob(x).sum() + kl(mu, logvar)

    return Subject(name="a Student distribution", loss=loss)


@variant
def learned_variance() -> Subject:
    """One variance for all pixels, a parameter; the loss at hand is that of its value."""

    class Learned(Network):
        def __init__(self) -> None:
            super().__init__(decoder=real().decoder)
            self.log_sigma = nn.Parameter(torch.tensor(-0.7))

        def nll(self, mean: Tensor, x: Tensor) -> Tensor:
            return -Normal(mean, self.log_sigma.exp()).log_prob(x).sum()

    model = Learned()
    return built(
        "a variance that is learned",
        model,
        nll=model.nll,
        loss=lambda mean, x, mu, logvar: model.nll(mean, x) + kl(mu, logvar),
    )


@variant
def laplace() -> Subject:
    def absolute(mean: Tensor, x: Tensor) -> Tensor:
        return F.l1_loss(mean, x, reduction="sum")

    return Subject(
        name="Laplace",
        nll=absolute,
        loss=lambda mean, x, mu, logvar: (absolute(mean, x) + kl(mu, logvar)) / len(x),
    )


@variant
def continuous_bernoulli_of_torch() -> Subject:
    def nlls(eta: Tensor, x: Tensor) -> Tensor:
        return -ContinuousBernoulli(logits=eta).log_prob(x).sum(1)

    return Subject(
        name="torch's continuous Bernoulli, of logits",
        nll=nlls,
        loss=lambda eta, x, mu, logvar: nlls(eta, x).sum() + kl(mu, logvar),
    )


@variant
def continuous_bernoulli_of_its_own() -> Subject:
    def nlls(p: Tensor, x: Tensor) -> Tensor:
        """Expand the normalizer next to p = 1/2, where its quotient is 0 / 0."""
        d = 1 - 2 * p
        near = d.abs() < 1e-3
        safe = torch.where(near, torch.full_like(d, 0.5), d)
        log_c = torch.where(
            near, np.log(2) + d**2 / 3 + 7 * d**4 / 45, torch.log(2 * torch.atanh(safe) / safe)
        )
        return F.binary_cross_entropy(p, x, reduction="none").sum(1) - log_c.sum(1)

    return built(
        "continuous Bernoulli, of probabilities",
        Network(),
        nll=nlls,
        loss=lambda p, x, mu, logvar: nlls(p, x).sum() + kl(mu, logvar),
    )


# Networks.


@variant
def convolutional() -> Subject:
    encoder = nn.Sequential(
        nn.Conv2d(1, 2, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(98, 2 * LATENTS)
    )
    decoder = nn.Sequential(
        nn.Linear(LATENTS, 98),
        nn.ReLU(),
        nn.Unflatten(1, (2, 7, 7)),
        nn.ConvTranspose2d(2, 1, 4, stride=4),
        nn.Sigmoid(),
    )
    return built("convolutional", Network(encoder=encoder, decoder=decoder))


@variant
def images_in_images_out() -> Subject:
    """Losses that add up over the axes 1, 2, 3 take images alone, of any number of channels."""

    def nlls(p: Tensor, x: Tensor) -> Tensor:
        return F.binary_cross_entropy(p, x, reduction="none").sum([1, 2, 3])

    encoder = nn.Sequential(nn.Conv2d(3, 2 * LATENTS, 4), nn.Flatten())
    decoder = nn.Sequential(
        nn.Unflatten(1, (LATENTS, 1, 1)), nn.ConvTranspose2d(LATENTS, 3, 4), nn.Sigmoid()
    )
    return built(
        "images of three channels",
        Network(encoder=encoder, decoder=decoder),
        nll=nlls,
        loss=lambda p, x, mu, logvar: (nlls(p, x) + kls(mu, logvar)).mean(),
        conventions=Conventions(pixel_shape=(3, 4, 4)),
    )


def of_image_codes(name: str, *after: nn.Module) -> Subject:
    """As in latent diffusion: a code is an image of four channels."""

    def kl_of_images(mu: Tensor, logvar: Tensor) -> Tensor:
        return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum([1, 2, 3])

    model = Network(
        encoder=nn.Sequential(nn.Conv2d(1, 8, 4, stride=4), *after),
        decoder=nn.Sequential(nn.ConvTranspose2d(4, 1, 4, stride=4), nn.Sigmoid()),
    )
    return built(
        name,
        model,
        kl=kl_of_images,
        loss=lambda p, x, mu, logvar: nll(p, x) + kl_of_images(mu, logvar).sum(),
        conventions=Conventions(latent_shape=(4, 2, 2), pixel_shape=(1, 8, 8)),
    )


@variant
def latents_in_images() -> Subject:
    return of_image_codes("codes that are images")


class ChannelsLast(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h.to(memory_format=torch.channels_last)


@variant
def codes_with_channels_last() -> Subject:
    """As convolutions return them on some machines: torch draws noise in the order of memory."""
    return of_image_codes("codes with the channels last", ChannelsLast())


@variant
def single_precision_weights() -> Subject:
    return built("weights in single precision", Network().float())


@variant
def single_precision_throughout() -> Subject:
    """Its functions cast to single precision whatever they are given, and say so."""
    model = Network(lambda mu, logvar: reparameterize(mu.float(), logvar.float())).float()
    return built(
        "single precision throughout",
        model,
        kl=lambda mu, logvar: kl(mu.float(), logvar.float()),
        nll=lambda p, x: nll(p.float(), x.float()),
        loss=lambda *parts: loss(*(part.float() for part in parts)),
        conventions=Conventions(dtype="float32"),
    )


@variant
def dropout() -> Subject:
    encoder = nn.Sequential(
        nn.Linear(PIXELS, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2 * LATENTS)
    )
    return built("dropout", Network(encoder=encoder))


@variant
def batch_norm() -> Subject:
    encoder = nn.Sequential(
        nn.Linear(PIXELS, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 6)
    )
    decoder = nn.Sequential(
        nn.Linear(LATENTS, HIDDEN, bias=False),
        nn.BatchNorm1d(HIDDEN),
        nn.LeakyReLU(),
        nn.Linear(HIDDEN, PIXELS),
        nn.Sigmoid(),
    )
    return built("batch norm", Network(encoder=encoder, decoder=decoder))


@variant
def layer_norm() -> Subject:
    """Normalised features do not grow with the weights before them."""
    encoder = nn.Sequential(
        nn.Linear(PIXELS, HIDDEN), nn.LayerNorm(HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 6)
    )
    return built("layer norm", Network(encoder=encoder))


@variant
def tanh_and_gelu() -> Subject:
    encoder = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2 * LATENTS))
    decoder = nn.Sequential(
        nn.Linear(LATENTS, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, PIXELS), nn.Sigmoid()
    )
    return built("tanh and GELU", Network(encoder=encoder, decoder=decoder))


@variant
def residual() -> Subject:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU())

        def forward(self, h: Tensor) -> Tensor:
            return h + self.inner(h)

    encoder = nn.Sequential(
        nn.Linear(PIXELS, HIDDEN), Residual(), Residual(), nn.Linear(HIDDEN, 2 * LATENTS)
    )
    return built("residual", Network(encoder=encoder))


@variant
def linear() -> Subject:
    """Probabilistic PCA: no hidden layer, the decoder's output unbounded."""
    return built(
        "linear",
        Network(
            encoder=nn.Linear(PIXELS, 2 * LATENTS), decoder=nn.Linear(LATENTS, PIXELS, bias=False)
        ),
        nll=squares,
        loss=lambda mean, x, mu, logvar: 3 * squares(mean, x) + 2 * kl(mu, logvar),
    )


@variant
def tied_weights() -> Subject:
    class Tied(Network):
        def decode(self, z: Tensor) -> Tensor:
            return torch.sigmoid(F.linear(z, self.encoder.weight[:LATENTS].T, self.bias))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            mu, logvar = self.encode(x)
            return self.decode(reparameterize(mu, logvar)), mu, logvar

    model = Tied(encoder=nn.Linear(PIXELS, 2 * LATENTS), decoder=nn.Identity())
    model.bias = nn.Parameter(torch.zeros(PIXELS))
    return built("the decoder is the encoder transposed", model, decode=model.decode)


# Other libraries.


def numpy_kl(mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    return 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(1)


@variant
def numpy_with_gradients() -> Subject:
    def gradient(mu: np.ndarray, logvar: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
        return [rows[:, None] * mu, rows[:, None] * 0.5 * np.expm1(logvar)]

    def bce(p: np.ndarray, x: np.ndarray) -> np.ndarray:
        return -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum()

    def bce_gradient(p: np.ndarray, x: np.ndarray, whole: np.ndarray) -> list[np.ndarray]:
        return [whole * (p - x) / (p * (1 - p)), whole * (np.log1p(-p) - np.log(p))]

    return Subject(
        name="NumPy with gradients by hand",
        kl=from_numpy(numpy_kl, gradient),
        nll=from_numpy(bce, bce_gradient),
    )


@variant
def numpy_without_gradients() -> Subject:
    weights = np.random.default_rng(0).standard_normal((2 * LATENTS, PIXELS))

    def sample(mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
        return mu + np.exp(logvar / 2) * np.random.standard_normal(mu.shape)

    def whole(p: np.ndarray, x: np.ndarray, mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
        bce = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(1)
        return (bce + numpy_kl(mu, logvar)).mean()

    heads = from_numpy(lambda x: (x - 0.5) @ weights.T)
    return Subject(
        name="NumPy without gradients",
        kl=from_numpy(numpy_kl),
        reparameterize=from_numpy(sample),
        loss=from_numpy(whole),
        encode=lambda x: heads(x).chunk(2, 1),
        decode=from_numpy(lambda z: 1 / (1 + np.exp(-z @ weights[:LATENTS]))),
        conventions=Conventions(pixel_shape=(PIXELS,)),
    )


@variant
def jax_functions() -> Subject:
    """In JAX's own precision, compiled, with a key that the sampler splits on every call."""
    jax = pytest.importorskip("jax")
    jnp = jax.numpy

    @jax.jit
    def kls(mu: Any, logvar: Any) -> Any:
        return 0.5 * jnp.sum(mu**2 + jnp.exp(logvar) - 1 - logvar, axis=1)

    @jax.jit
    def bce(eta: Any, x: Any) -> Any:
        return jnp.mean(jnp.sum(jax.nn.softplus(eta) - eta * x, axis=1))

    @jax.jit
    def sample(key: Any, mu: Any, logvar: Any) -> Any:
        return mu + jnp.exp(logvar / 2) * jax.random.normal(key, mu.shape)

    class Noise:
        def seed(self, seed: int) -> None:
            self.key = jax.random.PRNGKey(seed)

        def sample(self, mu: Any, logvar: Any) -> Any:
            self.key, key = jax.random.split(self.key)
            return sample(key, mu, logvar)

    noise = Noise()
    noise.seed(0)
    return Subject(
        name="JAX",
        kl=from_jax(kls),
        reparameterize=from_jax(noise.sample),
        nll=from_jax(bce),
        seed=noise.seed,
        conventions=Conventions(dtype="float32", likelihood="bernoulli-logits"),
    )
