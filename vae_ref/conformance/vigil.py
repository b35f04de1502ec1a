"""Check the claims of a program that may cheat: in an order, with numbers and in sizes of the day.

A right program notices nothing of it. One that knows its judge by heart, that has counted the
calls or that remembers its answers does not know what it is asked for next.
"""

import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

from vae_ref.conformance.claims.batches import BATCHES
from vae_ref.conformance.guards import kind_and_message
from vae_ref.conformance.probe.probe import Probe, Sizes
from vae_ref.conformance.records import BAD, Claim, Kind, Note, Result, Slot, Status
from vae_ref.conformance.runner import check

__all__ = ["watched"]

_SLOTS: tuple[Slot, ...] = ("kl", "sample", "nll", "loss", "bound")
"""The functions whose claims are checked twice."""

_KINDS: tuple[Kind, ...] = ("exact", "gradient")
"""The kinds of those that are; the others take longer, and ask for no other kinds of answers."""

_LATENTS, _PIXELS = (3, 24), (12, 48)
"""The fewest and the most latents and pixels of the second time."""

_HOME = {
    "kl": "kl/closed-form",
    "nll": "likelihood/value",
    "loss": "objective/constant-weights",
    "reparameterize": "reparameterization/affine",
    "importance_weighted": "objective/importance-weighted",
}
"""The claim that a function violates which answers otherwise the next time."""


def watched(
    probe: Probe,
    claims: Sequence[Claim],
    notes: list[Note],
    progress: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Check claims; a claim holds if it holds both times, and its answers are the same at the end.

    Args:
        probe: The subject, in another process.
        claims: What is checked; exact claims a second time in other sizes, and for larger batches.
        notes: Takes what the subject does beside answering.
        progress: Called with every result.
    """
    draw = random.SystemRandom()
    other = Probe(
        probe.subject,
        secrets.randbelow(2**31),
        alpha=probe.alpha,
        sizes=Sizes(
            latents=(*sorted(draw.sample(range(*_LATENTS), 2), reverse=True), 1),
            pixels=tuple(draw.sample(range(*_PIXELS), 2)),
        ),
    )
    tasks = [(claim, claim, probe) for claim in claims]
    tasks += [
        (claim, claim, other)
        for claim in claims
        if claim.slot in _SLOTS and (claim.kind in _KINDS or claim.id in BATCHES)
    ]
    tasks += [
        (claim, replace(claim, check=BATCHES[claim.id]), other)
        for claim in claims
        if claim.id in BATCHES
    ]
    draw.shuffle(tasks)
    first: dict[str, Result] = {}
    worse: dict[str, Result] = {}
    for claim, task, of in tasks:
        result = replace(check(task, of, notes), claim=claim)
        if of is probe and task is claim:
            first[claim.id] = result
            progress(result)
        elif result.status in BAD:
            worse[claim.id] = replace(result, message=f"{_AGAIN}: {result.message}")
    found = [first[claim.id] for claim in claims]
    found = [
        worse[r.claim.id] if r.claim.id in worse and r.status not in BAD else r for r in found
    ]
    return _asked_again(probe, found)


_AGAIN = "asked in other sizes"


def _asked_again(probe: Probe, results: Sequence[Result]) -> list[Result]:
    """Return the results, in which a function fails that answers otherwise the next time."""
    changes: dict[str, tuple[Status, str]] = {}
    try:
        for name, difference in probe.subject.elsewhere.again() if probe.subject.elsewhere else ():
            changes.setdefault(_HOME[name], ("fail", f"asked again, {name} answers {difference}"))
    except Exception as error:
        why = f"asked again: {kind_and_message(error)}"
        changes.setdefault(results[0].claim.id, ("error", why))
    known = {result.claim.id for result in results}
    changes = {claim if claim in known else results[0].claim.id: c for claim, c in changes.items()}
    return [
        replace(r, status=changes[r.claim.id][0], message=changes[r.claim.id][1], symptom="again")
        if r.claim.id in changes and r.status not in BAD
        else r
        for r in results
    ]
