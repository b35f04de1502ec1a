"""Draw codes by the sampler of a step: as many as are asked for, in batches of the step's size."""

import torch
from torch import Tensor

from vae_ref.conformance.auditing.anatomy import Latent
from vae_ref.conformance.auditing.graph import Graph
from vae_ref.conformance.auditing.posterior import Posterior

__all__ = ["Sampler"]


class Sampler:
    """The sampler of a step as a function of (mu, logvar), with fresh noise.

    Args:
        graph: The step.
        latent: Its code.
        posterior: How raw numbers stand for mu and sigma.
        examples: How many examples the step has.
    """

    def __init__(self, graph: Graph, latent: Latent, posterior: Posterior, examples: int) -> None:
        self._graph, self._latent, self._posterior = graph, latent, posterior
        self._examples, self._size = examples, graph.values[latent.z].numel
        self._can_be_mapped = True

    def __call__(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Draw z by the step's own sampler, with fresh noise."""
        places = self._places(mu)
        filler = places < 0
        m, r = (
            torch.where(filler, rest, numbers.flatten()[places.clamp(min=0)])
            for numbers, rest in ((mu, 0.0), (self._posterior.inverse(logvar), 0.5))
        )
        z = self._draws(m, r)
        order = places[~filler].argsort()
        return z[~filler][order].reshape(mu.shape)

    def _places(self, mu: Tensor) -> Tensor:
        """Return which number of mu each place of each batch takes, and -1 for none.

        Where there is less noise than z, what shares it matters: an example of mu is one of the
        step, a latent is a latent, and the halves of mu are the halves of every batch.
        """
        numbers = torch.arange(mu.numel()).reshape(mu.shape)
        noise = sum(self._graph.values[n].numel for n in self._latent.noise)
        if noise >= self._size or mu.dim() != 2 or self._examples < 2:
            return _filled(numbers.flatten()[None], self._size, 1).flatten()
        latents, half = self._size // self._examples, self._examples // 2
        columns = _filled(numbers, latents, 1).reshape(len(mu), -1, latents).transpose(0, 1)
        halves = _filled(columns, 2, 1).reshape(len(columns), 2, -1, latents)
        halves = _filled(halves, half, 2).reshape(len(columns), 2, -1, half, latents)
        halves = halves.transpose(1, 2)
        return _filled(halves.reshape(-1, 2 * half, latents), self._examples, 1).flatten()

    def _draws(self, mu: Tensor, raw: Tensor) -> Tensor:
        """Draw the codes of as many batches as the numbers fill."""
        places = self._size
        if self._can_be_mapped and mu.numel() > places:
            whole = self._draws_mapped(mu, raw)
            if whole is not None:
                return whole
        parts = []
        for m, r in zip(mu.split(places), raw.split(places), strict=True):
            given = {self._posterior.mu: m, self._posterior.raw: r}
            shaped = {v: self._graph.shaped(v, numbers) for v, numbers in given.items()}
            (z,) = self._graph.replay([self._latent.z], shaped, fresh=True)
            parts.append(z.flatten())
        return torch.cat(parts)

    def _draws_mapped(self, mu: Tensor, raw: Tensor) -> Tensor | None:
        """Draw many batches by one replay that is mapped over them, with noise of their own."""
        found, values = self._posterior, self._graph.values
        times = mu.numel() // self._size

        def stacked(value: int, numbers: Tensor) -> Tensor:
            return numbers.to(values[value].dtype).reshape(times, *values[value].shape)

        def one(m: Tensor, r: Tensor, *noise: Tensor) -> Tensor:
            given = dict(zip(self._latent.noise, noise, strict=True))
            (z,) = self._graph.replay([self._latent.z], {found.mu: m, found.raw: r} | given)
            return z

        noise = [self._graph.draw(n, times) for n in self._latent.noise]
        try:
            z = torch.vmap(one)(stacked(found.mu, mu), stacked(found.raw, raw), *noise)
        except (RuntimeError, ValueError, TypeError):
            self._can_be_mapped = False
            return None
        return z.flatten()


def _filled(numbers: Tensor, multiple: int, axis: int) -> Tensor:
    """Lengthen an axis to a multiple of a number, with -1."""
    missing = list(numbers.shape)
    missing[axis] = -missing[axis] % multiple
    return torch.cat([numbers, numbers.new_full(missing, -1)], axis)
