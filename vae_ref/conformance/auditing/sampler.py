"""Draw codes by the sampler of a step: as many as are asked for, in batches of the step's size."""

from collections.abc import Sequence

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
        codes: Its codes, each with how raw numbers stand for mu and sigma.
        examples: How many examples the step has.
    """

    def __init__(
        self, graph: Graph, codes: Sequence[tuple[Latent, Posterior]], examples: int
    ) -> None:
        self._graph, self._codes, self._examples = graph, codes, examples
        self._noise = sorted({n for latent, _ in codes for n in latent.noise})
        self._targets = [latent.z for latent, _ in codes]
        self._sizes = [graph.values[how.mu].numel for _, how in codes]
        self._taken = [_first_draws(how) for _, how in codes]
        self._size = sum(self._sizes)
        self._can_be_mapped = True

    def __call__(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Draw z by the step's own sampler, with fresh noise."""
        places = self._places(mu)
        filler = places < 0
        m, v = (
            torch.where(filler, 0.0, numbers.flatten()[places.clamp(min=0)])
            for numbers in (mu, logvar)
        )
        z = self._draws(m, v)
        filled = places[~filler]
        order = torch.empty_like(filled)
        order[filled] = torch.arange(len(filled))
        return z[~filler][order].reshape(mu.shape)

    def _places(self, mu: Tensor) -> Tensor:
        """Return which number of mu each place of each batch takes, and -1 for none.

        Where there is less noise than z, what shares it matters: an example of mu is one of the
        step, a latent is a latent, and the halves of mu are the halves of every batch.
        """
        numbers = torch.arange(mu.numel()).reshape(mu.shape)
        noise = sum(self._graph.values[n].numel for n in self._noise)
        if noise >= self._size or mu.dim() != 2 or self._examples < 2:
            return _filled(numbers.flatten()[None], self._size, 1).flatten()
        latents, half = self._size // self._examples, self._examples // 2
        columns = _filled(numbers, latents, 1).reshape(len(mu), -1, latents).transpose(0, 1)
        halves = _filled(columns, 2, 1).reshape(len(columns), 2, -1, latents)
        halves = _filled(halves, half, 2).reshape(len(columns), 2, -1, half, latents)
        halves = halves.transpose(1, 2)
        return _filled(halves.reshape(-1, 2 * half, latents), self._examples, 1).flatten()

    def _draws(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Draw the codes of as many batches as the numbers fill."""
        given = self._given(mu.reshape(-1, self._size), logvar.reshape(-1, self._size))
        if self._can_be_mapped and mu.numel() > self._size:
            whole = self._draws_mapped(given)
            if whole is not None:
                return whole
        parts = []
        for number in range(mu.numel() // self._size):
            one = {value: numbers[number] for value, numbers in given.items()}
            codes = self._graph.replay(self._targets, one, fresh=True)
            parts += [z.flatten()[taken] for z, taken in zip(codes, self._taken, strict=True)]
        return torch.cat(parts)

    def _given(self, mu: Tensor, logvar: Tensor) -> dict[int, Tensor]:
        """Return the values of every posterior, stacked for all batches."""
        given, values = dict[int, Tensor](), self._graph.values
        parts = mu.split(self._sizes, 1), logvar.split(self._sizes, 1)
        for (_, how), m, v in zip(self._codes, *parts, strict=True):
            for value, numbers in ((how.mu, m), (how.raw, how.inverse(v))):
                found = values[value]
                given[value] = numbers.to(found.dtype).reshape(len(mu), *found.shape)
        return given

    def _draws_mapped(self, given: dict[int, Tensor]) -> Tensor | None:
        """Draw many batches by one replay that is mapped over them, with noise of their own."""
        times = len(next(iter(given.values())))

        def one(noise: list[Tensor], posteriors: dict[int, Tensor]) -> list[Tensor]:
            drawn = dict(zip(self._noise, noise, strict=True))
            return self._graph.replay(self._targets, posteriors | drawn)

        noise = [self._graph.draw(n, times) for n in self._noise]
        try:
            codes = torch.vmap(one)(noise, given)
        except (RuntimeError, ValueError, TypeError):
            self._can_be_mapped = False
            return None
        drawn = [z.flatten(1)[:, taken] for z, taken in zip(codes, self._taken, strict=True)]
        return torch.cat(drawn, 1).flatten()


def _first_draws(posterior: Posterior) -> Tensor | slice:
    """Return which numbers of z are the first draws of those of mu, in the order of mu."""
    if posterior.copies is None:
        return slice(None)
    return posterior.copies.sort(stable=True).indices.reshape(-1, _draws(posterior.copies))[:, 0]


def _draws(copies: Tensor) -> int:
    return int((copies == copies[0]).sum())


def _filled(numbers: Tensor, multiple: int, axis: int) -> Tensor:
    """Lengthen an axis to a multiple of a number, with -1."""
    missing = list(numbers.shape)
    missing[axis] = -missing[axis] % multiple
    return torch.cat([numbers, numbers.new_full(missing, -1)], axis)
