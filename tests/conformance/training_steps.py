"""The training steps of the implementations: the loss of one batch, as the original's loop has it.

What an implementation is a stand-in for is trained by its author's own loop. Here is what of that
loop is between the batch and ``backward``, with the original's reductions, weights and labels.
What the stand-in lacks, such as a decoder, is as small as it can be.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import implementations as our
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

Step = Callable[[], Any]

STEPS: dict[str, Callable[[], Step]] = {}
"""By the name of the adapter: what makes the network and the batch, and returns the step."""

B = 5


def trains(*adapters: Callable[..., Any]) -> Callable[[Callable[..., Step]], Callable[..., Step]]:
    """Enter what makes the training step of the implementation of an adapter."""

    def enter(make: Callable[..., Step]) -> Callable[..., Step]:
        STEPS.update(dict.fromkeys([adapter.__name__ for adapter in adapters], make))
        return make

    return enter


def images(*shape: int) -> Tensor:
    return torch.rand(shape or (B, 12))


def digits(vae: our.PytorchExamples, examples: int = B) -> Step:
    data = images(examples, 1, 28, 28)

    def step() -> Tensor:
        recon_batch, mu, logvar = vae(data)
        return vae.loss_function(recon_batch, data, mu, logvar)

    return step


@trains(our.pytorch_examples)
def pytorch_examples() -> Step:
    return digits(our.PytorchExamples())


@trains(our.pytorch_examples_before_419)
def pytorch_examples_before_419() -> Step:
    return digits(our.BeforePullRequest419())


@trains(our.pytorch_examples_in_2017)
def pytorch_examples_in_2017() -> Step:
    """The last batch of an epoch: 60,000 images are 468 batches of 128, and 96."""
    return digits(our.Winter2017(), 96)


@trains(our.antixk_vanilla)
def antixk_vanilla() -> Step:
    vae, real_img = our.VanillaVAE(), images(B, 3, 2, 2)
    return lambda: vae.loss_function(*vae(real_img), M_N=0.00025)["loss"]


@trains(our.antixk_iwae)
def antixk_iwae() -> Step:
    vae, x, samples = our.VanillaVAE(), images(B, 3, 2, 2), 5

    def step() -> Tensor:
        mu, log_var = (head.repeat(samples, 1, 1).permute(1, 0, 2) for head in vae.encode(x))
        z = vae.reparameterize(mu, log_var)
        recons = vae.decode(z.reshape(-1, 3)).view(B, samples, 3, 2, 2)
        error = ((recons - x.repeat(samples, 1, 1, 1, 1).permute(1, 0, 2, 3, 4)) ** 2).flatten(2)
        kld = -0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp(), dim=2)
        return our.antixk_iwae_loss(error.mean(-1) + 0.00025 * kld)

    return step


@trains(our.antixk_lvae)
def antixk_lvae() -> Step:
    """A ladder of two rungs: the lower posterior is merged with its prior, which is learned."""
    vae, x = our.LadderVAE(), images()
    bottom, top = our.Layers(12, 3), nn.Linear(8, 4)
    prior, decoder = nn.Linear(2, 6), nn.Linear(3, 12)

    def draw(mu: Tensor, log_var: Tensor) -> Tensor:
        return mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)

    def step() -> Tensor:
        mu_e, log_var_e = bottom.heads(x)
        z = draw(*top(F.relu(bottom.fc1(x))).chunk(2, 1))
        mu_t, log_var_t = prior(z).chunk(2, 1)
        p_e, p_t = 1 / log_var_e.exp(), 1 / log_var_t.exp()
        mu, log_var = (mu_e * p_e + mu_t * p_t) / (p_e + p_t), torch.log(1 / (p_e + p_t))
        z = draw(mu, log_var)
        kld = vae.compute_kl_divergence(z, (mu, log_var), (mu_t, log_var_t))
        return F.mse_loss(decoder(z), x) + 0.00025 * kld.mean()

    return step


@trains(our.pythae)
def pythae() -> Step:
    vae, inputs = our.Pythae(), {"data": images()}

    def forward() -> SimpleNamespace:
        x = inputs["data"]
        output = vae.encoder(x)
        mu, log_var = output.embedding, output.log_covariance
        z, _ = vae.sample_gauss(mu, torch.exp(0.5 * log_var))
        recon_x = vae.decoder(z)["reconstruction"]
        loss, recon_loss, kld = vae.loss_function(recon_x, x, mu, log_var, z)
        return SimpleNamespace(recon_loss=recon_loss, reg_loss=kld, loss=loss, recon_x=recon_x)

    return forward


def weights_of(vae: our.Layers, x: Tensor, samples: int, axis: int) -> Tensor:
    """Return the log weights of samples: log p(x, z) - log q(z | x)."""
    mu, log_var = (head.unsqueeze(axis) for head in vae.heads(x))
    shape = [1, 1, 1]
    shape[axis] = samples
    q = Normal(mu.repeat(shape), torch.exp(0.5 * log_var).repeat(shape))
    z = q.rsample()
    recon = torch.sigmoid(vae.pixels(z))
    target = x.unsqueeze(axis).expand_as(recon)
    log_p_x = -F.binary_cross_entropy(recon, target, reduction="none").sum(-1)
    log_p_z = Normal(torch.zeros_like(z), torch.ones_like(z)).log_prob(z).sum(-1)
    return log_p_x + log_p_z - q.log_prob(z).sum(-1)


@trains(our.pythae_iwae)
def pythae_iwae() -> Step:
    vae, x = our.Pythae(), images()
    return lambda: our.pythae_iwae_loss(weights_of(vae, x, 3, 1))


@trains(our.xqding)
def xqding() -> Step:
    """Training has a loss of its own, with the gradient of the bound."""
    vae, x = our.Layers(), images()

    def step() -> Tensor:
        log_weight = weights_of(vae, x, 3, 0)
        weight = torch.exp(log_weight - log_weight.max(0)[0])
        weight = (weight / weight.sum(0)).detach()
        return -torch.mean(torch.sum(weight * log_weight, 0))

    return step


@trains(our.yoonholee)
def yoonholee() -> Step:
    vae, x = our.Layers(), images()
    return lambda: -our.yoonholee_logmeanexp(weights_of(vae, x, 3, 1), 1).mean()


@trains(our.pyro)
def pyro() -> Step:
    """The loss of ``SVI(model, guide, Adam, loss=Trace_ELBO())``."""
    vae, x = our.PyroVAE(), images()

    def step() -> Tensor:
        q = Independent(Normal(*vae.encoder(x)), 1)
        z = q.rsample()
        p = Independent(Normal(torch.zeros_like(z), torch.ones_like(z)), 1)
        likelihood = Independent(Bernoulli(vae.decoder(z), validate_args=False), 1)
        elbo = (likelihood.log_prob(x) + p.log_prob(z)).sum() - q.log_prob(z).sum()
        return -elbo

    return step


@trains(our.zuko)
def zuko() -> Step:
    vae, x = our.Zuko(), images().round()
    prior = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)

    def step() -> Tensor:
        q = vae.encoder(x)
        z = q.rsample()
        return -(vae.decoder(z).log_prob(x) + prior.log_prob(z) - q.log_prob(z)).mean()

    return step


@trains(our.flax)
def flax() -> Step:
    jax = pytest.importorskip("jax")
    kl, cross_entropy = our.flax_functions()
    jnp, keys = jax.numpy, jax.random.split(jax.random.key(0), 5)
    shapes = [(12, 8), (8, 6), (3, 8), (8, 12)]
    params = [0.3 * jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=False)]
    batch, z_rng = jnp.asarray(images().numpy(force=True)), keys[4]

    def loss_fn(params: Any) -> Any:
        mean, logvar = jnp.split(jax.nn.relu(batch @ params[0]) @ params[1], 2, 1)
        z = mean + jax.random.normal(z_rng, logvar.shape) * jnp.exp(0.5 * logvar)
        logits = jax.nn.relu(z @ params[2]) @ params[3]
        return cross_entropy(logits, batch).mean() + kl(mean, logvar).mean()

    return lambda: jax.value_and_grad(loss_fn)(params)[0]


@trains(our.flax_nnx_toy)
def flax_nnx_toy() -> Step:
    vae, x = our.Layers(), images()

    def step() -> Tensor:
        mean, raw = vae.heads(x)
        std = torch.exp(raw)
        logits = vae.pixels(mean + std * torch.randn_like(mean))
        return our.nnx_toy_loss(logits, x, mean, std)

    return step


@trains(our.diffusers)
def diffusers() -> Step:
    """``train_autoencoderkl.py`` without the perceptual and the adversarial terms."""
    vae, targets = our.AutoencoderKL(), images(B, 1, 8, 8)

    def step() -> Tensor:
        posterior = vae.encode(targets).latent_dist
        reconstructions = vae.decode(posterior.sample()).sample
        return F.mse_loss(reconstructions, targets) + 1e-6 * posterior.kl().mean()

    return step


@trains(our.compvis)
def compvis() -> Step:
    vae, loss, inputs = our.AutoencoderKL(), our.LPIPSWithDiscriminator(), images(B, 1, 8, 8)

    def training_step() -> Tensor:
        posterior = vae.encode(inputs).latent_dist
        reconstructions = vae.decode(posterior.sample()).sample
        aeloss, log_dict_ae = loss(inputs, reconstructions, posterior)
        del log_dict_ae
        return aeloss

    return training_step


@trains(our.konny_beta_vae)
def konny_beta_vae() -> Step:
    net, x, beta = our.Layers(), images(), 4

    def step() -> Tensor:
        mu, logvar = net.heads(x)
        x_recon = net.pixels(mu + logvar.div(2).exp() * torch.randn_like(mu))
        recon_loss = our.konny_reconstruction_loss(x, x_recon, "bernoulli")
        total_kld, _, _ = our.konny_kl_divergence(mu, logvar)
        return recon_loss + beta * total_kld

    return step


@trains(our.timbmg)
def timbmg() -> Step:
    vae, x = our.Timbmg(), images()

    def step() -> Tensor:
        recon_x, mean, log_var, _ = vae(x)
        return vae.loss_fn(recon_x, x, mean, log_var)

    return step


@trains(our.jackson_kang)
def jackson_kang() -> Step:
    model, x = our.JacksonKang(), images()

    def step() -> Tensor:
        mean, log_var = model.heads(x)
        z = model.reparameterization(mean, torch.exp(0.5 * log_var))
        x_hat = torch.sigmoid(model.pixels(z))
        return model.loss_function(x, x_hat, mean, log_var)

    return step


def drawn(vae: our.Layers, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the outputs, mu and logvar of a VAE that has nothing peculiar."""
    mu, logvar = vae.heads(x)
    z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
    return torch.sigmoid(vae.pixels(z)), mu, logvar


