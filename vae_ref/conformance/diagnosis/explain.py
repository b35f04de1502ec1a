"""Explain failures: fold those that have one cause, and name the bug by the nearest mutant."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from vae_ref.conformance import guards
from vae_ref.conformance.diagnosis import transformations, weights
from vae_ref.conformance.diagnosis.fingerprints import Mark, Sizes, fingerprint, similarity
from vae_ref.conformance.diagnosis.reproduction import reproduce
from vae_ref.conformance.mutants import BANK, Mutant
from vae_ref.conformance.mutants.specimen import specimen
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import TEXTBOOK, Claim, Diagnosis, Note, Result, Slot, Violation
from vae_ref.conformance.subject import Conventions

__all__ = ["FAILED", "explain", "kill_matrix"]

FAILED = ("fail", "error", "timeout")
"""The statuses that a diagnosis explains."""

_SURE = 0.97
"""The similarity from which the nearest mutant is the bug; below it, a transformation may be.

Measured for every mutant, with five seeds of the probe and other noise than its own: the mutants
of a KL, a reconstruction term, a loss and a bound have a similarity of 1 with themselves, and of
at most 0.96 with any other of their slot. Samplers share more: 31 of 33 have at least 0.996 with
themselves, but 15 also have 0.97 to 0.99 with another. There the nearest one counts. At the sizes
of a step, up to a weight and a constant, two bugs are the same or have at most 0.93 in common.
"""

_LIKE = 0.8
"""The similarity from which a mutant is named at all.

Measured on the wrong programs of tests/conformance/implementations.py: the nearest mutant has at
least 0.96 if it is the bug, and at most 0.73 if the bank lacks the bug. In the bank, 78 of the 90
mutants that are no samplers have less than 0.8 with every other of their slot.
"""

_SAME_SYMPTOMS = 0.5
"""The share of symptoms in common from which a bug of the networks or the loop is named.

