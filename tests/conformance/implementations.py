"""Real implementations: stand-ins with their interfaces, what they compute, and adapters.

The stand-ins are written from descriptions, and small; what is peculiar about the original, from
the order of the arguments to its bugs, is kept. An adapter makes a `Subject` of one in at most ten
lines, and says which claims the kit must report as broken.
"""

from collections.abc import Callable
from operator import attrgetter, itemgetter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from vae_ref.conformance import Conventions, Subject, from_jax, from_numpy

IMPLEMENTATIONS: list[tuple[Callable[[], Subject], set[str]]] = []


def breaks(*claims: str) -> Callable[[Callable[[], Subject]], Callable[[], Subject]]:
    """Enter an adapter with the ids of the claims that it breaks, unless others explain them."""

    def enter(adapter: Callable[[], Subject]) -> Callable[[], Subject]:
        IMPLEMENTATIONS.append((adapter, set(claims)))
        return adapter

    return enter


class Layers(nn.Module):
    """What nearly all of them have: a hidden layer each way, and two heads."""

    def __init__(self, pixels: int = 12, latents: int = 3) -> None:
        super().__init__()
        self.fc1 = nn.Linear(pixels, 8)
        self.fc21, self.fc22 = nn.Linear(8, latents), nn.Linear(8, latents)
        self.fc3, self.fc4 = nn.Linear(latents, 8), nn.Linear(8, pixels)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def pixels(self, z: Tensor) -> Tensor:
        return self.fc4(F.relu(self.fc3(z)))


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


# pytorch/examples, vae/main.py: today, until Kingma's pull request 419, and in the winter of 2017.