def textbook(loss: Callable[..., Tensor], *shape: int) -> Step:
    """Return the step of a VAE whose loss alone is peculiar, on images of any shape."""
    x = images(*(shape or (B, 12)))
    vae = our.Layers(x[0].numel())

    def step() -> Tensor:
        out, mu, logvar = drawn(vae, x.flatten(1))
        return loss(out.view_as(x), x, mu, logvar)

    return step


@trains(our.bvezilic)
def bvezilic() -> Step:
    return textbook(lambda r, x, mu, logvar: our.bvezilic_loss(r, x, logvar, mu))


@trains(our.bvezilic_in_the_usual_order)
def bvezilic_in_the_usual_order() -> Step:
    """A caller's step, who takes the order for the usual one."""
    return textbook(our.bvezilic_loss)


@trains(our.world_models)
def world_models() -> Step:
    model, data = our.WorldModels(), images()

    def step() -> Tensor:
        recon_batch, mu, logsigma = model(data)
        return model.loss_function(recon_batch, data, mu, logsigma)

    return step


@trains(our.eugenhotaj)
def eugenhotaj() -> Step:
    encoder, decoder = nn.Conv2d(1, 4, 2, 2), nn.ConvTranspose2d(2, 1, 2, 2)
    x = images(B, 1, 4, 4)

    def step() -> dict[str, Tensor]:
        mean, log_std = torch.split(encoder(x), 2, dim=1)
        latents = mean + log_std.exp() * torch.randn_like(mean)
        zero = torch.zeros_like(mean)
        kl_div = our.eugenhotaj_kl(mean, log_std, zero, zero).sum(dim=(1, 2, 3))
        preds = decoder(latents)
        recon_loss = F.binary_cross_entropy_with_logits(preds, x, reduction="none")
        recon_loss = recon_loss.sum(dim=(1, 2, 3))
        loss = recon_loss.mean() + kl_div.mean()
        return {"recon_loss": recon_loss.mean(), "kl_div": kl_div.mean(), "loss": loss}

    return step


