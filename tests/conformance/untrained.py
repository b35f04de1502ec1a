"""The reference as it looks to a claim, with trainings that train nothing."""

from dataclasses import replace

import pytest

from vae_ref.bridge.courses import glyphs_course
from vae_ref.bridge.reference import reference
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.runner import probe_of
from vae_ref.conformance.trainings import trained
from vae_ref.conformance.trainings.scoring import Score
from vae_ref.conformance.trainings.trained import Trained, Variant

IMAGES = 300


class Untrained:
    """A probe of the reference whose trainings end at once, with the weights that they began with.

    Attributes:
        probe: The probe, on a course of a few glyphs.
        asked: The names of the trainings that were asked for.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        subject, many = reference(), glyphs_course()
        assert many.labels is not None
        course = replace(
            many,
            train=many.train[:IMAGES],
            held_out=many.held_out[:IMAGES],
            weights=trained.WEIGHTS,
            labels=(many.labels[0][:IMAGES], many.labels[1][:IMAGES]),
        )
        self.probe, self.asked = probe_of(replace(subject, course=lambda: course)), set[str]()
        monkeypatch.setattr(trained, "_train", self._train)

    def _train(self, probe: Probe, variant: Variant) -> Trained:
        self.asked.add(variant.name)
        assert probe.subject.module is not None
        weights = [p.detach().clone() for p in probe.subject.module.parameters()]
        scores = dict.fromkeys((*probe.course.milestones, probe.course.brief), Score(1.0, 1.0))
        losses = [1.0] * probe.course.epochs
        return Trained(probe, weights, weights, scores, losses, losses)

    def forget(self) -> None:
        """Forget the trainings."""
        self.asked.clear()
        for variant in trained.VARIANTS.values():
            self.probe.answers.pop(("training", variant), None)