class PytorchExamples(Layers):
    def __init__(self) -> None:
        super().__init__(784, 20)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads(x)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.pixels(z))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x.view(-1, 784))
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar

    def loss_function(self, recon_x: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        bce = F.binary_cross_entropy(recon_x, x.view(-1, 784), reduction="sum")
        return bce + gaussian_kl(mu, logvar)


class BeforePullRequest419(PytorchExamples):
    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return super().reparameterize(mu, logvar) if self.training else mu


class Winter2017(PytorchExamples):
    def loss_function(self, recon_x: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        bce = F.binary_cross_entropy(recon_x, x.view(-1, 784))
        return bce + gaussian_kl(mu, logvar) / (128 * 784)


def pytorch_script(name: str, vae: PytorchExamples) -> Subject:
    return Subject(
        name=name,
        module=vae,
        encode=vae.encode,
        reparameterize=vae.reparameterize,
        decode=vae.decode,
        forward=vae,
        loss=vae.loss_function,
    )


@breaks()
def pytorch_examples() -> Subject:
    return pytorch_script("pytorch/examples", PytorchExamples())


@breaks("reparameterization/samples-in-evaluation")
def pytorch_examples_before_419() -> Subject:
    return pytorch_script("pytorch/examples before pull request 419", BeforePullRequest419())


@breaks("likelihood/value")
def pytorch_examples_in_2017() -> Subject:
    return pytorch_script("pytorch/examples in the winter of 2017", Winter2017())


# AntixK/PyTorch-VAE: lists, dicts, a KL weight that is made for one image size.


class VanillaVAE(Layers):
    def encode(self, x: Tensor) -> list[Tensor]:
        return [*self.heads(x.flatten(1))]

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        std = torch.exp(0.5 * logvar)
        return torch.randn_like(std) * std + mu

    def decode(self, z: Tensor) -> Tensor:
        return torch.tanh(self.pixels(z)).view(-1, 3, 2, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        mu, log_var = self.encode(x)
        return [self.decode(self.reparameterize(mu, log_var)), x, mu, log_var]

    def loss_function(self, *args: Tensor, **kwargs: float) -> dict[str, Tensor]:
        recons, x, mu, log_var = args
        mse = F.mse_loss(recons, x)
        kld = torch.mean(-0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp(), dim=1), dim=0)
        return {
            "loss": mse + kwargs["M_N"] * kld,
            "Reconstruction_Loss": mse.detach(),
            "KLD": -kld.detach(),
        }


@breaks("likelihood/value")
def antixk_vanilla() -> Subject:
    vae = VanillaVAE()
    return Subject(
        name="AntixK VanillaVAE",
        module=vae,
        encode=vae.encode,
        reparameterize=vae.reparameterize,
        forward=lambda x: itemgetter(0, 2, 3)(vae(x)),
        loss=lambda r, x, mu, s: vae.loss_function(r, x, mu, s, M_N=0.00025)["loss"],
        conventions=Conventions(pixel_shape=(3, 2, 2)),
    )


def antixk_iwae_loss(losses: Tensor) -> Tensor:
    """Weigh the losses of the samples, on axis 1, by their softmax: the worst the most."""
    return (F.softmax(losses, dim=1) * losses).sum(1).mean()


@breaks("objective/importance-weighted")
def antixk_iwae() -> Subject:
    return Subject(name="AntixK IWAE", importance_weighted=lambda log_w: -antixk_iwae_loss(-log_w))


class LadderVAE:
    def compute_kl_divergence(self, z: Tensor, q_params: Any, p_params: Any) -> Tensor:
        (q_mu, q_logvar), (p_mu, p_logvar) = q_params, p_params
        quadratic = (q_logvar.exp() + (q_mu - p_mu) ** 2) / (2 * p_logvar.exp())
        return (p_logvar - q_logvar + quadratic - 0.5).sum(-1)


@breaks("kl/closed-form")
def antixk_lvae() -> Subject:
    vae = LadderVAE()
    prior = (torch.zeros(()), torch.zeros(()))
    return Subject(
        name="AntixK LVAE",
        kl=lambda mu, logvar: vae.compute_kl_divergence(mu, (mu, logvar), prior),
    )


# pythae: outputs are objects and dicts; the value of its IWAE loss is not the bound.


class Pythae(Layers):
    def encoder(self, x: Tensor) -> SimpleNamespace:
        mu, log_var = self.heads(x)
        return SimpleNamespace(embedding=mu, log_covariance=log_var)

    def decoder(self, z: Tensor) -> dict[str, Tensor]:
        return {"reconstruction": torch.sigmoid(self.pixels(z))}

    def sample_gauss(self, mu: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        eps = torch.randn_like(std)
        return mu + eps * std, eps

    def loss_function(
        self, recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        rec = F.binary_cross_entropy(recon_x, x, reduction="none").sum(-1)
        kld = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp(), dim=-1)
        return (rec + kld).mean(0), rec.mean(0), kld.mean(0)


@breaks()
def pythae() -> Subject:
    vae, heads = Pythae(), attrgetter("embedding", "log_covariance")
    return Subject(
        name="pythae VAE",
        module=vae,
        encode=lambda x: heads(vae.encoder(x)),
        reparameterize=lambda mu, log_var: vae.sample_gauss(mu, torch.exp(log_var / 2))[0],
        decode=lambda z: vae.decoder(z)["reconstruction"],
        loss=lambda r, x, mu, log_var: vae.loss_function(r, x, mu, log_var, mu)[0],
    )


def pythae_iwae_loss(log_w: Tensor) -> Tensor:
    weights = F.softmax(log_w, dim=1).detach()
    return -(weights * log_w).sum(1).mean(0)


@breaks("objective/importance-weighted")
def pythae_iwae() -> Subject:
    return Subject(name="pythae IWAE", importance_weighted=lambda log_w: -pythae_iwae_loss(log_w))


# Importance weights elsewhere: samples on the first axis, with and without a shift.


def xqding_test_bound(log_weight: Tensor) -> Tensor:
    return torch.log(torch.mean(torch.exp(log_weight), 0))


@breaks("objective/importance-weighted-range")
def xqding() -> Subject:
    return Subject(
        name="xqding IWAE test loss",
        importance_weighted=lambda log_w: xqding_test_bound(log_w.T).mean(),
    )


def yoonholee_logmeanexp(inputs: Tensor, dim: int) -> Tensor:
    most = inputs.max(dim, keepdim=True)[0]
    return (inputs - most).exp().mean(dim, keepdim=True).log() + most


@breaks()
def yoonholee() -> Subject:
    return Subject(
        name="yoonholee IWAE",
        importance_weighted=lambda log_w: yoonholee_logmeanexp(log_w, 1).squeeze(1),
    )


# pyro and zuko: distributions; the KL exists as a difference of log densities alone.


class PyroVAE(Layers):
    def encoder(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z_loc, hidden = self.heads(x)
        return z_loc, torch.exp(hidden)

    def guide(self, z_loc: Tensor, z_scale: Tensor) -> Tensor:
        return Independent(Normal(z_loc, z_scale), 1).rsample()

    def decoder(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.pixels(z))


@breaks()
def pyro() -> Subject:
    vae = PyroVAE()
    return Subject(
        name="pyro",
        module=vae,
        encode=vae.encoder,
        reparameterize=vae.guide,
        decode=vae.decoder,
        conventions=Conventions(spread="sigma", likelihood="bernoulli"),
    )


class Zuko(Layers):
    def encoder(self, x: Tensor) -> Independent:
        mu, log_sigma = self.heads(x)
        return Independent(Normal(mu, log_sigma.exp(), validate_args=False), 1)

    def decoder(self, z: Tensor) -> Independent:
        return Independent(Bernoulli(logits=self.pixels(z)), 1)


@breaks()
def zuko() -> Subject:
    vae = Zuko()
    return Subject(
        name="zuko",
        module=vae,
        encode=vae.encoder,
        reparameterize=lambda q: q.rsample(),
        decode=lambda z: vae.decoder(z).base_dist.probs,
        nll=lambda p, x: -Bernoulli(p, validate_args=False).log_prob(x).sum(1),
        conventions=Conventions(spread="distribution"),
    )


# google/flax: functions of one example, vmapped, in JAX; and the toy among its NNX examples.


def flax_functions() -> tuple[Callable[..., Any], Callable[..., Any]]:
    jax = pytest.importorskip("jax")
    jnp = jax.numpy

    def kl_divergence(mean: Any, logvar: Any) -> Any:
        return -0.5 * jnp.sum(1 + logvar - jnp.square(mean) - jnp.exp(logvar))

    def binary_cross_entropy_with_logits(logits: Any, labels: Any) -> Any:
        log_p = jax.nn.log_sigmoid(logits)
        return -jnp.sum(labels * log_p + (1 - labels) * jnp.log(-jnp.expm1(log_p)))

    vmapped = map(jax.vmap, (kl_divergence, binary_cross_entropy_with_logits))
    return tuple(jax.jit(function) for function in vmapped)


@breaks()
def flax() -> Subject:
    kl, cross_entropy = flax_functions()
    return Subject(
        name="flax",
        kl=from_jax(lambda mean, logvar: kl(mean, logvar).mean()),
        nll=from_jax(lambda logits, x: cross_entropy(logits, x).mean()),
        conventions=Conventions(dtype="float32", likelihood="bernoulli-logits"),
    )


def nnx_toy_loss(logits: Tensor, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    kl = 0.5 * torch.mean(-torch.log(std**2) - 1.0 + std**2 + mean**2)
    return F.binary_cross_entropy_with_logits(logits, x) + 0.1 * kl


@breaks("kl/closed-form", "likelihood/value")
def flax_nnx_toy() -> Subject:
    return Subject(name="flax NNX toy", loss=nnx_toy_loss, conventions=Conventions(spread="sigma"))


# Latent diffusion: a posterior that is an object, made of the two heads in one tensor and clamped.


class DiagonalGaussianDistribution:
    def __init__(self, parameters: Tensor) -> None:
        self.mean, logvar = torch.chunk(parameters, 2, dim=1)
        self.logvar = torch.clamp(logvar, -30.0, 20.0)
        self.std = torch.exp(0.5 * self.logvar)

    def sample(self) -> Tensor:
        return self.mean + self.std * torch.randn_like(self.mean)

    def kl(self) -> Tensor:
        return 0.5 * torch.sum(self.mean**2 + self.logvar.exp() - 1.0 - self.logvar, dim=[1, 2, 3])


class AutoencoderKL(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(1, 8, 4, 4), nn.ConvTranspose2d(4, 1, 4, 4)

    def encode(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(latent_dist=DiagonalGaussianDistribution(self.encoder(x)))

    def decode(self, z: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.decoder(z))


def diagonal(mu: Tensor, logvar: Tensor) -> DiagonalGaussianDistribution:
    return DiagonalGaussianDistribution(torch.cat([mu, logvar], 1))


@breaks("kl/large-logvar", "reparameterization/extremes")
def diffusers() -> Subject:
    vae, heads = AutoencoderKL(), attrgetter("latent_dist.mean", "latent_dist.logvar")
    return Subject(
        name="diffusers AutoencoderKL",
        module=vae,
        kl=lambda mu, logvar: diagonal(mu, logvar).kl(),
        reparameterize=lambda mu, logvar: diagonal(mu, logvar).sample(),
        encode=lambda x: heads(vae.encode(x)),
        decode=lambda z: vae.decode(z).sample,
        conventions=Conventions(latent_shape=(4, 2, 2), pixel_shape=(1, 8, 8)),
    )


class LPIPSWithDiscriminator(nn.Module):
    """Without the perceptual and the adversarial terms, which have no likelihood."""

    def __init__(self, kl_weight: float = 1e-6) -> None:
        super().__init__()
        self.kl_weight, self.logvar = kl_weight, nn.Parameter(torch.zeros(()))

    def forward(
        self, inputs: Tensor, reconstructions: Tensor, posteriors: DiagonalGaussianDistribution
    ) -> tuple[Tensor, dict[str, Tensor]]:
        rec_loss = torch.abs(inputs - reconstructions)
        nll_loss = torch.sum(rec_loss / torch.exp(self.logvar) + self.logvar) / len(inputs)
        kl_loss = torch.sum(posteriors.kl()) / len(inputs)
        return nll_loss + self.kl_weight * kl_loss, {"train/kl_loss": kl_loss.detach()}


@breaks("objective/beta", "kl/large-logvar")
def compvis() -> Subject:
    """The loss has a scale of its own, exp(logvar) = 1, so that the weight is not one."""
    loss = LPIPSWithDiscriminator()
    return Subject(
        name="CompVis latent-diffusion",
        kl=lambda mu, logvar: diagonal(mu, logvar).kl(),
        loss=lambda r, x, mu, logvar: loss(x, r, diagonal(mu, logvar))[0],
        conventions=Conventions(latent_shape=(4, 2, 2), pixel_shape=(3, 2, 2), variance=1.0),
    )


# Losses in other shapes and orders.


def konny_reconstruction_loss(x: Tensor, x_recon: Tensor, distribution: str) -> Tensor:
    if distribution == "gaussian":
        return F.mse_loss(torch.sigmoid(x_recon), x, reduction="sum").div(len(x))
    return F.binary_cross_entropy_with_logits(x_recon, x, reduction="sum").div(len(x))


def konny_kl_divergence(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    klds = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())
    return klds.sum(1).mean(0, True), klds.mean(0), klds.mean(1).mean(0, True)


@breaks()
def konny_beta_vae() -> Subject:
    return Subject(
        name="1Konny Beta-VAE",
        kl=lambda mu, logvar: konny_kl_divergence(mu, logvar)[0],
        nll=lambda logits, x: konny_reconstruction_loss(x, logits, "bernoulli"),
        loss=lambda logits, x, mu, logvar: (
            konny_reconstruction_loss(x, logits, "bernoulli")
            + 4 * konny_kl_divergence(mu, logvar)[0]
        ),
        conventions=Conventions(beta=4.0),
    )


class Timbmg(Layers):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        means, log_var = self.heads(x)
        z = self.reparameterize(means, log_var)
        return self.inference(z), means, log_var, z

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        return mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)

    def inference(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.pixels(z))

    def loss_fn(self, recon_x: Tensor, x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        bce = F.binary_cross_entropy(recon_x, x, reduction="sum")
        return (bce + gaussian_kl(mean, log_var)) / x.size(0)


@breaks()
def timbmg() -> Subject:
    vae = Timbmg()
    return Subject(
        name="timbmg VAE-CVAE-MNIST",
        module=vae,
        encode=lambda x: vae(x)[1:3],
        reparameterize=vae.reparameterize,
        decode=vae.inference,
        forward=lambda x: vae(x)[:3],
        loss=vae.loss_fn,
    )


class JacksonKang(Layers):
    def reparameterization(self, mean: Tensor, var: Tensor) -> Tensor:
        """Take the standard deviation, whatever the argument is called."""
        return mean + var * torch.randn_like(var)

    def loss_function(self, x: Tensor, x_hat: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        return F.binary_cross_entropy(x_hat, x, reduction="sum") + gaussian_kl(mean, log_var)


@breaks()
def jackson_kang() -> Subject:
    vae = JacksonKang()
    return Subject(
        name="Jackson-Kang Pytorch-VAE-tutorial",
        module=vae,
        encode=vae.heads,
        reparameterize=lambda mean, s: vae.reparameterization(mean, torch.exp(0.5 * s)),
        decode=lambda z: torch.sigmoid(vae.pixels(z)),
        loss=lambda r, x, mean, log_var: vae.loss_function(x, r, mean, log_var),
    )


def bvezilic_loss(recon: Tensor, x: Tensor, logvar: Tensor, mu: Tensor) -> Tensor:
    return F.binary_cross_entropy(recon, x, reduction="sum") + gaussian_kl(mu, logvar)


@breaks()
def bvezilic() -> Subject:
    return Subject(name="bvezilic", loss=lambda r, x, mu, logvar: bvezilic_loss(r, x, logvar, mu))


@breaks("kl/closed-form")
def bvezilic_in_the_usual_order() -> Subject:
    return Subject(name="bvezilic, (mu, logvar) in the usual order", loss=bvezilic_loss)


class WorldModels(Layers):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logsigma = self.heads(x)
        return self.pixels(torch.randn_like(mu).mul(logsigma.exp()).add_(mu)), mu, logsigma

    def loss_function(self, recon_x: Tensor, x: Tensor, mu: Tensor, logsigma: Tensor) -> Tensor:
        sse = F.mse_loss(recon_x, x, reduction="sum")
        return sse - 0.5 * torch.sum(1 + 2 * logsigma - mu.pow(2) - (2 * logsigma).exp())


@breaks()
def world_models() -> Subject:
    vae = WorldModels()
    return Subject(
        name="ctallec world-models",
        module=vae,
        encode=vae.heads,
        decode=vae.pixels,
        forward=vae,
        loss=vae.loss_function,
        conventions=Conventions(spread="log_sigma", variance=0.5),
    )


def eugenhotaj_kl(mean_1: Tensor, log_std_1: Tensor, mean_2: Tensor, log_std_2: Tensor) -> Tensor:
    quadratic = ((2 * log_std_1).exp() + (mean_1 - mean_2) ** 2) / (2 * (2 * log_std_2).exp())
    return log_std_2 - log_std_1 + quadratic - 0.5


@breaks()
def eugenhotaj() -> Subject:
    return Subject(
        name="EugenHotaj pytorch-generative",
        kl=lambda mean, log_std: eugenhotaj_kl(
            mean, log_std, torch.zeros_like(mean), torch.zeros_like(mean)
        ).sum((1, 2, 3)),
        nll=lambda r, x: F.binary_cross_entropy_with_logits(r, x, reduction="none").sum((1, 2, 3)),
        conventions=Conventions(spread="log_sigma", latent_shape=(2, 2, 2), pixel_shape=(1, 4, 4)),
    )


def vdvae_kl(mu1: Tensor, mu2: Tensor, logsigma1: Tensor, logsigma2: Tensor) -> Tensor:
    quadratic = (logsigma1.exp() ** 2 + (mu1 - mu2) ** 2) / (logsigma2.exp() ** 2)
    return -0.5 + logsigma2 - logsigma1 + 0.5 * quadratic


def vdvae_draw(mu: Tensor, logsigma: Tensor) -> Tensor:
    eps = torch.empty_like(mu).normal_(0.0, 1.0)
    return torch.exp(logsigma) * eps + mu


@breaks()
def vdvae() -> Subject:
    zero = torch.zeros(())
    return Subject(
        name="openai vdvae",
        kl=lambda mu, logsigma: vdvae_kl(mu, zero, logsigma, zero),
        reparameterize=vdvae_draw,
        conventions=Conventions(spread="log_sigma", latent_shape=(1, 2, 2)),
    )


class Lagging(Layers):
    """Of jxhe/vae-lagging-encoder: a code has an axis of samples."""

    def reparameterize(self, mu: Tensor, logvar: Tensor, nsamples: int = 1) -> Tensor:
        wide = (len(mu), nsamples, mu.size(1))
        mu, std = mu.unsqueeze(1).expand(wide), logvar.mul(0.5).exp().unsqueeze(1).expand(wide)
        return mu + torch.mul(torch.zeros_like(std).normal_(), std)

    def encode(self, x: Tensor, nsamples: int) -> tuple[Tensor, Tensor]:
        mu, logvar = self.heads(x)
        kl = 0.5 * (mu.pow(2) + logvar.exp() - logvar - 1).sum(dim=1)
        return self.reparameterize(mu, logvar, nsamples), kl


@breaks()
def lagging() -> Subject:
    vae = Lagging()
    return Subject(
        name="jxhe vae-lagging-encoder",
        module=vae,
        encode=vae.heads,
        reparameterize=vae.reparameterize,
        decode=lambda z: torch.sigmoid(vae.pixels(z)),
        nll=lambda p, x: F.binary_cross_entropy(p, x, reduction="none").sum(1),
    )


# Keras and TensorFlow, in torch or NumPy.


def keras_binary_crossentropy(data: Tensor, reconstruction: Tensor) -> Tensor:
    """Average over the last axis, the channels, as Keras does."""
    p = reconstruction.clamp(1e-7, 1 - 1e-7)
    return -(data * p.log() + (1 - data) * (1 - p).log()).mean(-1)


def keras_loss(r: Tensor, x: Tensor, z_mean: Tensor, z_log_var: Tensor) -> Tensor:
    reconstruction = keras_binary_crossentropy(x, r).sum((1, 2)).mean()
    kl = -0.5 * (1 + z_log_var - z_mean**2 - z_log_var.exp())
    return reconstruction + kl.sum(1).mean()


@breaks()
def keras_io() -> Subject:
    return Subject(
        name="keras-io", loss=keras_loss, conventions=Conventions(pixel_shape=(4, 4, 1))
    )


@breaks("objective/beta")
def keras_io_in_colour() -> Subject:
    return Subject(
        name="keras-io, three channels",
        loss=keras_loss,
        conventions=Conventions(pixel_shape=(4, 4, 3)),
    )


def keras_sampling(z_mean: Tensor, z_log_var: Tensor) -> Tensor:
    return z_mean + torch.exp(z_log_var) * torch.randn_like(z_mean)


@breaks("reparameterization/affine")
def keras_before_9972() -> Subject:
    return Subject(name="Keras before pull request 9972", reparameterize=keras_sampling)


def tensorflow_kl(z_mean: np.ndarray, z_logvar: np.ndarray) -> np.ndarray:
    return np.mean(0.5 * np.sum(np.square(z_mean) + np.exp(z_logvar) - z_logvar - 1, 1))


def tensorflow_bernoulli(images: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return np.sum(
        np.maximum(logits, 0) - logits * images + np.log1p(np.exp(-np.abs(logits))), axis=1
    )


@breaks()
def disentanglement_lib() -> Subject:
    return Subject(
        name="disentanglement_lib",
        kl=from_numpy(tensorflow_kl),
        nll=from_numpy(lambda logits, x: tensorflow_bernoulli(x, logits)),
    )


def hwalsuklee_kl(mu: Tensor, sigma: Tensor) -> Tensor:
    inner = mu**2 + sigma**2 - torch.log(1e-8 + sigma**2) - 1
    return 0.5 * inner.sum(1).mean()


@breaks("kl/closed-form")
def hwalsuklee() -> Subject:
    return Subject(
        name="hwalsuklee tensorflow-mnist-VAE",
        kl=hwalsuklee_kl,
        conventions=Conventions(spread="sigma"),
    )


# Defects of the wild.


class ScviEncoder(nn.Module):
    """The variance has a floor, which no weights go below."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.mean, self.var = nn.Linear(12, 8), nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = F.relu(self.encoder(x))
        q_m, q_v = self.mean(q), torch.exp(self.var(q)) + 1e-4
        return q_m, q_v, Normal(q_m, q_v.sqrt(), validate_args=False).rsample()


@breaks()
def scvi() -> Subject:
    encoder = ScviEncoder()
    return Subject(
        name="scvi-tools",
        module=encoder,
        kl=lambda m, v: kl_divergence(Normal(m, v.sqrt()), Normal(0.0, 1.0)).sum(1),
        encode=lambda x: encoder(x)[:2],
        conventions=Conventions(spread="variance"),
    )


class RasbtVAE(Layers):
    def reparameterize(self, z_mu: Tensor, z_log_var: Tensor) -> Tensor:
        """Name the device by its number, which of a CPU is -1."""
        eps = torch.randn(z_mu.size(0), z_mu.size(1)).to(z_mu.get_device())
        return z_mu + eps * torch.exp(z_log_var / 2.0)

    def loss(self, decoded: Tensor, x: Tensor, z_mean: Tensor, z_log_var: Tensor) -> Tensor:
        kl = -0.5 * torch.sum(1 + z_log_var - z_mean**2 - torch.exp(z_log_var), axis=1)
        pixelwise = F.mse_loss(decoded, x, reduction="none").view(len(x), -1).sum(axis=1)
        return pixelwise.mean() + kl.mean()


@breaks("reparameterization/affine")
def rasbt() -> Subject:
    vae = RasbtVAE()
    return Subject(
        name="rasbt stat453",
        reparameterize=vae.reparameterize,
        loss=vae.loss,
        conventions=Conventions(variance=0.5),
    )


class BoltsVAE(Layers):
    def sample(self, mu: Tensor, log_var: Tensor) -> tuple[Normal, Normal, Tensor]:
        q = Normal(mu, torch.exp(log_var / 2))
        return Normal(torch.zeros_like(mu), torch.ones_like(mu)), q, q.rsample()

    def step(self, x_hat: Tensor, x: Tensor, mu: Tensor, log_var: Tensor) -> tuple[Tensor, dict]:
        p, q, _ = self.sample(mu, log_var)
        recon_loss, kl = F.mse_loss(x_hat, x), kl_divergence(q, p).mean() * 0.1
        return recon_loss + kl, {"recon_loss": recon_loss, "kl": kl}


@breaks("kl/closed-form", "likelihood/value")
def bolts() -> Subject:
    vae = BoltsVAE()
    return Subject(
        name="lightning-bolts",
        reparameterize=lambda mu, log_var: vae.sample(mu, log_var)[2],
        loss=lambda x_hat, x, mu, log_var: vae.step(x_hat, x, mu, log_var)[0],
    )


class DisVAE(Layers):
    """Of YannDubs/disentangling-vae."""

    def reparameterize(self, mean: Tensor, logvar: Tensor) -> Tensor:
        if not self.training:
            return mean
        std = torch.exp(0.5 * logvar)
        return mean + std * torch.randn_like(std)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        latent_dist = self.heads(x)
        latent_sample = self.reparameterize(*latent_dist)
        return torch.sigmoid(self.pixels(latent_sample)), latent_dist, latent_sample


class BetaHLoss:
    def __init__(self, rec_dist: str) -> None:
        self.rec_dist = rec_dist

    def __call__(
        self, data: Tensor, recon_data: Tensor, latent_dist: Any, is_train: bool, storer: None
    ) -> Tensor:
        if self.rec_dist == "bernoulli":
            loss = F.binary_cross_entropy(recon_data, data, reduction="sum")
        else:
            loss = F.mse_loss(recon_data * 255, data * 255, reduction="sum") / 255
        mean, logvar = latent_dist
        latent_kl = 0.5 * (-1 - logvar + mean.pow(2) + logvar.exp()).mean(dim=0)
        return loss / len(data) + latent_kl.sum()


@breaks("reparameterization/samples-in-evaluation")
def yanndubs() -> Subject:
    vae, loss = DisVAE(), BetaHLoss("bernoulli")
    return Subject(
        name="YannDubs disentangling-vae",
        module=vae,
        encode=vae.heads,
        reparameterize=vae.reparameterize,
        forward=lambda x: (vae(x)[0], *vae(x)[1]),
        loss=lambda r, x, mean, logvar: loss(x, r, (mean, logvar), True, None),
    )


@breaks()
def yanndubs_gaussian() -> Subject:
    loss = BetaHLoss("gaussian")
    return Subject(
        name="YannDubs disentangling-vae, gaussian",
        loss=lambda r, x, mean, logvar: loss(x, r, (mean, logvar), True, None),
        conventions=Conventions(variance=1 / 510),
    )


class Chendaichao(Layers):
    def reparametrize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return mu + torch.randn_like(mu) * (0.5 * torch.exp(logvar))


@breaks("reparameterization/affine")
def chendaichao() -> Subject:
    vae = Chendaichao()
    return Subject(
        name="chendaichao VAE-pytorch",
        module=vae,
        kl=gaussian_kl,
        encode=vae.heads,
        reparameterize=vae.reparametrize,
    )


def sksq96_cnn_loss(recon_x: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    bce = F.binary_cross_entropy(recon_x, x, reduction="sum")
    return bce - 0.5 * torch.mean(1 + logvar - mu.pow(2) - logvar.exp())


@breaks("kl/closed-form")
def sksq96_cnn() -> Subject:
    return Subject(name="sksq96 pytorch-vae, vae-cnn.ipynb", loss=sksq96_cnn_loss)


def sigma_vae_mse(recon_x: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    return F.mse_loss(recon_x, x), gaussian_kl(mu, logvar)


@breaks("likelihood/value")
def orybkin_mse() -> Subject:
    return Subject(
        name="orybkin sigma-vae mse_vae", loss=lambda *parts: sum(sigma_vae_mse(*parts))
    )


class Wiseodd(Layers):
    mb_size = 64

    def sample_z(self, mu: Tensor, log_var: Tensor) -> Tensor:
        return mu + torch.exp(log_var / 2) * torch.randn(self.mb_size, mu.size(1))


@breaks("reparameterization/affine")
def wiseodd() -> Subject:
    vae = Wiseodd()
    return Subject(
        name="wiseodd generative-models",
        module=vae,
        encode=vae.heads,
        reparameterize=vae.sample_z,
        decode=lambda z: torch.sigmoid(vae.pixels(z)),
    )


class NvaeNormal:
    def __init__(self, mu: Tensor, log_sigma: Tensor) -> None:
        self.mu = 5 * torch.tanh(mu / 5)
        self.sigma = torch.exp(5 * torch.tanh(log_sigma / 5)) + 1e-2

    def sample(self) -> tuple[Tensor, Tensor]:
        """Return z and what should be eps, but is z again."""
        eps = self.mu.mul(0).normal_()
        return eps.mul_(self.sigma).add_(self.mu), eps

    def kl(self, prior: "NvaeNormal") -> Tensor:
        term1, term2 = (self.mu - prior.mu) / prior.sigma, self.sigma / prior.sigma
        return 0.5 * (term1 * term1 + term2 * term2) - 0.5 - torch.log(term2)


@breaks("kl/closed-form", "reparameterization/affine")
def nvae() -> Subject:
    """Right about the mean and sigma that it makes of the heads, not about the heads."""
    unit = NvaeNormal(torch.zeros(()), torch.zeros(()))
    return Subject(
        name="NVlabs NVAE",
        kl=lambda mu, log_sigma: NvaeNormal(mu, log_sigma).kl(unit),
        reparameterize=lambda mu, log_sigma: NvaeNormal(mu, log_sigma).sample()[0],
        conventions=Conventions(spread="log_sigma"),
    )


class Wohlert(Layers):
    def encoder(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, head = self.heads(x)
        log_var = F.softplus(head)
        return mu + log_var.mul(0.5).exp() * torch.randn_like(mu), mu, log_var


@breaks("model/unconstrained-logvar")
def wohlert() -> Subject:
    vae = Wohlert()
    return Subject(
        name="wohlert semi-supervised-pytorch",
        module=vae,
        encode=lambda x: vae.encoder(x)[1:],
        decode=lambda z: torch.sigmoid(vae.pixels(z)),
    )


class VGAE(Layers):
    """Of PyTorch Geometric, with nodes as examples."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logstd = self.heads(x)
        return mu, logstd.clamp(max=10)

    def reparametrize(self, mu: Tensor, logstd: Tensor) -> Tensor:
        return mu + torch.randn_like(logstd) * torch.exp(logstd) if self.training else mu

    def kl_loss(self, mu: Tensor, logstd: Tensor) -> Tensor:
        logstd = logstd.clamp(max=10)
        inner = 1 + 2 * logstd - mu**2 - logstd.exp() ** 2
        return -0.5 * torch.mean(torch.sum(inner, dim=1))


class OldVGAE(VGAE):
    def kl_loss(self, mu: Tensor, logstd: Tensor) -> Tensor:
        return -0.5 * torch.mean(torch.sum(1 + logstd - mu**2 - logstd.exp(), dim=1))


def geometric(name: str, vae: VGAE) -> Subject:
    return Subject(
        name=name,
        module=vae,
        kl=vae.kl_loss,
        encode=vae.encode,
        reparameterize=vae.reparametrize,
        conventions=Conventions(spread="log_sigma", evaluation="mean"),
    )


@breaks("kl/large-logvar")
def pyg() -> Subject:
    return geometric("PyTorch Geometric VGAE", VGAE())


@breaks("kl/closed-form")
def pyg_before_1368() -> Subject:
    return geometric("PyTorch Geometric before pull request 1368", OldVGAE())


def dferendo_sample(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + torch.exp(0.5 * logvar) * torch.rand_like(mu)


@breaks("reparameterization/mean")
def dferendo() -> Subject:
    return Subject(name="dferendo, issue 3", reparameterize=dferendo_sample)


def irmae_loss(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return F.mse_loss(recon, x, reduction="sum")


@breaks("objective/beta")
def irmae() -> Subject:
    return Subject(name="facebookresearch irmae, issue 1", loss=irmae_loss)


class TsgmBetaVAE:
    def __init__(self, beta: float) -> None:
        self.beta = beta

    def loss(self, recon: Tensor, x: Tensor, z_mean: Tensor, z_log_var: Tensor) -> Tensor:
        """Forget beta."""
        bce = F.binary_cross_entropy(recon, x, reduction="none").sum(1)
        kl = -0.5 * (1 + z_log_var - z_mean.square() - z_log_var.exp()).sum(1)
        return (bce + kl).mean()


@breaks("objective/beta")
def tsgm() -> Subject:
    vae = TsgmBetaVAE(beta=4.0)
    return Subject(name="tsgm BetaVAE", loss=vae.loss, conventions=Conventions(beta=vae.beta))


def cheat_elbo(p: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return F.binary_cross_entropy(p, x, reduction="sum") + gaussian_kl(mu, logvar)


@breaks("likelihood/value", "likelihood/minimum-at-data")
def cunningham_cheat() -> Subject:
    """The continuous Bernoulli without its constant, computed there to compare with."""
    return Subject(
        name="cunningham-lab cb, the bound without its constant",
        loss=cheat_elbo,
        conventions=Conventions(likelihood="continuous-bernoulli"),
    )
