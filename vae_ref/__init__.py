"""The ground truth for variational autoencoders: a reference that reads like the paper."""

from importlib.metadata import version

from vae_ref.checks import InputError
from vae_ref.data import ImageSet, fashion_mnist, mnist
from vae_ref.gaussian import (
    entropy,
    kl_between,
    kl_to_standard_normal,
    log_density,
    reparameterize,
)
from vae_ref.glyphs import glyphs
from vae_ref.likelihood import Bernoulli, ContinuousBernoulli, Gaussian, Likelihood
from vae_ref.model import VAE, Autoencoder, LatentModel
from vae_ref.objective import (
    Terms,
    importance_weighted_bound,
    log_weight,
    loss_function,
    negative_elbo,
)
from vae_ref.plan import Plan
from vae_ref.recipe import Recipe
from vae_ref.run import Run
from vae_ref.training import evaluate, fit, log_likelihood

__version__ = version("vae_ref")

__all__ = [
    "VAE",
    "Autoencoder",
    "Bernoulli",
    "ContinuousBernoulli",
    "Gaussian",
    "ImageSet",
    "InputError",
    "LatentModel",
    "Likelihood",
    "Plan",
    "Recipe",
    "Run",
    "Terms",
    "entropy",
    "evaluate",
    "fashion_mnist",
    "fit",
    "glyphs",
    "importance_weighted_bound",
    "kl_between",
    "kl_to_standard_normal",
    "log_density",
    "log_likelihood",
    "log_weight",
    "loss_function",
    "mnist",
    "negative_elbo",
    "reparameterize",
]
