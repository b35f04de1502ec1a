"""The claims, one module per part of a VAE, from the primitives up."""

from vae_ref.conformance.claims import (
    conduct,
    importance,
    kl,
    likelihood,
    loop,
    model,
    objective,
    optimum,
    reasons,
    reparameterization,
    text,
    training,
)

__all__ = [
    "conduct",
    "importance",
    "kl",
    "likelihood",
    "loop",
    "model",
    "objective",
    "optimum",
    "reasons",
    "reparameterization",
    "text",
    "training",
]
