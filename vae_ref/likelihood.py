r"""Score pixels under the decoder: :math:`-\log p(x \mid z)` for three families.

A likelihood turns the ``outputs`` of a decoder's last layer into a distribution of every pixel.
Every family computes the negative log-likelihood of an example (in nats, with **all** constants,
summed over the last axis), the mean, which is what pictures show, and draws, from given noise.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref import checks
from vae_ref.elementwise import elementwise
from vae_ref.shapes import Outputs, PerDraw, Pixels

__all__ = ["Bernoulli", "ContinuousBernoulli", "Gaussian", "Likelihood"]


@runtime_checkable
class Likelihood(Protocol):
    """The distribution of the pixels, given the outputs of the decoder."""

    def nll(self, outputs: Outputs, x: Pixels) -> PerDraw:
        """Compute the negative log-likelihood of ``x`` in nats, one value per draw."""
        ...

    def mean(self, outputs: Outputs) -> Outputs:
        """Compute the mean of every pixel."""
        ...

    def sample(self, outputs: Outputs, noise: Outputs) -> Outputs:
        """Turn noise of the shape of ``outputs`` into a draw of every pixel."""
        ...


@dataclass(frozen=True)
class Bernoulli:
    r"""Model pixels as independent coin tosses with logits :math:`\eta`.

    .. math::
        -\log p(x \mid \eta) = \sum_i \log(1 + e^{\eta_i}) - x_i \eta_i
        = -\sum_i x_i \log p_i + (1 - x_i) \log(1 - p_i),
        \qquad p_i = \frac{1}{1 + e^{-\eta_i}}

    This is the binary cross-entropy, a likelihood for pixels that are 0 or 1. For a grey pixel it
    is the expected negative log-likelihood of a pixel that is 1 with probability :math:`x_i`. This
    is the usual objective on MNIST. Its minimum over :math:`p` is the entropy of the pixels, not
    zero. `ContinuousBernoulli` is a density of grey pixels.

    The value is computed from logits, by torch. For every finite logit, its error is at most a few
    roundings of the logit. So a value that is much smaller loses its digits, such as that of a
    black pixel with a logit of -15.

    Example:
        >>> Bernoulli().nll(torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.5]]))
        tensor([2.0794])
        >>> Bernoulli().mean(torch.zeros(1, 3))
        tensor([[0.5000, 0.5000, 0.5000]])

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014, appendix C.1.
    """

    def nll(self, outputs: Outputs, x: Pixels) -> PerDraw:
        """Compute the binary cross-entropy in nats, summed over pixels.

        Args:
            outputs: The logits, shape ``(*batch, pixels)``, or with additional leading axes.
            x: Pixels in [0, 1], shape ``(*batch, pixels)``.

        Raises:
            InputError: If the shapes do not match or a pixel is outside [0, 1].
        """
        checks.require_extends("outputs", outputs, "x", x)
        checks.require_in_unit_interval("x", x)
        return F.binary_cross_entropy_with_logits(
            outputs, x.expand_as(outputs), reduction="none"
        ).sum(-1)

    def mean(self, outputs: Outputs) -> Outputs:
        """Compute the probability that a pixel is 1."""
        return torch.sigmoid(outputs)

    def sample(self, outputs: Outputs, noise: Outputs) -> Outputs:
        """Set a pixel to 1 where uniform ``noise`` in [0, 1) is below its probability."""
        return (noise < self.mean(outputs)).to(outputs)


@dataclass(frozen=True)
class Gaussian:
    r"""Model pixels as independent normals with the outputs :math:`m` as means.

    .. math::
        -\log p(x \mid m) = \sum_i \frac{(x_i - m_i)^2}{2\sigma^2} + \tfrac12 \log 2\pi\sigma^2

    With the default :math:`\sigma^2 = \tfrac12` this is *exactly* the sum of squared errors plus a
    constant, :math:`\tfrac12 \log \pi` per pixel (0.5724 nats; 448.7 for 784 pixels). A squared
    error with the weight :math:`w` is the case :math:`\sigma^2 = 1 / (2w)`. The *mean* of squared
    errors over :math:`D` pixels, usually called MSE, is the case :math:`\sigma^2 = D / 2`. So the
    variance sets the balance between the reconstruction and the divergence.

    Args:
        variance: :math:`\sigma^2`, a positive number; or a tensor with the shape of the outputs or
            of their last axes, for a decoder that also computes variances.

    Raises:
        InputError: If a variance is not positive and finite.

    Example:
        >>> x, m = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.0]])
        >>> Gaussian().nll(m, x) - 2 * 0.5 * math.log(math.pi)
        tensor([1.2500])

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014, appendix C.2.
        Rybkin, Daniilidis and Levine, *Simple and Effective VAE Training with Calibrated
        Decoders*, 2021.
    """

    variance: float | Tensor = 0.5

    def __post_init__(self) -> None:
        checks.require_positive("variance", torch.as_tensor(self.variance, dtype=torch.float64))

    def nll(self, outputs: Outputs, x: Pixels) -> PerDraw:
        """Compute the negative log density in nats, summed over pixels.

        Args:
            outputs: The means, shape ``(*batch, pixels)``, or with additional leading axes.
            x: Finite values, shape ``(*batch, pixels)``.

        Raises:
            InputError: If the shapes do not match or a value is not finite.
        """
        checks.require_extends("outputs", outputs, "x", x)
        checks.require_finite("x", x)
        if isinstance(self.variance, Tensor):
            checks.require_extends("outputs", outputs, "variance", self.variance)
            log: float | Tensor = self.variance.log()
        else:
            log = math.log(self.variance)
        constant = 0.5 * (math.log(2 * math.pi) + log)
        return ((x - outputs).square() / (2 * self.variance) + constant).sum(-1)

    def mean(self, outputs: Outputs) -> Outputs:
        """Return the outputs, which are the means."""
        return outputs

    def sample(self, outputs: Outputs, noise: Outputs) -> Outputs:
        """Scale standard normal ``noise`` and add it to the means."""
        return outputs + self.variance**0.5 * noise


@dataclass(frozen=True)
class ContinuousBernoulli:
    r"""Model grey pixels in [0, 1] with a density, which the cross-entropy is not.

    .. math::
        p(x \mid \eta) = \prod_i e^{\eta_i x_i - A(\eta_i)}, \qquad
        A(\eta) = \log \int_0^1 e^{\eta x}\,dx = \log \frac{e^\eta - 1}{\eta}

    If the binary cross-entropy is read as a density over [0, 1], its integral is not one. Division
    by this integral gives the family. The parameter in the paper below is
    :math:`\lambda = 1 / (1 + e^{-\eta})`; the mean is :math:`A'(\eta)`, not :math:`\lambda`.

    Example:
        >>> ContinuousBernoulli().nll(torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.5]]))
        tensor([0.])
        >>> ContinuousBernoulli().mean(torch.tensor([-1e9, 0.0, 1e9]))
        tensor([1.0000e-09, 5.0000e-01, 1.0000e+00])

    References:
        Loaiza-Ganem and Cunningham, *The Continuous Bernoulli*, 2019.
    """

    def nll(self, outputs: Outputs, x: Pixels) -> PerDraw:
        """Compute the negative log density in nats, summed over pixels; it may be negative.

        Args:
            outputs: The logits, shape ``(*batch, pixels)``, or with additional leading axes.
            x: Pixels in [0, 1], shape ``(*batch, pixels)``.

        Raises:
            InputError: If the shapes do not match or a pixel is outside [0, 1].
        """
        checks.require_extends("outputs", outputs, "x", x)
        checks.require_in_unit_interval("x", x)
        # p(x | eta) = p(1 - x | -eta) makes eta negative, so that the large parts of eta * x and
        # A(eta) are never subtracted from each other. (The gradient of abs would be 0 at 0.)
        eta = torch.where(outputs > 0, -outputs, outputs)
        mirrored = torch.where(outputs > 0, 1 - x, x)
        return (_log_normaliser(eta) - eta * mirrored).sum(-1)

    def mean(self, outputs: Outputs) -> Outputs:
        """Compute the mean of every pixel, the derivative of the log normaliser."""
        return _mean(outputs)

    def sample(self, outputs: Outputs, noise: Outputs) -> Outputs:
        """Apply the inverse distribution function to uniform ``noise`` in [0, 1)."""
        eta = -outputs.abs()
        safe = torch.where(eta == 0, -1.0, eta)
        u = torch.where(outputs > 0, 1 - noise, noise)
        x = torch.where(eta == 0, u, torch.log1p(u * torch.expm1(safe)) / safe)
        x = x.clamp(max=1)  # if exp(eta) underflows, u = 1 gives log(0) / eta
        return torch.where(outputs > 0, 1 - x, x)


def _mean(eta: Tensor) -> Tensor:
    """Compute the derivative of the log normaliser, 1 / (1 - exp(-eta)) - 1 / eta.

    Near zero it is computed as 1/2 + L(eta / 2) / 2, where L is Langevin's function. L is given by
    Lambert's continued fraction, L(h) = h / (3 + h^2 / (5 + h^2 / (7 + ...))).
    """
    is_near = eta.abs() < 2
    h = torch.where(is_near, eta / 2, 0)
    fraction = torch.full_like(h, 19)
    for n in range(17, 1, -2):
        fraction = n + h * h / fraction
    size = torch.where(is_near, 2, eta.abs())
    tail = 1 / size + torch.exp(-size) / torch.expm1(-size)
    far = torch.where(eta > 0, 1 - tail, tail)
    return torch.where(is_near, 0.5 + 0.5 * h / fraction, far)


def _log_normaliser_value(eta: Tensor) -> Tensor:
    """Compute it as eta / 2 + log(sinh(h) / h) with h = eta / 2, or, far from zero, directly."""
    is_near = eta > -2
    square = torch.where(is_near, eta / 2, 0).square()
    one = series = torch.ones_like(eta)
    for n in range(18, 2, -2):  # sinh(h) / h = 1 + h^2 / 6 (1 + h^2 / 20 (1 + ...))
        series = torch.addcmul(one, square, series, value=1 / (n * (n + 1)))
    near = eta / 2 + torch.log1p(square / 6 * series)
    size = torch.where(is_near, 2, -eta)
    return torch.where(is_near, near, torch.log1p(-torch.exp(-size)) - torch.log(size))


#: log((exp(eta) - 1) / eta), for eta <= 0.
_log_normaliser = elementwise(_log_normaliser_value, _mean)
