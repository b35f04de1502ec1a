import dataclasses
import math
import re

import pytest
import torch

from vae_ref import (
    VAE,
    Autoencoder,
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    InputError,
    Recipe,
)
from vae_ref.support.excerpt import excerpt

RECIPE = Recipe(hidden_dim=32, latent_dim=3)


def test_the_defaults_are_the_textbooks():
    recipe = Recipe()
    model = recipe.build(784)
    assert isinstance(model, VAE)
    assert (model.input_dim, model.hidden_dim, model.latent_dim) == (784, 400, 20)
    assert model.likelihood == Bernoulli()
    assert (recipe.batch_size, recipe.learning_rate, recipe.beta) == (128, 1e-3, 1.0)


@pytest.mark.parametrize(
    ("choice", "attribute", "expected"),
    [
        ({"model": "autoencoder"}, "__class__", Autoencoder),
        ({"likelihood": "gaussian"}, "likelihood", Gaussian()),
        ({"likelihood": "continuous-bernoulli"}, "likelihood", ContinuousBernoulli()),
        ({"latent_dim": 2}, "latent_dim", 2),
        ({"hidden_dim": 7}, "hidden_dim", 7),
    ],
)
def test_every_choice_reaches_the_model(choice, attribute, expected):
    assert getattr(Recipe(**choice).build(16), attribute) == expected


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset", "cifar"),
        ("model", "gan"),
        ("likelihood", "mse"),
        ("latent_dim", 0),
        ("latent_dim", 2.5),
        ("hidden_dim", -1),
        ("batch_size", 0),
        ("beta", -0.1),
        ("beta", math.nan),
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("latent_dim", 10_001),
        ("hidden_dim", 10**9),
        ("hidden_dim", True),
        ("batch_size", 1_000_001),
        ("beta", True),
        pytest.param("beta", 10**400, id="beta-10**400"),
        ("beta", "1"),
        ("learning_rate", "1"),
        ("seed", "1"),
        ("seed", 1.5),
        ("seed", True),
        ("seed", None),
    ],
)
def test_a_choice_out_of_range(field, value):
    with pytest.raises(InputError, match=f"^{field} must be .*; got {re.escape(excerpt(value))}"):
        Recipe(**{field: value})


def test_initial_weights_are_a_function_of_the_seed_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = RECIPE.build(784).state_dict()
    assert torch.get_rng_state().equal(state), "the global generator was used"
    torch.manual_seed(2)
    again = RECIPE.build(784).state_dict()
    other = dataclasses.replace(RECIPE, seed=1).build(784).state_dict()
    assert all(first[name].equal(again[name]) for name in first)
    assert not any(first[name].equal(other[name]) for name in first)
