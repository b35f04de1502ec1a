"""The random numbers of a training, as a function of the seed and the epoch.

No generator keeps a state from one epoch to the next. The permutation and the noise of an epoch
are computed from its number, on the CPU. So a run has the same random numbers if it is interrupted
and resumed, and if it uses another engine or device.
"""

import hashlib
from dataclasses import dataclass

import torch

from vae_ref.shapes import Codes, Order

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """The random numbers of a training.

    Args:
        seed: Any integer; another seed gives an unrelated plan.

    Example:
        >>> plan = Plan(seed=0)
        >>> bool((plan.permutation(epoch=1, count=5) == Plan(0).permutation(1, 5)).all())
        True
        >>> plan.noise(epoch=1, count=5, latent_dim=2).shape
        torch.Size([5, 2])
    """

    seed: int = 0

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Make a separate generator for a purpose, such as ``("noise", epoch)``."""
        text = "/".join(map(str, (self.seed, *purpose)))
        digest = hashlib.sha256(text.encode()).digest()
        # torch's CPU generator uses 32 bits of a seed; the hash spreads all purposes over them.
        return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:4], "little"))

    def permutation(self, epoch: int, count: int) -> Order:
        """Return the order in which an epoch visits its ``count`` examples."""
        generator = self.generator("permutation", epoch)
        return torch.randperm(count, generator=generator, device="cpu")

    def noise(self, epoch: int, count: int, latent_dim: int) -> Codes:
        """Return an epoch's noise, one row for every *position* in its order."""
        return _normal(count, latent_dim, self.generator("noise", epoch))

    def test_noise(self, count: int, latent_dim: int) -> Codes:
        """Return the noise for the evaluation of a test set, the same after every epoch."""
        return _normal(count, latent_dim, self.generator("test"))

    def prior(self, count: int, latent_dim: int) -> Codes:
        """Return draws from the prior, the same for every picture of a run."""
        return _normal(count, latent_dim, self.generator("prior"))


def _normal(count: int, latent_dim: int, generator: torch.Generator) -> Codes:
    # Drawn in double precision and rounded: in single precision, torch uses other instructions on
    # other processors. A plan has the same noise for every precision of the model.
    size = count, latent_dim
    noise = torch.randn(size, generator=generator, dtype=torch.float64, device="cpu")
    return noise.to(torch.float32)
