"""What the gate counts and times of the package; every one is drawn, none needs a download.

A workload sets itself up and returns what is called again and again. All calls do the same work:
base and head are not called equally often. One file serves both revisions, so it uses public
names only; a workload for which a revision has no name yet is not compared.
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
    """The same as the textbook's script has it: through probabilities, with noise of torch's."""
    from vae_ref import VAE, glyphs, loss_function

    model = VAE().to(DEVICE)
    x = glyphs(128).to(DEVICE).batch(torch.arange(128, device=DEVICE))

    def call() -> None:
        model.zero_grad()
        recon_x, mu, logvar = model(x)
        loss_function(recon_x, x, mu, logvar).backward()

    return call


def training() -> Callable[[], object]:
    """An epoch of four steps, as users get it."""
    return _epochs()


def eager() -> Callable[[], object]:
    """The same on the engine that defines it; for long it was the only one."""
    from vae_ref import Run

    chosen = {"engine": "eager"} if "engine" in inspect.signature(Run.start).parameters else {}
    return _epochs(**chosen)


def _epochs(**options: str) -> Callable[[], object]:
    from vae_ref import Recipe, Run, fit, glyphs

    # At this rate no weight changes, so that no epoch differs from another.
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
