"""The courses: what they hold, and that their names have intervals."""

import pytest
import torch

from vae_ref import glyphs, mnist
from vae_ref.bridge.courses import glyphs_course, mnist_course
from vae_ref.bridge.reference import reference
from vae_ref.conformance.course import TEXTBOOK
from vae_ref.data import DataError


def test_glyphs():
    course = glyphs_course()
    assert torch.equal(course.train[:100], glyphs(100).images)
    assert torch.equal(course.held_out[:50], glyphs(50, seed=1).images)
    assert course.x.max() == 1
    assert set(course.milestones) <= set(range(1, course.epochs + 1))


def test_mnist(mnist_root):
    course = mnist_course(mnist_root)
    assert torch.equal(course.train, mnist(mnist_root, train=True).images)
    assert torch.equal(course.labels[1], mnist(mnist_root, train=False).labels)
    assert (course.epochs, course.milestones) == (20, (1, 2, 5, 10, 20))


def test_without_mnist_it_says_so(tmp_path):
    with pytest.raises(DataError, match="MNIST is not in"):
        mnist_course(tmp_path)


def test_the_reference_has_the_form_of_the_intervals():
    shapes = sorted(tuple(p.shape) for p in reference().module.parameters())
    assert tuple(shapes) == TEXTBOOK


def test_another_seed_of_the_reference_has_other_weights():
    first, again, other = (next(reference(seed=s).module.parameters()) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_reference_trains_as_the_command_does():
    """Its own loop on bytes that were made numbers: bit for bit the eager run of the recipe."""
    from vae_ref import Recipe, Run, fit

    torch.set_default_dtype(torch.float32)
    subject, course = reference(seed=3), glyphs_course()
    train, held_out = (course.numbers(part[:300]) for part in (course.train, course.held_out))
    losses = list(subject.train(train, held_out, 2))
    run = Run.start(Recipe(seed=3), size=(28, 28), engine="eager")
    records = list(fit(run, glyphs(300), glyphs(300, seed=1), epochs=2))
    assert losses == [(r.train_loss, r.test_loss) for r in records]
    pairs = zip(run.model.parameters(), subject.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
