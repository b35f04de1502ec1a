"""The claims, one module per part of a VAE, from the primitives up."""

from vae_ref.conformance.claims import (
    importance,
    kl,
    likelihood,
    model,
    objective,
    reparameterization,
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
