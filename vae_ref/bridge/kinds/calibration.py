"""The exact posterior of a linear model as a subject."""

import torch
from torch import Tensor

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import AmortisedPosterior
from vae_ref.gaussian import reparameterize
from vae_ref.kinds.linear import posterior

__all__ = ["reference"]

_VARIANCE = 0.5


def reference(dtype: torch.dtype = torch.float32) -> AmortisedPosterior:
    """Return the posterior in a precision; the columns of W are orthogonal."""
    w = torch.linalg.qr(torch.randn(6, 3, dtype=dtype)).Q * torch.tensor([0.5, 1.0, 2.0])
    w = w.to(dtype)

    def simulate(n: int) -> tuple[Tensor, Tensor]:
        z = torch.randn(n, 3, dtype=dtype)
        return z, z @ w.T + _VARIANCE**0.5 * torch.randn(n, 6, dtype=dtype)

    def gaussian(x: Tensor) -> tuple[Tensor, Tensor]:
        zero = torch.zeros(len(x), 3, dtype=dtype)
        mean, covariance = posterior(x, w, zero, zero, _VARIANCE)
        return mean, torch.diagonal(covariance, dim1=-2, dim2=-1).log()

    def draw(x: Tensor, draws: int) -> Tensor:
        mu, logvar = gaussian(x)
        return reparameterize(mu, logvar, torch.randn(draws, *mu.shape, dtype=dtype))

    return AmortisedPosterior(
        name="the exact posterior of the linear model",
        simulate=simulate,
        gaussian_posterior=gaussian,
        draw_posterior=draw,
        exact=True,
        conventions=Conventions(dtype="float32" if dtype == torch.float32 else "float64"),
    )
