"""vae_ref as its users run it: `fit`, with the engine that it chooses or that is named."""

import argparse
from collections.abc import Iterator
from typing import Any

from benchmarks.contestants.protocol import enter
from vae_ref import Recipe, Run, fit, mnist
from vae_ref.support.denormals import denormals_flushed


def contest(settings: argparse.Namespace) -> Iterator[dict[str, Any]]:
    engine = {"engine": settings.engine} if settings.engine else {}
    with denormals_flushed():  # as vae-ref train does
        train, test = (mnist(settings.data, train=part) for part in (True, False))
        run = Run.start(Recipe(seed=settings.seed), train.size, device=settings.device, **engine)
        for record in fit(run, train, test, epochs=settings.epochs):
            yield {"epoch": record.epoch, "seconds": record.seconds}
        yield {"test_loss": record.test_loss, "engine": run.here.engine}


if __name__ == "__main__":
    enter(contest, "engine")
