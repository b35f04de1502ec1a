"""The reference of the VAE with levels as a subject."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance.kinds import HierarchicalVAE
from vae_ref.kinds import hierarchy, levels, residual

__all__ = ["reference"]

Gaussians = Sequence[tuple[Tensor, Tensor]]


def _kl_residual(delta_mu: Tensor, delta_logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return residual.kl_residual(delta_mu, delta_logvar, logvar_p)


def _negative_elbo(nll: Tensor, posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return nll + levels.kl_levels(posteriors, priors)


def reference(dtype: torch.dtype = torch.float32) -> HierarchicalVAE:
    """Return the reference with weights of a precision."""
    model = hierarchy.HierarchicalVAE(input_dim=12, hidden_dim=8, latent_dims=(3, 4)).to(dtype)

    def noise(n: int) -> tuple[Tensor, Tensor]:
        return torch.randn(n, 3, dtype=dtype), torch.randn(n, 4, dtype=dtype)

    return HierarchicalVAE(
        name="the reference of the VAE with levels",
        kl_residual=_kl_residual,
        kl_levels=levels.kl_levels,
        kl_with_free_nats=partial(levels.kl_levels, free_nats=0.5),
        free_nats=0.5,
        negative_elbo_of_levels=_negative_elbo,
        prior_of_level=model.prior,
        draw_hierarchy=lambda n: model.draw(*noise(n)),
        draw_tempered=lambda n, temperature: model.draw(*noise(n), temperature),
        top_down=lambda x: [level[:3] for level in model.top_down(x, *noise(len(x)))],
        observations=lambda n: torch.rand(n, 12, dtype=dtype),
    )
