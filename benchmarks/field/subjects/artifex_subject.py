"""The VAE losses of Artifex, which are functions of JAX, and the step of its trainer."""

import jax
from artifex.generative_models.core.configuration import DecoderConfig, EncoderConfig, VAEConfig
from artifex.generative_models.core.losses.vae import (
    vae_elbo_terms,
    vae_kl_components,
    vae_reconstruction_loss,
)
from artifex.generative_models.models.vae import VAE
from artifex.generative_models.training.trainers import VAETrainer, VAETrainingConfig
from flax import nnx

from vae_ref.conformance import Conventions, Subject, from_jax


def with_likelihood(kind, family):
    @jax.jit
    def loss(outputs, x, mu, logvar):
        terms = vae_elbo_terms(
            reconstructed=outputs,
            targets=x,
            mean=mu,
            log_var=logvar,
            reconstruction_loss_type=kind,
        )
        return terms["total_loss"]

    @jax.jit
    def nll(outputs, x):
        return vae_reconstruction_loss(outputs, x, loss_type=kind)

    return Subject(
        name=f"artifex, {kind}",
        kl=from_jax(jax.jit(lambda mu, logvar: vae_kl_components(mu, logvar)[1])),
        nll=from_jax(nll),
        loss=from_jax(loss),
        conventions=Conventions(likelihood=family, dtype="float32"),
    )


mse = with_likelihood("mse", "gaussian")
mae = with_likelihood("mae", "laplace")
bce = with_likelihood("bce", "bernoulli")

sizes = {"latent_dim": 3, "hidden_dims": (8,), "activation": "relu"}
config = VAEConfig(
    name="vae",
    encoder=EncoderConfig(name="encoder", input_shape=(12,), **sizes),
    decoder=DecoderConfig(name="decoder", output_shape=(12,), **sizes),
)
trainer = VAETrainer(VAETrainingConfig(kl_annealing="none"))


def step(model, x):
    return trainer.compute_loss(model, {"data": x}, 0, "bce")[0]


def batch():
    x = jax.random.bernoulli(jax.random.key(2), 0.5, (5, 12)).astype("float32")
    return VAE(config, rngs=nnx.Rngs(0)), x