Measured with other weights and other noise: of 90 runs of mutants of the networks, 88 have just
the symptoms of the kill matrix, and two have others; the share with any other mutant is at most
0.5. Of 26 runs of mutants of the loop, all have a share of at least 0.75; with any other mutant
it is at most 0.71.
"""

_WEIGHED = ("beta", "no-kl")
"""The symptoms of a loss whose terms have other weights than they should."""

_SECONDS = 20.0
"""The seconds of CPU time that the search for the name of one bug may take."""


@cache
def kill_matrix() -> dict[str, dict[str, str]]:
    """Return, for every mutant, the claims that notice it and the symptom that each sees."""
    file = resources.files("vae_ref.conformance.diagnosis") / "kill_matrix.json"
    if not file.is_file():
        return {}
    matrix: dict[str, dict[str, str]] = json.loads(file.read_text())["mutants"]
    return matrix


def explain(
    probe: Probe, results: Sequence[Result]
) -> tuple[tuple[Result, ...], tuple[Note, ...]]:
    """Fold every failure under the most basic one that explains it, and name the bugs that remain.

    Returns:
        The results, and a note for every search for a name that failed itself.
    """
    folded = _fold(results)
    roots = [result for result in folded if result.status in FAILED and not result.explained_by]
    if not roots:
        return tuple(folded), ()
    notes: list[Note] = []
    names: dict[str, Diagnosis | None] = {}
    first: dict[str, str] = {}
    answers = []
    for result in folded:
        if result not in roots:
            answers.append(result)
            continue
        slot = _slot(probe, result)
        if slot not in names:
            # A function that hangs would hang in the search too.
            hangs = result.status == "timeout"
            whole = slot == "train" or probe.subject.parts != TEXTBOOK
            failed = [r for r in results if r.status in FAILED] if whole else roots
            names[slot] = None if hangs else _name(probe, slot, failed, _ran(results), notes)
            first[slot] = result.claim.id
        diagnosis = names.get(slot)
        if diagnosis and first[slot] != result.claim.id and _explains(diagnosis, result):
            result = replace(result, explained_by=first[slot])  # noqa: PLW2901
        elif diagnosis and first[slot] == result.claim.id:
            script = reproduce(slot, diagnosis.bug, result.counterexample)
            result = replace(result, diagnosis=replace(diagnosis, reproduction=script))  # noqa: PLW2901
        answers.append(result)
    return tuple(_fold_across_parts(answers)), tuple(notes)


def _fold(results: Sequence[Result]) -> list[Result]:
    """Fold failures under those of the claims that they build on, or that have the same message.

    A failure is explained only by one that was found before it, so that none explains itself.
    """
    failed = {result.claim.id: result for result in results if result.status in FAILED}

    def basis(result: Result, seen: frozenset[str] = frozenset()) -> Result:
        for name in result.claim.builds_on:
            if name in failed and name not in seen:
                return basis(failed[name], seen | {name, result.claim.id})
        return result

    roots: dict[str, str] = {}
    messages: dict[str, str] = {}
    answers = []
    for result in results:
        if result.claim.id in failed:
            base = basis(result)
            earlier = messages.get(base.message) if base.status != "timeout" else None
            root = roots.setdefault(base.claim.id, earlier or base.claim.id)
            messages.setdefault(result.message, root)
            if root != result.claim.id:
                result = replace(result, explained_by=root)  # noqa: PLW2901
        answers.append(result)
    return answers


def _fold_across_parts(results: Sequence[Result]) -> list[Result]:
    """Fold the failures that a named bug of another part is known to cause too."""
    named = [r for r in results if r.diagnosis and r.diagnosis.score >= _SURE]
    answers = []
    for result in results:
        if result.status in FAILED and not result.explained_by and result.diagnosis is None:
            cause = next((n for n in named if _breaks(n.diagnosis, result)), None)
            result = replace(result, explained_by=cause.claim.id) if cause else result  # noqa: PLW2901
        answers.append(result)
    return answers


def _breaks(diagnosis: Diagnosis | None, result: Result) -> bool:
    """Return whether the bug that was named is known to violate a claim."""
    return diagnosis is not None and result.claim.id in kill_matrix().get(diagnosis.bug, {})


def _explains(diagnosis: Diagnosis, result: Result) -> bool:
    """Return whether the bug that was named explains another failure of the same function."""
    return diagnosis.score >= _SURE or _breaks(diagnosis, result)


def _slot(probe: Probe, result: Result) -> Slot:
    """Return the slot of the bug: a training without the subject's own loop tests its networks."""
    slot = result.claim.slot
    return "net" if slot == "train" and probe.subject.train is None else slot


def _ran(results: Sequence[Result]) -> set[str]:
    """Return the claims that were decided."""
    return {result.claim.id for result in results if result.status in (*FAILED, "pass")}


def _name(
    probe: Probe, slot: Slot, roots: Sequence[Result], ran: set[str], notes: list[Note]
) -> Diagnosis | None:
    """Name the bug of a function; note it if the search itself fails."""
    try:
        with guards.global_state_kept(), guards.quiet(), guards.time_limit(_SECONDS):
            if slot in ("net", "train"):
                return _by_symptoms(slot, roots, ran)
            if probe.subject.parts != TEXTBOOK:
                return _by_answers(probe, slot, roots, ran)
            fixed, by_weights = probe.subject.weights, None
            if fixed and slot == "loss" and any(r.symptom.startswith(_WEIGHED) for r in roots):
                by_weights = weights.explain(fixed, scaled=not probe.likelihood.absolute)
            if fixed and fixed.twice and slot == "loss" and not by_weights:
                by_weights = weights.explain_reductions(fixed, {r.symptom for r in roots})
            return by_weights or _by_fingerprint(probe, slot, roots)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        spent = isinstance(error, guards.TimeLimit)
        why = "the time is up" if spent else guards.kind_and_message(error)
        notes.append(Note("diagnosis", slot, f"the search for the bug's name failed: {why}"))
        return None


def _diagnosis(mutant: Mutant, score: float, runner_up: str | None) -> Diagnosis:
    return Diagnosis(
        bug=mutant.id,
        explanation=mutant.explanation,
        score=round(score, 4),
        runner_up=runner_up,
        yours=mutant.wrong,
        right=mutant.right,
        links=mutant.links,
    )


