"""A reference for variational autoencoders that reads like the paper."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae_ref.conformance.audited import audit
    from vae_ref.data import DataError, ImageSet, fashion_mnist, mnist
    from vae_ref.data.glyphs import glyphs
    from vae_ref.exact import LinearVAE, exact_elbo, exact_log_evidence
    from vae_ref.gaussian import (
        entropy,
        kl_between,
        kl_to_standard_normal,
        log_density,
        reparameterize,
    )
    from vae_ref.likelihood import Bernoulli, ContinuousBernoulli, Gaussian, Likelihood
    from vae_ref.model import VAE, Autoencoder, LatentModel
    from vae_ref.objective import (
        Terms,
        importance_weighted_bound,
        log_weight,
        loss_function,
        negative_elbo,
    )
    from vae_ref.pca import Optimum, probabilistic_pca
    from vae_ref.plan import Plan
    from vae_ref.quadrature import elbo, log_evidence, posterior_gap
    from vae_ref.running.checkpoint import CheckpointError
    from vae_ref.running.history import Record
    from vae_ref.running.recipe import Recipe
    from vae_ref.running.run import Run
    from vae_ref.running.training import (
        DivergenceError,
        evaluate,
        fit,
        fit_together,
        log_likelihood,
    )
    from vae_ref.support.errors import InputError

    __version__: str

__all__ = [
    "VAE",
    "Autoencoder",
    "Bernoulli",
    "CheckpointError",
    "ContinuousBernoulli",
    "DataError",
    "DivergenceError",
    "Gaussian",
    "ImageSet",
    "InputError",
    "LatentModel",
    "Likelihood",
    "LinearVAE",
    "Optimum",
    "Plan",
    "Recipe",
    "Record",
    "Run",
    "Terms",
    "audit",
    "elbo",
    "entropy",
    "evaluate",
    "exact_elbo",
    "exact_log_evidence",
    "fashion_mnist",
    "fit",
    "fit_together",
    "glyphs",
    "importance_weighted_bound",
    "kl_between",
    "kl_to_standard_normal",
    "log_density",
    "log_evidence",
    "log_likelihood",
    "log_weight",
    "loss_function",
    "mnist",
    "negative_elbo",
    "posterior_gap",
    "probabilistic_pca",
    "reparameterize",
]

_EXPORTS = {
    "conformance.audited": ["audit"],
    "support.errors": ["InputError"],
    "data": ["DataError", "ImageSet", "fashion_mnist", "mnist"],
    "data.glyphs": ["glyphs"],
    "exact": ["LinearVAE", "exact_elbo", "exact_log_evidence"],
    "gaussian": [
        "entropy",
        "kl_between",
        "kl_to_standard_normal",
        "log_density",
        "reparameterize",
    ],
    "likelihood": ["Bernoulli", "ContinuousBernoulli", "Gaussian", "Likelihood"],
    "model": ["VAE", "Autoencoder", "LatentModel"],
    "objective": [
        "Terms",
        "importance_weighted_bound",
        "log_weight",
        "loss_function",
        "negative_elbo",
    ],
    "pca": ["Optimum", "probabilistic_pca"],
    "plan": ["Plan"],
    "quadrature": ["elbo", "log_evidence", "posterior_gap"],
    "running.checkpoint": ["CheckpointError"],
    "running.history": ["Record"],
    "running.recipe": ["Recipe"],
    "running.run": ["Run"],
    "running.training": ["DivergenceError", "evaluate", "fit", "fit_together", "log_likelihood"],
}
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}

if not TYPE_CHECKING:  # a type checker would take every name to exist

    def __getattr__(name: str) -> object:
        """Import a public name on first use, because pytest loads this package on every start."""
        if name == "__version__":
            from importlib import metadata

            value = metadata.version("vae_ref")
        elif name in _HOME:
            value = getattr(importlib.import_module(f"vae_ref.{_HOME[name]}"), name)
        elif name in _EXPORTS:
            return importlib.import_module(f"vae_ref.{name}")
        else:
            raise AttributeError(f"module 'vae_ref' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
