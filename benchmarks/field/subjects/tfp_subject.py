"""The distributions of TensorFlow Probability on JAX."""

import jax
from tensorflow_probability.substrates.jax import distributions as tfd

from vae_ref.conformance import Conventions, Subject, from_jax

keys = []


def reseed(seed):
    keys[:] = [jax.random.key(seed)]


def fresh():
    """Return a key that is used once."""
    keys[0], key = jax.random.split(keys[0])
    return key


def posterior(mu, sigma):
    return tfd.MultivariateNormalDiag(mu, sigma)


@jax.jit
def kl(mu, sigma):
    zero = jax.numpy.zeros_like(mu)
    return tfd.kl_divergence(posterior(mu, sigma), posterior(zero, zero + 1))


def with_likelihood(name, family, likelihood):
    @jax.jit
    def nll(outputs, x):
        return -tfd.Independent(likelihood(outputs), 1).log_prob(x)

    return Subject(
        name=f"tensorflow_probability.substrates.jax, {name}",
        kl=from_jax(kl),
        nll=from_jax(nll),
        loss=from_jax(lambda outputs, x, mu, sigma: nll(outputs, x) + kl(mu, sigma)),
        reparameterize=from_jax(lambda mu, sigma: posterior(mu, sigma).sample(seed=fresh())),
        seed=reseed,
        conventions=Conventions(spread="sigma", likelihood=family, dtype="float32"),
    )


bernoulli = with_likelihood(
    "Bernoulli of logits", "bernoulli-logits", lambda logits: tfd.Bernoulli(logits=logits)
)
continuous_bernoulli = with_likelihood(
    "ContinuousBernoulli of logits",
    "continuous-bernoulli-logits",
    lambda logits: tfd.ContinuousBernoulli(logits=logits),
)
