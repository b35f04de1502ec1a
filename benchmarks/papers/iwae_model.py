"""The VAE and the IWAE of Burda, Grosse and Salakhutdinov (2016) with one stochastic layer.

784-200-200-50 and back, tanh. The network is a `VAE` of the package with these layers in place of
the textbook's, so that all that the package computes of a VAE it computes of this one.
"""

from dataclasses import replace
from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from vae_ref import (
    VAE,
    ImageSet,
    Plan,
    importance_weighted_bound,
    log_likelihood,
    log_weight,
    reparameterize,
)
from vae_ref.checks import unchecked

Objective = Literal["vae", "iwae"]

BINARISATION = (
    "stochastic, anew at every presentation; "
    "test: stochastic, once per image, a function of the seed, the same at every evaluation"
)
ACTIVE = 0.01


class LogVariance(nn.Linear):
    """A head that puts out log sigma, as the authors' does, and returns ``2 * log sigma``."""

    def forward(self, h: Tensor) -> Tensor:
        return 2 * super().forward(h)


def network(train: ImageSet, plan: Plan, *, hidden_dim: int = 200, latent_dim: int = 50) -> VAE:
    """Make the network with its initial weights, a function of the plan's seed.

    Weights are uniform within +-sqrt(6 / (inputs + outputs)) (Glorot and Bengio, 2010), biases
    zero but for those of the pixels, which start at the training mean.
    """
    pixels = train.images.shape[1]
    model = VAE(pixels, hidden_dim, latent_dim)
    model.encoder = nn.Sequential(*_tanh(pixels, hidden_dim), *_tanh(hidden_dim, hidden_dim))
    model.logvar = LogVariance(hidden_dim, latent_dim)
    last = nn.Linear(hidden_dim, pixels)
    model.decoder = nn.Sequential(
        *_tanh(latent_dim, hidden_dim), *_tanh(hidden_dim, hidden_dim), last
    )
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=plan.generator("weights", name))
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        last.bias.copy_(mean_logits(train))
    return model


def mean_logits(train: ImageSet) -> Tensor:
    """Return the logit of every pixel's mean, which the authors keep within 0.001 of 0 and 1."""
    mean = train.images.sum(0, dtype=torch.int64).double() / (255 * len(train))
    return torch.logit(mean.clamp(0.001, 0.999))


def _tanh(inputs: int, outputs: int) -> tuple[nn.Linear, nn.Tanh]:
    return nn.Linear(inputs, outputs), nn.Tanh()


def binarised(images: Tensor, plan: Plan, *purpose: str | int) -> Tensor:
    """Light each pixel, a byte b, with probability b / 255, exactly; a bool of the same shape.

    The random numbers are a function of the plan's seed and the purpose, such as an epoch.
    """
    generator = plan.generator("binarisation", *purpose)
    levels = torch.randint(0, 255, images.shape, dtype=torch.uint8, generator=generator)
    return levels.to(images.device) < images


def binarised_test(test: ImageSet, plan: Plan) -> ImageSet:
    """Binarise a test set, once for a whole run."""
    return replace(test, images=binarised(test.images, plan, "test").to(torch.uint8) * 255)


def log_weights(model: VAE, x: Tensor, eps: Tensor) -> Tensor:
    """Compute log w in nats, shape ``(k, batch)``, from noise of shape ``(k, batch, latent)``."""
    mu, logvar = model.encode(x)
    z = reparameterize(mu, logvar, eps)
    return log_weight(x, model.decode_logits(z), z, mu, logvar, likelihood=model.likelihood)


def bound(log_w: Tensor, objective: Objective) -> Tensor:
    r"""Turn log weights, shape ``(k, batch)``, into what is maximised, one value per example.

    The VAE averages k samples of the ELBO, :math:`\frac1k \sum_i \log w_i`, the divergence sampled
    as in the IWAE; the IWAE takes :math:`\log \frac1k \sum_i w_i`, whose gradient is
    :math:`\sum_i \tilde w_i \nabla \log w_i` with the weights normalised to sum to one.
    """
    match objective:
        case "vae":
            return log_w.mean(0)
        case "iwae":
            return importance_weighted_bound(log_w)
        case _:
            assert_never(objective)


def negative_log_likelihood(model: VAE, test: ImageSet, plan: Plan, *, samples: int) -> Tensor:
    """Estimate -log p(x) by -L_K in nats, shape ``(examples,)``, in chunks of images and samples.

    The images must be binarised. With one sample it is the negative ELBO.
    """
    with unchecked():  # bytes over 255 lie in [0, 1]
        return -log_likelihood(model, test, samples=samples, plan=plan)


@torch.inference_mode()
def active_units(model: VAE, test: ImageSet) -> int:
    """Count the coordinates of which Var_x(E[z | x]) exceeds 0.01, the paper's criterion."""
    indices = torch.arange(len(test), device=test.images.device).split(1000)
    mu = torch.cat([model.encode(test.batch(index, model.dtype))[0] for index in indices])
    return int((mu.double().var(0, correction=0) > ACTIVE).sum())
