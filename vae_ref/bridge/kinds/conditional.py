"""The reference of the conditional VAE as a subject."""

import torch
from torch import Tensor

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import ConditionalVAE
from vae_ref.gaussian import kl_between
from vae_ref.kinds import conditional

__all__ = ["reference"]


def reference(dtype: torch.dtype = torch.float32) -> ConditionalVAE:
    """Return the reference with weights of a precision."""
    model = conditional.ConditionalVAE(input_dim=12, classes=3, hidden_dim=8, latent_dim=4)
    model.to(dtype)

    def draw_prior(c: Tensor) -> Tensor:
        mu_p, _ = model.prior(c)
        return model.draw_prior(c, torch.randn_like(mu_p))

    return ConditionalVAE(
        name="the reference of the conditional VAE",
        kl_between=kl_between,
        prior=model.prior,
        draw_prior=draw_prior,
        decode_given=lambda z, c: model.decode(z.to(dtype), c),
        conditions=lambda n: torch.arange(n) % 3,
        conventions=Conventions(latent_shape=(4,)),
    )