@trains(our.vdvae)
def vdvae() -> Step:
    """Two blocks from the top down, of which the upper one begins with a bias.

    The rate and the distortion are per pixel; one logistic distribution takes the place of ten.
    """
    encoder, bias = nn.Conv2d(1, 4, 2, 2), nn.Parameter(torch.zeros(1, 4, 1, 1))
    priors, posteriors = (
        nn.ModuleList(nn.Conv2d(n, 4 + extra, 1) for _ in range(2))
        for n, extra in ((4, 4), (8, 0))
    )
    projections, out = nn.ModuleList(nn.Conv2d(2, 4, 1) for _ in range(2)), nn.Conv2d(4, 2, 1)
    x = images(B, 1, 4, 4)

    def step() -> dict[str, Tensor]:
        activations, h, rate = encoder(x), bias.expand(B, 4, 2, 2), torch.zeros(B)
        for prior, posterior, projection in zip(priors, posteriors, projections, strict=True):
            qm, qv = posterior(torch.cat([h, activations], 1)).chunk(2, 1)
            pm, pv, more = prior(h).split([2, 2, 4], 1)
            rate = rate + our.vdvae_kl(qm, pm, qv, pv).sum((1, 2, 3))
            h = h + more + projection(our.vdvae_draw(qm, qv))
        mean, log_scale = out(F.interpolate(h, scale_factor=2)).chunk(2, 1)
        centred = (x - mean) * torch.exp(-log_scale)
        log_p = -centred - log_scale - 2 * F.softplus(-centred)
        distortion, pixels = -log_p.sum((1, 2, 3)), x[0].numel()
        elbo = (distortion + rate) / pixels
        return {"elbo": elbo.mean()}

    return step


