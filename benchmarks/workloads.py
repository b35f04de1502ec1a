"""What the gate counts and times of the package. The digits are drawn: nothing is downloaded.

A workload sets itself up and returns the function that is called again and again. Every call has
to do the same work, because base and head are not called equally often. One file serves both
revisions, so it uses public names only. A workload is not compared if a revision lacks its names.
"""

import inspect
from collections.abc import Callable

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def objective() -> Callable[[], object]:
    """The loss of one batch, and its gradient."""
    from vae_ref import VAE, glyphs

    model = VAE().to(DEVICE)
    x = glyphs(128).to(DEVICE).batch(torch.arange(128, device=DEVICE))
    eps = torch.randn(128, 20, device=DEVICE)

    def call() -> None:
        model.zero_grad()
        model.terms(x, eps).loss().sum().backward()

    return call


def textbook() -> Callable[[], object]:
    """The same in the textbook's form: with probabilities, and with noise that torch draws."""
    from vae_ref import VAE, glyphs, loss_function

    model = VAE().to(DEVICE)
    x = glyphs(128).to(DEVICE).batch(torch.arange(128, device=DEVICE))

    def call() -> None:
        model.zero_grad()
        recon_x, mu, logvar = model(x)
        loss_function(recon_x, x, mu, logvar).backward()

    return call


def training() -> Callable[[], object]:
    """An epoch of four steps, with the engine that users get."""
    return _epochs()


def eager() -> Callable[[], object]:
    """The same with the eager engine; in older revisions there is no other to choose."""
    from vae_ref import Run

    chosen = {"engine": "eager"} if "engine" in inspect.signature(Run.start).parameters else {}
    return _epochs(**chosen)


def _epochs(**options: str) -> Callable[[], object]:
    from vae_ref import Recipe, Run, fit, glyphs

    # At this rate no weight changes, so that all epochs are alike.
    recipe = Recipe(dataset="glyphs", learning_rate=1e-12)
    run = Run.start(recipe, (28, 28), device=DEVICE, **options)
    records = fit(run, glyphs(512), glyphs(1, seed=1), epochs=10**9)
    return lambda: next(records)


def evaluation() -> Callable[[], object]:
    """The ELBO of a test set."""
    from vae_ref import VAE, evaluate, glyphs

    model, data = VAE().to(DEVICE), glyphs(1000).to(DEVICE)
    eps = torch.randn(1000, 20)
    return lambda: evaluate(model, data, eps)


WORKLOADS = {work.__name__: work for work in (objective, textbook, training, eager, evaluation)}
