"""The reference of discrete codes as a subject."""

import torch
from torch import Tensor

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import CategoricalVAE
from vae_ref.kinds import categorical, gumbel
from vae_ref.likelihood import Bernoulli

__all__ = ["reference"]


def _noise(logits: Tensor) -> Tensor:
    return gumbel.gumbel(torch.rand_like(logits))


def _loss(outputs: Tensor, x: Tensor, logits: Tensor) -> Tensor:
    nll = Bernoulli().nll(torch.logit(outputs), x)
    return (nll + categorical.kl_to_uniform(logits)).mean()


def reference(dtype: torch.dtype = torch.float32) -> CategoricalVAE:
    """Return the reference, which computes in a precision."""
    return CategoricalVAE(
        name="the reference of discrete codes",
        kl_to_uniform=categorical.kl_to_uniform,
        kl_to_categorical=categorical.kl_between,
        entropy_of_codes=categorical.entropy,
        gumbel_softmax=lambda logits, t: gumbel.gumbel_softmax(logits, _noise(logits), t),
        straight_through=lambda logits, t: gumbel.straight_through(logits, _noise(logits), t),
        log_density_relaxed=gumbel.log_density,
        loss_of_codes=_loss,
        conventions=Conventions(dtype="float32" if dtype == torch.float32 else "float64"),
    )
