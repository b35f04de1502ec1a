"""The VAE losses of Artifex, which are functions of JAX."""

import jax
from artifex.generative_models.core.losses.vae import (
    vae_elbo_terms,
    vae_kl_components,
    vae_reconstruction_loss,
)

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
