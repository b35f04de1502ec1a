"""Every bug is noticed and named, every claim notices bugs, and the committed matrix is true."""

import json
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
import torch

from tests.conformance.kill_matrix import FILE, kills
from vae_ref.bridge.courses import glyphs_course
from vae_ref.conformance import verify
from vae_ref.conformance.claims import all_claims, guide
from vae_ref.conformance.diagnosis.explain import _SURE, _fingerprint_of
from vae_ref.conformance.diagnosis.fingerprints import Sizes, similarity
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.mutants.specimen import LATENTS, PIXELS, TEXTBOOK, specimen
from vae_ref.conformance.records import TEXTBOOK as PARTS
from vae_ref.conformance.runner import check, conclude, probe_of, select
from vae_ref.conformance.trainings.trained import AUTOENCODER, SQUARED, VAE, beta, trained

pytestmark = pytest.mark.usefixtures("user")  # bugs return what the type checker would object to

MATRIX = json.loads(FILE.read_text())
GLYPHS = cache(glyphs_course)
CLAIMS = {claim.id: claim for claim in all_claims()}


def about_pictures(claim):
    return claim.check.__module__ == guide.__name__


PAIRS = [
    pytest.param(
        claim,
        bug,
        id=f"{claim.id}-{bug}",
        marks=[pytest.mark.slow] * (claim.level == "trained" or claim.part not in PARTS),
    )
    for claim, bug in sorted(
        (
            (claim, bug)
            for claim in all_claims()
            for bug in claim.kills
            if BANK[bug].slot != "train"  # they are trained once, for all claims together
        ),
        key=lambda pair: (pair[0].level, about_pictures(pair[0]), pair[1]),
    )  # those that share trainings are neighbours, so that they go to one process
]


@pytest.mark.slow
def test_the_specimen_that_bugs_are_put_into_is_correct():
    report = verify(specimen(), level="trained")
    left = {r.claim.id: r.message for r in report.results if r.status != "pass"}
    assert left == {
        claim.id: "the course has no pictures of several classes"
        for claim in all_claims()
        if about_pictures(claim)
    }


def test_the_bank_is_large_enough():
    assert len(BANK) >= 90


def some(identifiers):
    """One in eighty by default, all of them and those that train with the slow tests."""
    return [
        pytest.param(
            identifier,
            marks=[pytest.mark.slow] * (index % 80 > 0 or identifier.startswith("train-")),
        )
        for index, identifier in enumerate(identifiers)
    ]


class Seen:
    """The specimen, which keeps the names of the fields that it is asked for."""

    def __init__(self):
        self._subject, self.fields = specimen(), set()

    def __getattr__(self, name):
        self.fields.add(name)
        return getattr(self._subject, name)

    def has(self, need):
        self.fields.update(need.split("|"))
        return self._subject.has(need)


@cache
def asked(claim):
    """Return what a claim asks the specimen for, which fulfils it, if it is checked alone."""
    subject = Seen()
    assert check(claim, probe_of(subject)).status == "pass"
    return frozenset(subject.fields)


CHANGED = {
    "kl": {"kl", "loss", "train"},
    "nll": {"nll", "loss", "train"},
    "loss": {"loss", "train"},
    "bound": {"importance_weighted"},
}
"""The fields of the subject that a bug changes; of the other slots it may be all of them."""


def judged(mutant):
    """Verify a bug by the claims that ask for what it changes; the others answer as they did."""
    probe = probe_of(mutant.subject())
    chosen = [
        claim
        for claim in select(None, mutant.level, parts=probe.subject.parts)
        if mutant.slot not in CHANGED or mutant.changes or asked(claim) & CHANGED[mutant.slot]
    ]
    found = [check(claim, probe) for claim in chosen]
    return conclude(probe, mutant.level, found, [], seconds=0.0)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("identifier", some(BANK))
def test_a_bug_is_killed_as_the_matrix_says_and_named(identifier):
    mutant = BANK[identifier]
    report = judged(mutant)
    failing = {r.claim.id for r in report.results if r.status in ("fail", "error", "timeout")}
    assert failing
    if mutant.slot == "train":
        assert {claim.id for claim in all_claims() if identifier in claim.kills} <= failing
    if mutant.deterministic:
        assert failing == MATRIX["mutants"][identifier].keys()
    (root,) = report.failures
    assert root.diagnosis is not None
    assert root.diagnosis.bug == identifier


