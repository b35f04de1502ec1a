r"""Integrate over codes of one or two coordinates: the evidence of a VAE without any sampling.

Tests compare bounds with these integrals if the decoder is not linear. An integral is a sum over a
regular grid, by the trapezoid rule. Every step doubles the points per axis and extends the grid by
one at both ends, until no result changes any more. For smooth functions that decay at both ends,
the rule converges faster than any power of the spacing. A rectified linear unit has a kink, which
leaves an error proportional to the square of the spacing.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vae_ref.exact import LinearVAE
from vae_ref.gaussian import kl_to_standard_normal, log_density, reparameterize
from vae_ref.model import VAE
from vae_ref.shapes import Images, Noise, PerDraw, PerExample, Pixels
from vae_ref.support.errors import InputError

__all__ = ["elbo", "log_evidence", "posterior_gap"]

_LARGEST = {1: 2**16, 2: 2**11}  # points per axis, by the number of latents
_CHUNK = 2**21  # decoded pixels to work on at a time

_Nodes = tuple[Tensor, ...]  # the points of a grid in pieces, shape (points, latent) each


@torch.no_grad()
def log_evidence(model: VAE | LinearVAE, x: Images, *, atol: float = 1e-6) -> PerExample:
    r"""Compute the evidence by quadrature over the code.

    .. math:: \log p(x) = \log \int p(x \mid z)\, N(z; 0, I)\,dz

    Args:
        model: A model of one or two latents, in double precision.
        x: The data :math:`x`, shape ``(*batch, pixels)``, or images.
        atol: The accuracy in nats: the last step changed no value by more than this.

    Returns:
        The evidence in nats, shape ``(*batch)``.

    Raises:
        InputError: If the model has more than two latents or another precision, or if the
            largest grid does not reach ``atol``.

    Example:
        >>> model, x = VAE(16, 4, 1).double(), torch.rand(5, 16, dtype=torch.float64)
        >>> bool((elbo(model, x) < log_evidence(model, x)).all())
        True

    References:
        Trefethen and Weideman, *The Exponentially Convergent Trapezoidal Rule*, 2014.
    """

    def integral(x: Pixels, nodes: _Nodes, log_cell: float) -> PerExample:
        sums = [_log_joint(model, x, z).logsumexp(0) for z in nodes]
        return torch.stack(sums).logsumexp(0) + log_cell

    return _refine(integral, model, x, atol)


@torch.no_grad()
def elbo(model: VAE | LinearVAE, x: Images, *, atol: float = 1e-6) -> PerExample:
    r"""Compute the ELBO by quadrature over the noise.

    .. math::
        \mathrm{ELBO}(x) = \int N(\varepsilon; 0, I) \log p(x \mid \mu + \sigma\varepsilon)
        \,d\varepsilon - \mathrm{KL}\big(N(\mu, \sigma^2)\,\|\,N(0, I)\big)

    Args:
        model: A model of one or two latents, in double precision.
        x: The data :math:`x`, shape ``(*batch, pixels)``, or images.
        atol: The accuracy in nats: the last step changed no value by more than this.

    Returns:
        The ELBO in nats, shape ``(*batch)``.

    Raises:
        InputError: In the same cases as `log_evidence`.

    Example:
        >>> x = torch.zeros(5, 16, dtype=torch.float64)
        >>> elbo(VAE(16, 4, 1).double(), x).shape
        torch.Size([5])

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014, equation 3.
    """

    def integral(x: Pixels, nodes: _Nodes, log_cell: float) -> PerExample:
        mu, logvar = model.encode(x)
        total = -kl_to_standard_normal(mu, logvar)
        for eps in nodes:
            z = reparameterize(mu, logvar, eps[:, None].expand(-1, *mu.shape))
            nll = model.likelihood.nll(model.decode_logits(z), x)
            total -= torch.exp(_log_prior(eps) + log_cell) @ nll
        return total

    return _refine(integral, model, x, atol)


@torch.no_grad()
def posterior_gap(model: VAE | LinearVAE, x: Images, *, atol: float = 1e-6) -> PerExample:
    r"""Compute the gap between the ELBO and the evidence, from the posterior itself.

    .. math::
        \mathrm{KL}\big(q(z \mid x)\,\|\,p(z \mid x)\big)
        = \int q(z \mid x) \log \frac{q(z \mid x)}{p(z \mid x)}\,dz, \qquad
        p(z \mid x) = \frac{p(x \mid z)\,p(z)}{\int p(x \mid z)\,p(z)\,dz}

    Both densities are computed on one grid of codes. This uses neither the divergence from the
    prior nor the noise, so ``log_evidence - elbo`` is an independent way to the same number.

    Args:
        model: A model of one or two latents, in double precision.
        x: The data :math:`x`, shape ``(*batch, pixels)``, or images.
        atol: The accuracy in nats: the last step changed no value by more than this.

    Returns:
        The divergence in nats, shape ``(*batch)``.

    Raises:
        InputError: In the same cases as `log_evidence`.

    Example:
        >>> x = torch.zeros(5, 16, dtype=torch.float64)
        >>> bool((posterior_gap(VAE(16, 4, 1).double(), x) > 0).all())
        True

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014, equation 1.
    """

    def integral(x: Pixels, nodes: _Nodes, log_cell: float) -> PerExample:
        mu, logvar = model.encode(x)
        sums, total = [], torch.zeros_like(mu[:, 0])
        for z in nodes:
            log_p = _log_joint(model, x, z)
            log_q = log_density(z[:, None].expand(-1, *mu.shape), mu, logvar)
            total += (torch.exp(log_q + log_cell) * (log_q - log_p)).sum(0)
            sums.append(log_p.logsumexp(0))
        return total + torch.stack(sums).logsumexp(0) + log_cell

    return _refine(integral, model, x, atol)


def _log_prior(z: Noise) -> PerDraw:
    zero = torch.zeros_like(z[0])
    return log_density(z, zero, zero)


def _log_joint(model: VAE | LinearVAE, x: Pixels, z: Noise) -> PerDraw:
    """Compute log p(x, z) for every code with every example, shape ``(codes, examples)``."""
    outputs = model.decode_logits(z)[:, None].expand(-1, *x.shape)
    return _log_prior(z)[:, None] - model.likelihood.nll(outputs, x)


def _refine(
    integral: Callable[[Pixels, _Nodes, float], PerExample],
    model: VAE | LinearVAE,
    x: Images,
    atol: float,
) -> PerExample:
    """Integrate on finer and wider grids until no value changes by more than ``atol``."""
    if model.latent_dim not in _LARGEST:
        raise InputError(
            "model",
            "have one or two latents",
            model.latent_dim,
            "For more latents a grid is too large; use an importance-weighted bound.",
        )
    if model.dtype != torch.float64:
        raise InputError(
            "model", "be in double precision", model.dtype, "Convert it with model.double()."
        )
    flat = model.flat(x)
    pixels = flat.reshape(-1, model.input_dim)
    size = max(1, _CHUNK // max(1, pixels.numel()))
    count, reach, last = 128, 8.0, torch.full_like(pixels[:, 0], math.nan)
    while count <= _LARGEST[model.latent_dim]:
        axis = torch.linspace(-reach, reach, count).to(pixels)
        nodes = torch.cartesian_prod(*[axis] * model.latent_dim).view(-1, model.latent_dim)
        log_cell = model.latent_dim * math.log(2 * reach / (count - 1))
        value = integral(pixels, nodes.split(size), log_cell)
        change = (value - last).abs()
        if bool((change <= atol).all()):
            return value.view(flat.shape[:-1])
        count, reach, last = 2 * count, reach + 1, value
    raise InputError(
        "atol",
        f"be within reach of {count // 2} points per axis",
        f"{atol:g}, and the last doubling changed a value by {change.max().item():.2g} nats",
        "Pass a larger atol. Otherwise the model has too much detail for a grid.",
    )
