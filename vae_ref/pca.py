"""Probabilistic PCA: the optimum of a linear VAE, in closed form from a few eigenvalues."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_ref.checks import require_finite, require_positive_integer
from vae_ref.exact import LinearVAE
from vae_ref.shapes import Pixels
from vae_ref.support.errors import InputError

__all__ = ["Optimum", "probabilistic_pca"]


@dataclass(frozen=True, kw_only=True)
class Optimum:
    r"""The best linear VAE for a data set, by evidence and by ELBO, up to signs and order.

    Args:
        log_likelihood: The maximum, in nats per example.
        mean: The mean :math:`b` of the data, shape ``(pixels,)``.
        eigenvalues: The largest :math:`\lambda_j` of the covariance, shape ``(latent,)``.
        subspace: Their eigenvectors :math:`U`, shape ``(pixels, latent)``.
        variance: :math:`s^2`.
    """

    log_likelihood: float
    mean: Tensor
    eigenvalues: Tensor
    subspace: Tensor
    variance: float

    @property
    def weight(self) -> Tensor:
        """The decoder's weight W, shape ``(pixels, latent)``; its columns are orthogonal."""
        return self.subspace * (self.eigenvalues - self.variance).clamp(min=0).sqrt()

    @property
    def posterior_variance(self) -> Tensor:
        """The variance of every coordinate of q(z|x), shape ``(latent,)``: 1 is the prior's."""
        return (self.variance / self.eigenvalues).clamp(max=1)

    def model(self) -> LinearVAE:
        """Build the model that reaches the maximum."""
        pixels, latent = self.subspace.shape
        model = LinearVAE(pixels, latent).to(self.subspace)
        model.load_state_dict(
            {
                "decoder.weight": self.weight,
                "decoder.bias": self.mean,
                "mu.weight": (self.weight * self.posterior_variance / self.variance).T,
                "logvar": self.posterior_variance.log(),
                "likelihood.logvar": torch.tensor(math.log(self.variance)),
            }
        )
        return model


def probabilistic_pca(x: Pixels, latent_dim: int, *, variance: float | None = None) -> Optimum:
    r"""Solve the linear VAE: maximise the likelihood of a data set over all its parameters.

    With the eigenvalues :math:`\lambda_1 \ge \dots \ge \lambda_D` of the data's covariance (the
    mean of squares, not the unbiased estimate),

    .. math::
        s^2 = \frac{1}{D - q} \sum_{j > q} \lambda_j, \qquad
        W_j = u_j \sqrt{\lambda_j - s^2}, \qquad
        \sigma_j^2 = \frac{s^2}{\lambda_j}, \qquad
        \log p = -\tfrac12 \sum_{j=1}^D \Big(\log 2\pi c_j + \frac{\lambda_j}{c_j}\Big)

    where :math:`c_j = \lambda_j` for :math:`j \le q` and :math:`c_j = s^2` for the others. The
    likelihood determines :math:`W` up to a rotation of the code. The posterior of the VAE is
    diagonal, so its ELBO reaches the likelihood only for the :math:`W` above. If :math:`s^2` is
    given, coordinates with :math:`\lambda_j \le s^2` collapse: their column is zero, and their
    posterior is the prior.

    Args:
        x: The data, shape ``(examples, pixels)``.
        latent_dim: The number :math:`q` of coordinates of a code, fewer than the pixels.
        variance: :math:`s^2`, if it is fixed and not learned.

    Returns:
        The `Optimum`, in double precision.

    Raises:
        InputError: If ``x`` is not a finite matrix, ``latent_dim`` is not between 1 and the
            number of pixels, ``variance`` is not positive, or the data lie in a subspace of
            ``latent_dim`` dimensions, where the likelihood has no maximum.

    Example:
        >>> x = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> optimum = probabilistic_pca(x, latent_dim=1)
        >>> optimum.variance, optimum.posterior_variance
        (0.5, tensor([0.1111], dtype=torch.float64))

    References:
        Tipping and Bishop, *Probabilistic Principal Component Analysis*, 1999, equations 7 and 8.
        Lucas, Tucker, Grosse and Norouzi, *Don't Blame the ELBO!*, 2019, section 4.
    """
    _require_data(x, latent_dim)
    mean = x.double().mean(0)
    centred = x.double() - mean
    ascending, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    eigenvalues = ascending.flip(0).clamp(min=0)
    if variance is None:
        variance = eigenvalues[latent_dim:].mean().item()
        if variance <= x.shape[1] * torch.finfo(torch.float64).eps * eigenvalues[0].item():
            raise InputError(
                "x",
                f"vary in more than latent_dim = {latent_dim} dimensions",
                f"a remaining variance of {variance:.3g}",
                "Its likelihood has no maximum: use fewer latents, or pass a variance.",
            )
    elif not 0 < variance < math.inf:
        raise InputError("variance", "be positive and finite", variance, "Pass s**2.")
    kept = eigenvalues[:latent_dim]
    c = torch.cat([kept.clamp(min=variance), torch.full_like(eigenvalues[latent_dim:], variance)])
    return Optimum(
        log_likelihood=-0.5 * ((2 * math.pi * c).log() + eigenvalues / c).sum().item(),
        mean=mean,
        eigenvalues=kept,
        subspace=vectors.flip(1)[:, :latent_dim],
        variance=variance,
    )


def _require_data(x: Pixels, latent_dim: int) -> None:
    if x.ndim != 2 or not x.is_floating_point() or not x.numel():
        raise InputError(
            "x",
            "be a floating-point matrix (examples, pixels)",
            f"{x.dtype} of shape {tuple(x.shape)}",
            "Flatten images and divide bytes by 255.",
        )
    require_finite("x", x)
    require_positive_integer("latent_dim", latent_dim)
    if latent_dim >= x.shape[1]:
        raise InputError(
            "latent_dim",
            f"be less than the number of pixels, {x.shape[1]}",
            latent_dim,
            "The pixel variance is the mean over the dimensions that are left.",
        )