@trains(our.lagging)
def lagging() -> Step:
    vae, x, kl_weight = our.Lagging(), images(), 1.0

    def step() -> Tensor:
        z, kl = vae.encode(x, nsamples=1)
        out = torch.sigmoid(vae.pixels(z))
        error = F.binary_cross_entropy(out, x.unsqueeze(1), reduction="none").sum(-1).mean(dim=1)
        return (error + kl_weight * kl).mean(dim=-1)

    return step


@trains(our.keras_io)
def keras_io() -> Step:
    return textbook(our.keras_loss, B, 4, 4, 1)


@trains(our.keras_io_in_colour)
def keras_io_in_colour() -> Step:
    return textbook(our.keras_loss, B, 4, 4, 3)


@trains(our.keras_before_9972)
def keras_before_9972() -> Step:
    vae, x = our.Layers(), images()

    def step() -> Tensor:
        z_mean, z_log_var = vae.heads(x)
        decoded = torch.sigmoid(vae.pixels(our.keras_sampling(z_mean, z_log_var)))
        xent_loss = 12 * our.keras_binary_crossentropy(x, decoded)
        kl_loss = -0.5 * torch.sum(1 + z_log_var - z_mean**2 - torch.exp(z_log_var), -1)
        return torch.mean(xent_loss + kl_loss)

    return step


