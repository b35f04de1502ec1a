"""The reference of richer posteriors and priors as a subject."""

import torch
from torch import Tensor

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import FlexibleVAE
from vae_ref.kinds import cholesky, mixtures, von_mises_fisher, von_mises_fisher_draws
from vae_ref.kinds.coupling import AffineCoupling
from vae_ref.kinds.flows import Flow, PlanarFlow

__all__ = ["reference"]


def reference(dtype: torch.dtype = torch.float32) -> FlexibleVAE:
    """Return the reference with parameters of a precision."""
    couplings = [AffineCoupling(2, 8), AffineCoupling(2, 8, swap=True)]
    flow = Flow([PlanarFlow(2), *couplings, PlanarFlow(2)]).to(dtype)
    encoder = torch.nn.Linear(4, 4).to(dtype)
    prior = mixtures.VampPrior(lambda u: encoder(u).chunk(2, -1), torch.randn(5, 4, dtype=dtype))

    def draw_prior(n: int) -> Tensor:
        gumbel = -torch.log(-torch.log(torch.rand(n, 5, dtype=dtype)))
        return mixtures.draw(*prior.components(), gumbel, torch.randn(n, 2, dtype=dtype))

    def components() -> tuple[None, Tensor, Tensor]:
        _, mu, logvar = prior.components()
        return None, mu, logvar

    def draw_vmf(mu: Tensor, kappa: Tensor) -> Tensor:
        uniform = torch.rand(len(mu), dtype=torch.float64)
        return von_mises_fisher_draws.draw(mu, kappa[:, 0], uniform, torch.randn_like(mu))

    return FlexibleVAE(
        name="the reference of richer posteriors and priors",
        kl_full=lambda mu, raw: cholesky.kl_to_standard_normal(mu, cholesky.factor(raw)),
        draw_full=lambda mu, raw, eps: cholesky.draw(mu, cholesky.factor(raw), eps),
        sample_full=lambda mu, raw: cholesky.draw(mu, cholesky.factor(raw), torch.randn_like(mu)),
        log_density_full=lambda z, mu, raw: cholesky.log_density(z, mu, cholesky.factor(raw)),
        factor="log-diagonal",
        flow=flow,
        kl_flow=lambda z, mu, logvar: flow.divergence(z, mu, logvar)[1],
        log_flexible_prior=prior.log_density,
        draw_flexible_prior=draw_prior,
        prior_components=components,
        prior_parameters=list(prior.parameters()),
        log_normaliser_vmf=lambda k, dim: von_mises_fisher.log_normaliser(k[:, 0], dim),
        kl_vmf=lambda k, dim: von_mises_fisher.kl_to_uniform(k[:, 0], dim),
        draw_vmf=draw_vmf,
        vmf_dims=(2, 3, 8),
        conventions=Conventions(dtype="float32" if dtype == torch.float32 else "float64"),
    )