def _by_symptoms(slot: Slot, failed: Sequence[Result], ran: set[str]) -> Diagnosis | None:
    """Name a bug of the networks or the loop by the claims that fail, and how they fail.

    What a bug violates beyond what could be checked does not speak against it, unless another bug
    fits as well.
    """
    parts = ("training",) if slot == "train" else ("model", "training")
    seen = {(r.claim.id, r.symptom) for r in failed if r.claim.part in parts}
    scores = {}
    for identifier, kills in kill_matrix().items():
        if BANK[identifier].slot == slot:
            known = {pair for pair in kills.items() if pair[0].startswith(parts[0])}
            checked = {pair for pair in known if pair[0] in ran}
            scores[identifier] = _share(seen, checked), _share(seen, known)
    ranked = sorted(scores, key=lambda name: scores[name], reverse=True)
    if len(ranked) < 2:
        return None
    best, second, *_ = ranked
    share, of_all = scores[best]
    stands_out = share > scores[second][0] or of_all >= _SAME_SYMPTOMS
    named = share >= _SAME_SYMPTOMS and stands_out
    return _diagnosis(BANK[best], share, second) if named else None


def _share(a: set[tuple[str, str]], b: set[tuple[str, str]]) -> float:
    return len(a & b) / max(1, len(a | b))


def _by_fingerprint(probe: Probe, slot: Slot, roots: Sequence[Result]) -> Diagnosis | None:
    """Name a bug of a function by its values and gradients: compare them with every mutant's."""
    slots = _suspects(probe, slot, roots)
    near = _nearest(probe, slot, slots, _sizes(probe, slot), roots)
    if near.is_sure:
        return near.diagnosis
    if probe.subject.weights and slot in ("kl", "nll"):
        sizes = replace(_sizes(probe, slot), scaled=True)
        scaled = _nearest(probe, slot, [slot, "loss"], sizes, roots)
        if scaled.is_sure:
            return scaled.diagnosis
    elif near.is_right:
        return _by_all_symptoms(slot, roots)  # the fingerprint does not show the bug
    found = transformations.explain(probe, slot)
    if found:
        return replace(found, runner_up=near.diagnosis.bug)
    return near.diagnosis if near.diagnosis.score >= _LIKE and not near.is_right else None


def _by_all_symptoms(slot: Slot, roots: Sequence[Result]) -> Diagnosis | None:
    """Name the bug of a function that fails in just these ways, if each way has a word."""
    seen = {r.claim.id: r.symptom for r in roots if r.claim.slot == slot}
    for name, symptoms in kill_matrix().items():
        if BANK[name].slot == slot and all(seen.values()) and seen == symptoms:
            return _diagnosis(BANK[name], 1.0, None)
    return None


def _by_answers(
    probe: Probe, slot: Slot, failed: Sequence[Result], ran: set[str]
) -> Diagnosis | None:
    """Name a bug of another kind of VAE: it answers the claims that fail as a mutant does."""
    seen = {r.claim.id: r for r in failed if r.claim.slot == slot}
    held, scores = ran - {r.claim.id for r in failed}, {}
    for name, kills in kill_matrix().items():
        if BANK[name].slot != slot or not kills.keys() & seen.keys():
            continue
        subject = replace(BANK[name].subject(), **probe.subject.alike)
        same = replace(subject.conventions, dtype=probe.conventions.dtype)
        mutant = Probe(replace(subject, conventions=same), probe.seed, alpha=probe.alpha)
        alike = sum(_alike(r, _violation(r.claim, mutant)) for r in seen.values())
        missed = kills.keys() & held  # which object to the mutant, not to the subject
        scores[name] = alike / (len(seen) + len(missed))
    ranked = sorted(scores, key=lambda name: scores[name], reverse=True)
    if not ranked or scores[ranked[0]] < _LIKE:
        return None
    return _diagnosis(BANK[ranked[0]], scores[ranked[0]], ranked[1] if ranked[1:] else None)


def _violation(claim: Claim, probe: Probe) -> Violation | None:
    """Return what a claim objects to in a mutant, if anything."""
    try:
        claim.check(probe)
    except Violation as found:
        return found
    except Exception as error:
        return Violation(guards.kind_and_message(error), symptom=type(error).__name__)
    return None