@trains(our.disentanglement_lib)
def disentanglement_lib() -> Step:
    generator = np.random.default_rng(0)
    x = generator.random((B, 12))
    heads, decoder = generator.normal(size=(12, 6)), generator.normal(size=(3, 12))

    def step() -> float:
        z_mean, z_logvar = np.split(x @ heads, 2, 1)
        z = z_mean + np.exp(z_logvar / 2) * generator.normal(size=z_mean.shape)
        reconstruction_loss = np.mean(our.tensorflow_bernoulli(x, z @ decoder))
        return float(reconstruction_loss + our.tensorflow_kl(z_mean, z_logvar))

    return step


@trains(our.hwalsuklee)
def hwalsuklee() -> Step:
    vae, x = our.Layers(), images()

    def step() -> Tensor:
        mu, raw = vae.heads(x)
        sigma = 1e-6 + F.softplus(raw)
        y = torch.sigmoid(vae.pixels(mu + sigma * torch.randn_like(mu)))
        y = torch.clamp(y, 1e-8, 1 - 1e-8)
        marginal_likelihood = torch.sum(x * torch.log(y) + (1 - x) * torch.log(1 - y), 1)
        elbo = marginal_likelihood.mean() - our.hwalsuklee_kl(mu, sigma)
        return -elbo

    return step


@trains(our.scvi)
def scvi() -> Step:
    """Counts of genes are negative binomial, with a mean that is a share of all counts."""
    encoder, decoder, px_r = our.ScviEncoder(), nn.Linear(3, 12), nn.Parameter(torch.zeros(12))
    x = torch.poisson(20 * images())

    def step() -> Tensor:
        qz_m, qz_v, z = encoder(torch.log1p(x))
        mu, theta = x.sum(1, keepdim=True) * torch.softmax(decoder(z), -1), torch.exp(px_r)
        log_theta_mu = torch.log(theta + mu + 1e-8)
        log_p = theta * (torch.log(theta + 1e-8) - log_theta_mu)
        log_p = log_p + x * (torch.log(mu + 1e-8) - log_theta_mu)
        log_p = log_p + torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
        prior = Normal(torch.zeros_like(qz_m), torch.ones_like(qz_m))
        kl = kl_divergence(Normal(qz_m, qz_v.sqrt()), prior).sum(1)
        return torch.mean(-log_p.sum(-1) + kl)

    return step


@trains(our.rasbt)
def rasbt() -> Step:
    model, features = our.RasbtVAE(), images()

    def step() -> Tensor:
        z_mean, z_log_var = model.heads(features)
        decoded = torch.sigmoid(model.pixels(model.reparameterize(z_mean, z_log_var)))
        return model.loss(decoded, features, z_mean, z_log_var)

    return step


@trains(our.bolts)
def bolts() -> Step:
    vae, x = our.BoltsVAE(), images()

    def step() -> Tensor:
        mu, log_var = vae.heads(x)
        p, q, z = vae.sample(mu, log_var)
        recon_loss = F.mse_loss(vae.pixels(z), x, reduction="mean")
        kl = kl_divergence(q, p).mean()
        kl *= 0.1
        return kl + recon_loss

    return step


def disentangling(distribution: str) -> Step:
    model, loss_f, data = our.DisVAE(), our.BetaHLoss(distribution), images()

    def step() -> Tensor:
        recon_batch, latent_dist, _ = model(data)
        return loss_f(data, recon_batch, latent_dist, model.training, None)

    return step


@trains(our.yanndubs)
def yanndubs() -> Step:
    return disentangling("bernoulli")


@trains(our.yanndubs_gaussian)
def yanndubs_gaussian() -> Step:
    return disentangling("gaussian")


@trains(our.chendaichao)
def chendaichao() -> Step:
    vae, x = our.Chendaichao(), images()

    def step() -> Tensor:
        mu, logvar = vae.heads(x)
        recon_x = torch.sigmoid(vae.pixels(vae.reparametrize(mu, logvar)))
        return F.binary_cross_entropy(recon_x, x, reduction="sum") + our.gaussian_kl(mu, logvar)

    return step


