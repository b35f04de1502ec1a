"""Train and evaluate a model."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from vae_ref.checks import require_positive_integer, unchecked
from vae_ref.data import ImageSet
from vae_ref.engines import choose, make
from vae_ref.engines.native import Native
from vae_ref.model import VAE, LatentModel
from vae_ref.objective import importance_weighted_bound, log_weight
from vae_ref.plan import Plan
from vae_ref.running.history import Record
from vae_ref.running.run import Run
from vae_ref.shapes import Codes, PerExample
from vae_ref.support.errors import InputError, UserError
from vae_ref.support.platform import constants_in_memory

__all__ = ["Averages", "DivergenceError", "evaluate", "fit", "fit_together", "log_likelihood"]


class DivergenceError(UserError):
    """A loss is no longer finite; the message says which loss, and in which epoch."""


def fit(
    run: Run,
    train: ImageSet,
    test: ImageSet,
    *,
    epochs: int,
    progress: Callable[[int], object] = lambda seen: None,
) -> Iterator[Record]:
    """Train; each time the caller asks for the next record, one epoch is trained.

    Nothing happens between two records, so the caller may save, draw pictures or stop there.

    Args:
        run: The training to begin or continue, changed in place.
        train: The training images.
        test: The test images.
        epochs: The number of the last epoch, counted from the beginning of the run.
        progress: Called after every step with the number of examples that the epoch has seen.

    Yields:
        A ``Record`` for every epoch.

    Raises:
        DivergenceError: If a loss is no longer finite.
        InputError: If a set is empty.

    Example:
        >>> from vae_ref import Recipe, Run, glyphs
        >>> run = Run.start(Recipe(dataset="glyphs"), size=(28, 28))
        >>> for record in fit(run, glyphs(1000), glyphs(100, seed=1), epochs=2):
        ...     print(record.epoch, record.train_loss < 550)
        1 True
        2 True
    """
    for records in fit_together([run], train, test, epochs=epochs, progress=progress):
        yield from records


def fit_together(
    runs: Sequence[Run],
    train: ImageSet,
    test: ImageSet,
    *,
    epochs: int,
    progress: Callable[[int], object] = lambda seen: None,
) -> Iterator[list[Record]]:
    """Train several seeds of one recipe side by side, as one program if the engine can.

    Each run computes what it would compute alone, except for rounding, because sums are computed
    in another order.

    Args:
        runs: Runs that differ only in their seed and are at the same epoch, changed in place.
        train: The training images.
        test: The test images.
        epochs: The number of the last epoch, counted from the beginning of the runs.
        progress: As for `fit`.

    Yields:
        For every epoch, the ``Record`` of each run; the seconds are those of all runs together.

    Raises:
        DivergenceError: If a loss is no longer finite.
        InputError: If a set is empty, or the runs differ in recipe, epoch or engine.

    Example:
        >>> from vae_ref import Recipe, Run, glyphs
        >>> recipes = [Recipe(dataset="glyphs", seed=seed) for seed in range(2)]
        >>> runs = [Run.start(recipe, size=(28, 28)) for recipe in recipes]
        >>> for one, other in fit_together(runs, glyphs(1000), glyphs(100, seed=1), epochs=1):
        ...     print(one.epoch, one.train_loss != other.train_loss)
        1 True
    """
    for name, data in ("train", train), ("test", test):
        if not len(data):
            raise InputError(name, "hold an image", "none", "Pass a set of 1 or more.")
    kinds = {(replace(run.recipe, seed=0), run.epoch, run.here) for run in runs}
    if len(kinds) != 1:
        raise InputError(
            "runs", "share recipe, epoch and engine", f"{len(kinds)} kinds", "Vary only the seed."
        )
    ((recipe, done, here),) = kinds
    constants_in_memory()
    models = [run.model for run in runs]
    train, test = (data.to(models[0].device) for data in (train, test))
    execute = make(
        choose(here.engine, models[0], runs[0].optimizer),
        models,
        [run.optimizer for run in runs],
        batch_size=recipe.batch_size,
        beta=recipe.beta,
        progress=progress,
    )
    for epoch in range(done + 1, epochs + 1):
        started = time.perf_counter()
        losses = execute(train, [run.plan for run in runs], epoch)
        seconds = time.perf_counter() - started
        records = []
        for run, train_loss in zip(runs, losses, strict=True):
            eps = run.plan.test_noise(len(test), run.model.latent_dim)
            if isinstance(execute, Native):
                averages = Averages(*execute.evaluate(test, eps))
            else:
                averages = evaluate(run.model, test, eps)
            test_loss = averages.reconstruction + recipe.beta * averages.divergence
            for name, value in ("training loss", train_loss), ("test loss", test_loss):
                if not math.isfinite(value):
                    raise DivergenceError(
                        f"the {name} is {value} in epoch {epoch}. "
                        f"Lower the learning rate (it is {recipe.learning_rate:g})."
                    )
            records.append(
                Record(
                    epoch=epoch,
                    train_loss=train_loss,
                    test_loss=test_loss,
                    test_reconstruction=averages.reconstruction,
                    test_kl=averages.divergence,
                    seconds=seconds,
                    examples_per_second=len(train) * len(runs) / seconds,
                )
            )
        for run in runs:
            run.epoch = epoch
        yield records


class Averages(NamedTuple):
    """The terms of the negative ELBO in nats per example."""

    reconstruction: float
    divergence: float


@torch.inference_mode()
def evaluate(model: LatentModel, data: ImageSet, eps: Codes, *, chunk: int = 1000) -> Averages:
    """Average the terms of the negative ELBO over a whole set.

    Args:
        model: The model.
        data: The images, on the model's device.
        eps: The noise, one row per image, shape ``(examples, latent)``.
        chunk: The number of images to work on at a time; the averages do not depend on it.

    Returns:
        `Averages`, in nats per example; NaN for an empty set.

    Example:
        >>> from vae_ref import VAE, glyphs
        >>> evaluate(VAE(), glyphs(100), torch.zeros(100, 20)).divergence >= 0
        True
    """
    constants_in_memory()
    device, dtype = data.images.device, model.dtype
    total = torch.zeros(2, dtype=torch.float64, device=device)
    indices = torch.arange(len(data), device=device)
    with unchecked():  # bytes divided by 255 lie in [0, 1]
        for index, noise in zip(indices.split(chunk), eps.split(chunk), strict=True):
            terms = model.terms(data.batch(index, dtype), noise.to(device, dtype))
            total += torch.stack([term.double().sum() for term in terms])
    reconstruction, divergence = (total / len(data)).tolist()
    return Averages(reconstruction, divergence)


@torch.inference_mode()
def log_likelihood(model: VAE, data: ImageSet, *, samples: int, plan: Plan) -> PerExample:
    r"""Bound :math:`\log p(x)` by importance weighting, one value per image.

    .. math::
        \log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k \mid x)}, \qquad z_k \sim q(z \mid x)

    Args:
        model: The VAE.
        data: The images, on the model's device.
        samples: The number :math:`K` of samples.
        plan: The plan, which draws the noise.

    Raises:
        InputError: If ``samples`` is not positive.

    Returns:
        The bound in nats, in float64 on the CPU, shape ``(examples,)``.

    Example:
        >>> from vae_ref import VAE, glyphs
        >>> log_likelihood(VAE(), glyphs(5), samples=3, plan=Plan()).shape
        torch.Size([5])

    References:
        Burda, Grosse and Salakhutdinov, *Importance Weighted Autoencoders*, 2016, section 3.
    """
    require_positive_integer("samples", samples)
    constants_in_memory()
    device, dtype = data.images.device, model.dtype
    generator = plan.generator("importance")
    bounds = [torch.empty(0, dtype=torch.float64, device="cpu")]
    for index in torch.arange(len(data), device=device).split(100):
        x = data.batch(index, dtype)
        mu, logvar = model.encode(x)
        weights = []
        for first in range(0, samples, 50):
            count = min(50, samples - first)
            size = count, *mu.shape
            eps = torch.randn(size, generator=generator, dtype=torch.float32, device="cpu")
            z = model.reparameterize(mu, logvar, eps.to(device, dtype))
            outputs = model.decode_logits(z)
            weights.append(log_weight(x, outputs, z, mu, logvar, likelihood=model.likelihood))
        bounds.append(importance_weighted_bound(torch.cat(weights).double()).cpu())
    return torch.cat(bounds)