def test_the_matrix_is_complete():
    left = BANK.keys() - MATRIX["mutants"].keys()
    assert not left, f"{', '.join(sorted(left))}: run python -m tests.conformance.kill_matrix"
    assert list(MATRIX["mutants"]) == list(BANK)
    assert MATRIX["claims"] == [claim.id for claim in select(None, "trained")]


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("claim", "bug"), PAIRS)
def test_a_claim_alone_notices_the_bugs_that_it_names(claim, bug):
    """And so a claim that is emptied is noticed."""
    makes = pictured_probe if about_pictures(claim) else plain_probe
    probe = makes(bug) if claim.level == "trained" else probe_of(BANK[bug].subject())
    status = check(claim, probe).status
    assert status == "fail", f"{claim.id} does not notice {bug}, which its kills name"


@cache
def plain_probe(bug):
    """A bug; the claims about its trainings share them."""
    return probe_of(BANK[bug].subject())


@cache
def pictured_probe(bug=None):
    """A bug on the course with pictures, or the specimen; the claims about it share trainings."""
    make = BANK[bug].subject if bug else specimen
    probe = probe_of(pictured(make(sizes=TEXTBOOK)))
    if bug and BANK[bug].slot == "loss":
        probe.ahead = Unchanged()
    return probe


class Unchanged:
    """The trainings that a bug of the loss leaves as they are, since they are without this loss.

    They come from where those come from that another process makes.
    """

    def get(self, variant):
        if variant == VAE:
            return None
        made = dict(vars(trained(pictured_probe(), variant)))
        del made["probe"]
        return made


@pytest.mark.slow
def test_a_bug_of_the_loss_changes_no_training_without_it():
    made = BANK["loss-no-kl"].subject(sizes=TEXTBOOK), specimen(sizes=TEXTBOOK)
    bug, right = (
        probe_of(replace(subject, course=lambda: replace(GLYPHS(), brief=1))) for subject in made
    )
    for variant in (AUTOENCODER, SQUARED, beta(4)):
        pairs = zip(trained(bug, variant).weights, trained(right, variant).weights, strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), variant


def pictured(subject):
    return replace(subject, course=GLYPHS)


@pytest.mark.slow
@pytest.mark.sampled(3)
def test_another_right_vae_holds_on_the_courses_that_were_measured_with_ours():
    """The specimen in the textbook's size shares no code with the reference."""
    torch.set_default_dtype(torch.float32)
    subject = pictured(specimen(sizes=TEXTBOOK))
    report = verify(subject, seed=100, level="trained")
    assert report.verdict == "conformant", [
        (r.claim.id, r.message) for r in report.results if r.status != "pass"
    ]


@pytest.mark.parametrize("identifier", CLAIMS)
def test_every_claim_names_a_bug_that_it_notices(identifier):
    assert CLAIMS[identifier].kills
    assert set(CLAIMS[identifier].kills) <= BANK.keys()


@pytest.mark.parametrize("identifier", ["z-uniform-noise", "z-noise-shared-over-batch"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_bugs_are_noticed_whatever_the_seed(identifier, seed):
    report = verify(BANK[identifier].subject(), only="reparameterization/*", seed=seed)
    assert report.verdict == "violated"


@pytest.mark.parametrize("identifier", [i for i, m in BANK.items() if m.numpy and m.slot == "kl"])
def test_the_numpy_formula_of_a_bug_is_the_bug(identifier):
    import numpy as np
    import torch

    mutant = BANK[identifier]
    mu, logvar = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[0.5, -1.0], [0.1, 1.0]])
    names = {"np": np, "mu": mu.numpy(), "logvar": logvar.numpy()}
    expected = torch.as_tensor(np.asarray(eval(mutant.numpy, names)))
    got = mutant.function(mu, logvar)
    tolerance = 0.02 if "precision" in identifier else 1e-6
    assert torch.allclose(got.sum(), expected.sum().to(got.dtype), rtol=tolerance)


def test_matrix_script(monkeypatch):
    assert kills("kl-no-half") == MATRIX["mutants"]["kl-no-half"]


@pytest.mark.parametrize("slot", ["kl", "nll"])
def test_bugs_of_a_step_are_alike_or_far_from_each_other(slot):
    """Up to a weight and a constant, which an audit cannot know of a wrong term."""
    sizes = Sizes((LATENTS,) * 3, (PIXELS,) * 2, (6, 6), alike=6, scaled=True)
    marks = [
        _fingerprint_of(bug.id, slot, sizes, 0, "float64", in_loss=bug.slot == "loss")
        for bug in BANK.values()
        if bug.slot in (slot, "loss")
    ]
    found = [similarity(a, b) for a, b in combinations(marks, 2)]
    assert max(share for share in found if share < 0.999_999) < _SURE - 0.03
    assert sum(share > 0.999_999 for share in found) < len(found) / 2
