"""The distributions of Distrax."""

import distrax
import jax
import jax.numpy as jnp

from vae_ref.conformance import Conventions, Subject, from_jax

keys = []


def reseed(seed):
    keys[:] = [jax.random.key(seed)]


def fresh():
    """Return a key that is used once."""
    keys[0], key = jax.random.split(keys[0])
    return key


@jax.jit
def kl(mu, sigma):
    prior = distrax.MultivariateNormalDiag(jnp.zeros_like(mu), jnp.ones_like(mu))
    return distrax.MultivariateNormalDiag(mu, sigma).kl_divergence(prior)


@jax.jit
def nll(logits, x):
    return -distrax.Independent(distrax.Bernoulli(logits=logits), 1).log_prob(x)


def draw(mu, sigma):
    return distrax.MultivariateNormalDiag(mu, sigma).sample(seed=fresh())


subject = Subject(
    name="distrax, MultivariateNormalDiag and Bernoulli",
    kl=from_jax(kl),
    nll=from_jax(nll),
    loss=from_jax(lambda logits, x, mu, sigma: nll(logits, x) + kl(mu, sigma)),
    reparameterize=from_jax(draw),
    seed=reseed,
    conventions=Conventions(spread="sigma", dtype="float32"),
)