@trains(our.sksq96_cnn)
def sksq96_cnn() -> Step:
    return textbook(our.sksq96_cnn_loss)


@trains(our.orybkin_mse)
def orybkin_mse() -> Step:
    return textbook(lambda *parts: sum(our.sigma_vae_mse(*parts)))


@trains(our.wiseodd)
def wiseodd() -> Step:
    """All batches of the loop have 64 images."""
    vae, x = our.Wiseodd(), images(64, 12)

    def step() -> Tensor:
        z_mu, z_var = vae.heads(x)
        x_sample = torch.sigmoid(vae.pixels(vae.sample_z(z_mu, z_var)))
        recon_loss = F.binary_cross_entropy(x_sample, x, reduction="sum") / vae.mb_size
        kl_loss = torch.mean(0.5 * torch.sum(torch.exp(z_var) + z_mu**2 - 1.0 - z_var, 1))
        return recon_loss + kl_loss

    return step


@trains(our.nvae)
def nvae() -> Step:
    """One group of latents, whose prior is no network's."""
    vae, x = our.Layers(), images()

    def step() -> Tensor:
        mu_q, log_sig_q = vae.heads(x)
        dist, prior = (
            our.NvaeNormal(mu, s)
            for mu, s in ((mu_q, log_sig_q), (torch.zeros_like(mu_q), torch.zeros_like(mu_q)))
        )
        z, _ = dist.sample()
        output = Bernoulli(logits=vae.pixels(z), validate_args=False)
        recon_loss = -output.log_prob(x).sum(1)
        return torch.mean(recon_loss + dist.kl(prior).sum(1))

    return step


@trains(our.wohlert)
def wohlert() -> Step:
    model, x = our.Wohlert(), images()

    def step() -> Tensor:
        z, mu, log_var = model.encoder(x)
        qz = torch.sum(
            -0.5 * np.log(2 * np.pi) - log_var / 2 - (z - mu) ** 2 / (2 * torch.exp(log_var)), -1
        )
        pz = torch.sum(-0.5 * np.log(2 * np.pi) - z**2 / 2, -1)
        r = torch.sigmoid(model.pixels(z))
        likelihood = torch.sum(x * torch.log(r + 1e-8) + (1 - x) * torch.log(1 - r + 1e-8), -1)
        return -torch.mean(likelihood - (qz - pz))

    return step


def of_a_graph(model: our.VGAE) -> Step:
    """Return the step of an autoencoder of a graph, whose decoder is an inner product."""
    x, pos, neg = images(), torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.tensor([[0, 4], [3, 1]])

    def step() -> Tensor:
        mu, logstd = model.encode(x)
        z = model.reparametrize(mu, logstd)
        of_pos, of_neg = (torch.sigmoid((z[e[0]] * z[e[1]]).sum(dim=1)) for e in (pos, neg))
        recon = -torch.log(of_pos + 1e-15).mean() - torch.log(1 - of_neg + 1e-15).mean()
        return recon + (1 / len(x)) * model.kl_loss(mu, logstd)

    return step


@trains(our.pyg)
def pyg() -> Step:
    return of_a_graph(our.VGAE())


@trains(our.pyg_before_1368)
def pyg_before_1368() -> Step:
    return of_a_graph(our.OldVGAE())


@trains(our.dferendo)
def dferendo() -> Step:
    vae, x = our.Layers(), images()

    def step() -> Tensor:
        mu, logvar = vae.heads(x)
        out = torch.sigmoid(vae.pixels(our.dferendo_sample(mu, logvar)))
        return F.binary_cross_entropy(out, x, reduction="sum") + our.gaussian_kl(mu, logvar)

    return step


@trains(our.irmae)
def irmae() -> Step:
    return textbook(our.irmae_loss)


@trains(our.tsgm)
def tsgm() -> Step:
    return textbook(our.TsgmBetaVAE(beta=4.0).loss)


@trains(our.cunningham_cheat)
def cunningham_cheat() -> Step:
    return textbook(our.cheat_elbo)
