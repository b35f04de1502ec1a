"""The claims, one module per part of a VAE, from the primitives up."""

from vae_ref.conformance.claims import (
    kl,
    reparameterization,
    likelihood,
    objective,
    importance,
    model,
    training,
)

__all__ = [
    "importance",
    "kl",
    "likelihood",
    "model",
    "objective",
    "reparameterization",
    "training",
]