def _alike(result: Result, found: Violation | None) -> float:
    """Return how far a mutant fails in the same way: by number, or by word if there is none."""
    if found is None:
        return 0.0
    own, other = (
        (example or {}).get("got") for example in (result.counterexample, found.counterexample)
    )
    if own is None or other is None:
        return float(own is other and result.symptom == found.symptom)
    return similarity([Mark(own)], [Mark(other)])


class _Nearest(NamedTuple):
    """The mutant that a function is nearest to; `is_right` if the right function is as near."""

    diagnosis: Diagnosis
    is_right: bool

    @property
    def is_sure(self) -> bool:
        return self.diagnosis.score >= _SURE and not self.is_right


def _nearest(
    probe: Probe, slot: Slot, slots: list[Slot], sizes: Sizes, roots: Sequence[Result]
) -> _Nearest:
    """Find the mutant whose fingerprint is most like a function's."""
    own = fingerprint(probe, slot, sizes)
    absent = getattr(probe.subject, slot, None) is None

    def score(name: str) -> float:
        of_loss = sizes.scaled and bool(name) and BANK[name].slot == "loss"
        in_loss = slot in ("kl", "nll") and (absent or of_loss)
        known = _fingerprint_of(
            name, slot, sizes, probe.seed, probe.conventions.dtype, in_loss=in_loss
        )
        return similarity(own, known)

    candidates = [mutant for mutant in BANK.values() if mutant.slot in slots]
    if slot == "sample":  # whose noise is known by its symptoms, too
        candidates = [mutant for mutant in candidates if _agrees(mutant, roots)] or candidates
    scores = {mutant.id: score(mutant.id) for mutant in candidates}
    ranked = sorted(scores, key=lambda name: (-scores[name], slots.index(BANK[name].slot)))
    best, second = ranked[0], ranked[1] if len(ranked) > 1 else None
    return _Nearest(_diagnosis(BANK[best], scores[best], second), score("") >= scores[best])


def _sizes(probe: Probe, slot: Slot) -> Sizes:
    """Return the sizes at which a subject is compared: of a step, those that it has."""
    fixed = probe.subject.weights
    if fixed:
        n = fixed.examples
        return Sizes((fixed.latents,) * 3, (fixed.pixels,) * 2, (n, n), alike=n)
    return Sizes(probe.latents, probe.pixels if slot in ("nll", "loss") else ())


def _agrees(mutant: Mutant, roots: Sequence[Result]) -> bool:
    """Whether a bug violates all claims about samplers that fail, with the same symptoms."""
    known = kill_matrix().get(mutant.id, {})
    return all(known.get(r.claim.id) == r.symptom for r in roots if r.claim.slot == mutant.slot)


@cache
def _fingerprint_of(
    name: str, slot: Slot, sizes: Sizes, seed: int, dtype: Any, *, in_loss: bool
) -> tuple[Mark, ...]:
    """Return the fingerprint of a mutant, or of the right function if the name is empty."""
    subject = replace(
        BANK[name].subject() if name else specimen(), conventions=Conventions(dtype=dtype)
    )
    if in_loss:
        subject = replace(subject, kl=None) if slot == "kl" else replace(subject, nll=None)
    return tuple(fingerprint(Probe(subject, seed), slot, sizes))


def _suspects(probe: Probe, slot: Slot, roots: Sequence[Result]) -> list[Slot]:
    """Return the slots of the mutants to compare with, the most suspect first.

    A loss may contain a wrong KL or reconstruction term. Those that fail themselves come first,
    those that the subject does not give by themselves come last.
    """
    if slot != "loss":
        return [slot]
    parts: list[tuple[Slot, str, bool]] = [
        ("kl", "kl", probe.subject.kl is None),
        ("nll", "likelihood", probe.subject.nll is None),
    ]
    failing = [s for s, part, _ in parts if any(r.claim.part == part for r in roots)]
    hidden = [s for s, _, in_loss in parts if in_loss and s not in failing]
    return [*failing, slot, *hidden]
