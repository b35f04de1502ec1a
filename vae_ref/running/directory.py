"""The directory that a training writes: history, checkpoint and pictures."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from vae_ref.data import ImageSet
from vae_ref.names import EngineOption
from vae_ref.running import history, pictures
from vae_ref.running.checkpoint import CheckpointError
from vae_ref.running.history import Record
from vae_ref.running.recipe import Recipe
from vae_ref.running.run import Run
from vae_ref.support.atomic import remove_unfinished
from vae_ref.support.errors import InputError

__all__ = ["RunDirectory", "draw_latent_space"]


class RunDirectory:
    """The files of one run. Each is written completely or not at all.

    Args:
        path: The directory; `opened` creates it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.safetensors"
        self.history = path / "history.jsonl"
        self.images = path / "images"

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Create the directory, and keep other runs out of it.

        Raises:
            InputError: If another run is writing to it.
            OSError: If it cannot be created.
        """
        self.images.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", blocking=False):
                for place in (self.path, self.images):
                    remove_unfinished(place)
                yield
        except Timeout:
            remedy = "Wait for that run, or name another directory."
            raise InputError("--out", "not be in use by another run", self.path, remedy) from None

    def resume(
        self, recipe: Recipe, device: torch.device, engine: EngineOption = "auto"
    ) -> tuple[Run, list[Record]]:
        """Load the run and the records of the epochs that it has completed.

        If the run was stopped between writing the history and the checkpoint, the history is one
        epoch ahead. That epoch is left out.

        Raises:
            CheckpointError: If checkpoint or history cannot be used.
            InputError: If the run has another recipe, or the engine cannot continue it.
            OSError: If a file cannot be read.
        """
        run = Run.load(self.checkpoint, device=device, engine=engine)
        for name, value in dataclasses.asdict(run.recipe).items():
            if getattr(recipe, name) != value:
                raise InputError(
                    f"--{name.replace('_', '-')}",
                    f"be {value}, as in the run that {self.path} holds",
                    getattr(recipe, name),
                    "Repeat the command that began the run, or name another --out.",
                )
        records = [record for record in history.read(self.history) if record.epoch <= run.epoch]
        if [record.epoch for record in records] != list(range(1, run.epoch + 1)):
            raise CheckpointError(
                f"{self.history} does not have the {run.epoch} epochs of the checkpoint. "
                "Restore the file, or name another --out."
            )
        return run, records

    def save(self, run: Run, records: list[Record], test: ImageSet) -> None:
        """Write the files of an epoch; the checkpoint comes last, as it says that all are there.

        Raises:
            OSError: If a file cannot be written.
        """
        epoch, prior = run.epoch, run.plan.prior(64, run.model.latent_dim)
        pictures.reconstruction(self.images / f"reconstruction_{epoch}.png", run.model, test)
        pictures.samples(self.images / f"sample_{epoch}.png", run.model, prior, run.size)
        history.write(self.history, records)
        run.save(self.checkpoint)

    def finish(self, run: Run, records: list[Record], test: ImageSet) -> None:
        """Draw the curves and the latent space.

        Raises:
            OSError: If a file cannot be written.
        """
        pictures.curves(self.path / "curves.png", records)
        draw_latent_space(self.images, run, test)

    def pictures(self, epoch: int) -> list[Path]:
        """Return the pictures that show the run after an epoch, its last."""
        names = [f"reconstruction_{epoch}", f"sample_{epoch}", "interpolation"]
        names += ["manifold", "posterior"]
        places = [self.path / "curves.png", *(self.images / f"{name}.png" for name in names)]
        return [place for place in places if place.exists()]


def draw_latent_space(images: Path, run: Run, test: ImageSet | None) -> None:
    """Draw interpolations and, if the latent space is a plane, the plane and the codes in it.

    Raises:
        OSError: If a file cannot be written.
    """
    is_plane = run.model.latent_dim == 2
    if is_plane:
        pictures.manifold(images / "manifold.png", run.model, run.size)
    if test is not None:
        pictures.interpolation(images / "interpolation.png", run.model, test)
        if is_plane:
            pictures.posterior(images / "posterior.png", run.model, test)
