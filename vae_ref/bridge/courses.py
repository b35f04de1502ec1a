"""The courses of the conformance kit: MNIST, and glyphs, which need no download."""

import os
from typing import Any

from vae_ref.conformance.course import Course
from vae_ref.data import ImageSet, mnist
from vae_ref.data.glyphs import glyphs

__all__ = ["glyphs_course", "mnist_course"]


def glyphs_course() -> Course:
    """Return a course of 6,400 images and 6 epochs, for which nothing is downloaded."""
    return Course(
        name="glyphs",
        milestones=(1, 2, 4, 6),
        importance=(100, 500),
        **_images(glyphs(6_400), glyphs(2_000, seed=1)),
    )


def mnist_course(root: str | os.PathLike[str]) -> Course:
    """Return the textbook's course: all of MNIST, 20 epochs, or 3 for variations of the training.

    Raises:
        DataError: If MNIST is not in ``root``.
    """
    return Course(
        name="mnist",
        epochs=20,
        brief=3,
        milestones=(1, 2, 5, 10, 20),
        patience=30.0,
        importance=(100, 5000),
        weights=(0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
        **_images(*(mnist(root, train=part) for part in (True, False))),
    )


def _images(train: ImageSet, test: ImageSet) -> dict[str, Any]:
    return {
        "train": train.images,
        "held_out": test.images,
        "labels": (train.labels, test.labels),
        "size": train.size,
    }
