"""The distributions of NumPyro, and a VAE as a model and a guide."""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import TraceMeanField_ELBO

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
    return dist.kl_divergence(dist.Normal(mu, sigma), dist.Normal(0.0, 1.0)).sum(1)


@jax.jit
def nll(logits, x):
    return -dist.Bernoulli(logits=logits).log_prob(x).sum(1)


def draw(mu, sigma):
    return dist.Normal(mu, sigma).sample(fresh())


distributions = Subject(
    name="numpyro.distributions, Normal and Bernoulli",
    kl=from_jax(kl),
    nll=from_jax(nll),
    loss=from_jax(lambda logits, x, mu, sigma: nll(logits, x) + kl(mu, sigma)),
    reparameterize=from_jax(draw),
    seed=reseed,
    conventions=Conventions(spread="sigma", dtype="float32"),
)

params = {
    "encoder": 0.1 * jax.random.normal(jax.random.key(0), (12, 6)),
    "decoder": 0.1 * jax.random.normal(jax.random.key(1), (3, 12)),
}


def step(params, x, key):
    def model(x):
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros((len(x), 3)), 1.0).to_event(1))
            logits = z @ params["decoder"]
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x):
        mu, logvar = jnp.split(x @ params["encoder"], 2, axis=1)
        with numpyro.plate("data", len(x)):
            numpyro.sample("z", dist.Normal(mu, jnp.exp(logvar / 2)).to_event(1))

    return TraceMeanField_ELBO().loss(key, {}, model, guide, x)


def batch():
    x = jax.random.bernoulli(jax.random.key(2), 0.5, (5, 12)).astype(jnp.float32)
    return params, x, jax.random.key(3)
