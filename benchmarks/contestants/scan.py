"""JAX as its experts train small models: a whole epoch is one compiled scan over its batches.

The state is donated, so it is updated in place; order and noise are drawn inside. The last batch
of 96 is a step of its own, so that there are 469 steps, as for the others. One layer computes
both heads. XLA flushes denormals by itself. On a GPU it would round the factors of products to
TF32, which is turned off here. The first epoch includes the compilation.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from torchvision import datasets

from benchmarks.contestants.protocol import clock, enter

LAYERS = {"fc1": (784, 400), "heads": (400, 40), "fc3": (20, 400), "fc4": (400, 784)}
BATCH, LATENT, LEARNING_RATE, BETA1, BETA2, EPSILON = 128, 20, 1e-3, 0.9, 0.999, 1e-8
Weights = dict[str, tuple[Array, Array]]


class State(NamedTuple):
    weights: Weights
    exp_avg: Weights
    exp_avg_sq: Weights
    steps: Array


def start(key: Array) -> State:
    """Draw weights and biases as torch does: uniformly within 1 / sqrt(inputs)."""
    weights = {}
    for name, (inputs, outputs) in LAYERS.items():
        key, of_weight, of_bias = random.split(key, 3)
        reach = inputs**-0.5
        weights[name] = (
            random.uniform(of_weight, (inputs, outputs), minval=-reach, maxval=reach),
            random.uniform(of_bias, (outputs,), minval=-reach, maxval=reach),
        )
    return begin(weights)


def begin(weights: Weights) -> State:
    """Return the state of Adam before its first step from these weights."""
    first, second = (jax.tree.map(jnp.zeros_like, weights) for _ in range(2))
    return State(weights, first, second, jnp.zeros((), jnp.int32))


def loss(weights: Weights, x: Array, eps: Array) -> Array:
    def layer(name: str, values: Array) -> Array:
        weight, bias = weights[name]
        return jnp.matmul(values, weight, precision="highest") + bias

    mu, logvar = jnp.split(layer("heads", jax.nn.relu(layer("fc1", x))), 2, axis=1)
    sigma = jnp.exp(0.5 * logvar)
    logits = layer("fc4", jax.nn.relu(layer("fc3", mu + eps * sigma)))
    reconstruction = jnp.sum(jax.nn.softplus(logits) - x * logits)
    return reconstruction + 0.5 * jnp.sum(mu * mu + sigma * sigma - logvar - 1)


def step(state: State, x: Array, eps: Array) -> tuple[State, Array]:
    value, gradient = jax.value_and_grad(loss)(state.weights, x, eps)
    steps = state.steps + 1
    exp_avg = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state.exp_avg, gradient)
    exp_avg_sq = jax.tree.map(
        lambda v, g: BETA2 * v + (1 - BETA2) * g * g, state.exp_avg_sq, gradient
    )
    rate = LEARNING_RATE / (1 - BETA1**steps)
    scale = jnp.sqrt(1 - BETA2**steps)
    weights = jax.tree.map(
        lambda w, m, v: w - rate * m / (jnp.sqrt(v) / scale + EPSILON),
        state.weights,
        exp_avg,
        exp_avg_sq,
    )
    return State(weights, exp_avg, exp_avg_sq, steps), value


@partial(jax.jit, donate_argnums=0)
def train(state: State, images: Array, key: Array) -> tuple[State, Array]:
    of_order, of_noise = random.split(key)
    order = random.permutation(of_order, len(images))
    noise = random.normal(of_noise, (len(images), LATENT))
    full = len(images) // BATCH * BATCH

    def one(state: State, batch: tuple[Array, Array]) -> tuple[State, Array]:
        index, eps = batch
        return step(state, images[index], eps)

    batches = order[:full].reshape(-1, BATCH), noise[:full].reshape(-1, BATCH, LATENT)
    state, losses = lax.scan(one, state, batches)
    total = jnp.sum(losses)
    if full < len(images):
        state, last = one(state, (order[full:], noise[full:]))
        total += last
    return state, total / len(images)


@jax.jit
def test(weights: Weights, images: Array, key: Array) -> Array:
    return loss(weights, images, random.normal(key, (len(images), LATENT))) / len(images)


def contest(settings: argparse.Namespace) -> Iterator[dict[str, Any]]:
    device = jax.devices(settings.device)[0]
    with jax.default_device(device):
        train_images, test_images = (
            jnp.asarray(datasets.MNIST(settings.data, train=part).data.flatten(1).numpy()) / 255.0
            for part in (True, False)
        )
        of_weights, of_test, key = random.split(random.key(settings.seed), 3)
        state = start(of_weights)
        jax.block_until_ready((state, train_images))
        for epoch in range(1, settings.epochs + 1):
            started = clock("cpu")
            state, _ = jax.block_until_ready(
                train(state, train_images, random.fold_in(key, epoch))
            )
            yield {"epoch": epoch, "seconds": clock("cpu") - started}
        yield {"test_loss": float(test(state.weights, test_images, of_test))}


if __name__ == "__main__":
    enter(contest)
