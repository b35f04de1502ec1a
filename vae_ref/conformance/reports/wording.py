"""The words that all forms of a report share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vae_ref.conformance.records import BAD, Report, Result, Status
from vae_ref.support.messages import say, translated

__all__ = [
    "BAD",
    "STATUS",
    "brief",
    "by_part",
    "by_reason",
    "circumstances",
    "example",
    "folded",
    "left_open",
    "printable",
    "ran",
    "rows",
    "sentence",
    "summary",
    "tally",
    "verdict",
    "word",
]

STATUS: dict[str, str] = {
    "pass": "holds",
    "fail": "violated",
    "expected-failure": "expected failure",
    "unexpected-pass": "unexpectedly holds",
    "not-applicable": "not applicable",
    "inconclusive": "inconclusive",
    "error": "error",
    "timeout": "timeout",
}
"""The words for the statuses."""


_REMEDIES = {
    "there is no course": "let the kit train it: --train glyphs needs no download",
    "there is no ": "give the subject these parts; vae-ref adapt FILE prints an adapter",
    "what was recorded is in single precision": "let the step compute in double precision, after "
    "torch.set_default_dtype(torch.float64)",
    "the weights are in another process": "judge the file without --exec and --isolated",
    "the noise cannot be repeated by seeding": "give seed, which seeds the subject's noise",
    "comes without a gradient": "give functions of tensors that can be differentiated",
    "the weights are not constant": "mend first what objective/constant-weights found",
    "takes images of": "let it take images of any size",
    "s of CPU time are": "give faster functions, or take a faster machine",
}
"""What makes a claim judgeable, by a part of the reason why it was not judged.

Other reasons say it themselves, or nothing can be done: the claim is about another VAE.
"""


def printable(text: str) -> str:
    r"""Return a text with its control characters spelled out, for terminals, XML and HTML.

    Example:
        >>> print(printable("\x1b[31mred"))
        \x1b[31mred
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def brief(value: Any) -> str:
    """Return a value in few characters: for a long list, its first numbers and its shape.

    Example:
        >>> brief([[1.0, 2.0]]), brief([[0.125] * 50] * 3)
        ('[[1, 2]]', '[0.125, 0.125, 0.125, 0.125, ...] (3 x 50)')
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    if not isinstance(value, list | tuple):
        return str(value)
    text = f"[{', '.join(map(brief, value))}]"
    if len(text) <= 60:
        return text
    shape, first = [], value
    while isinstance(first, list | tuple) and first:
        shape.append(len(first))
        row, first = first, first[0]
    return f"[{', '.join(map(brief, row[:4]))}, ...] ({' x '.join(map(str, shape))})"


def example(counterexample: Mapping[str, Any]) -> str:
    """Return a counterexample as one line."""
    inputs = [f"{k} = {brief(v)}" for k, v in counterexample.get("inputs", {}).items()]
    rest = [
        f"{say(key)} {brief(counterexample[key])}"
        for key in ("expected", "got", "index")
        if counterexample.get(key) not in (None, [])
    ]
    if "tolerance" in counterexample:
        rest.append(f"{say('tolerance')} {float(counterexample['tolerance']):.2g}")  # or "inf"
    return "; ".join(", ".join(part) for part in (inputs, rest) if part)


def rows(result: Result) -> list[tuple[str, str]]:
    """Return what a report says of a failure, as pairs of a label and a text.

    Every form of a report shows these rows, or some of them. The reproduction, which is code, is
    not among them.
    """
    claim, diagnosis = result.claim, result.diagnosis
    found = [
        ("claim", claim.statement),
        ("formula", claim.formula),
        ("source", claim.source),
        ("found", result.message),
    ]
    if diagnosis:
        found += [("yours", diagnosis.yours), ("right", diagnosis.right)]
        score = say("score {score:.2f}", score=diagnosis.score)
        if diagnosis.runner_up:
            score += say(", runner-up {bug}", bug=diagnosis.runner_up)
        found.append(("bug", say("{bug} ({score})", bug=diagnosis.bug, score=score)))
    if result.counterexample:
        found.append(("example", example(result.counterexample)))
    if result.explained_by:
        found.append(("follows", say("from the failure of {claim}", claim=result.explained_by)))
    found += [("see", link) for link in (diagnosis.links if diagnosis else ())]
    return [(label, text) for label, text in found if text]


def sentence(report: Report) -> str:
    """Return what a reader wants to know first."""
    if report.broken:
        return f"The run broke off: {report.broken}."
    if report.verdict == "violated":
        return _bug(report.failures)
    if not report.judged:
        return f"Nothing was judged: {report.undecided or 'no claim applies to this subject'}."
    counts = report.counts
    if report.verdict == "undecided":
        undecided = f"{_claims(counts.get('inconclusive', 0))} could not be decided"
        return f"No bug was found, but {report.undecided or undecided}."
    if report.verdict == "conformant":
        return f"No bug was found: all {ran(report)} claims hold."
    expected = counts.get("expected-failure", 0)
    known = f", of which {expected} failed as expected" if expected else ""
    return f"No bug was found in {_claims(ran(report))}{known}."


def _bug(failures: Sequence[Result]) -> str:
    if not failures:
        return "A claim is violated that follows from one which was expected to fail."
    first, more = failures[0], len(failures) - 1
    found = first.diagnosis.explanation if first.diagnosis else first.message
    others = f" {more} more failure{'s' * (more > 1)} may have other causes." if more else ""
    return f"This VAE has a bug: {found.partition('. ')[0].rstrip('.')}.{others}"


def _claims(number: int) -> str:
    return f"{number} claim{'s' * (number != 1)}"


def left_open(report: Report) -> dict[str, list[tuple[str, list[str]]]]:
    """Return what was not judged, by what would make it judgeable: each reason, and its claims."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    reasons: list[tuple[str, list[str]]] = [(report.undecided, [])] if report.undecided else []
    for status in ("inconclusive", "not-applicable"):
        reasons += by_reason(report, status).items()
    for reason, ids in reasons:
        remedy = next((text for part, text in _REMEDIES.items() if part in reason), "")
        found.setdefault(remedy, []).append((reason, ids))
    unselected = report.in_level - len(report.results)
    if unselected and report.results and not report.broken:
        found["leave out --only"] = [(f"{unselected} claims were not selected", [])]
    if report.level == "standard" and report.parts.get("module"):
        found["add --train glyphs"] = [("the claims about a trained model were not asked", [])]
    if expected := by_reason(report, "expected-failure"):
        found["mend what was expected to fail"] = list(expected.items())
    return found


def summary(report: Report) -> str:
    """Return the verdict of a report as one line; what was not run never counts as held."""
    return say(
        "{verdict} ({circumstances})", verdict=verdict(report), circumstances=circumstances(report)
    )


def verdict(report: Report) -> str:
    """Return how many of the level's claims hold, and what became of the others."""
    if not report.in_level:
        return say("{verdict}: nothing was judged, {why}", verdict=word(report), why=report.broken)
    unselected = report.in_level - len(report.results)
    if report.verdict == "partial":
        held = say("{verdict}: {count} claims checked", verdict=word(report), count=ran(report))
        others = []
    else:
        held = say(
            "{verdict}: {held} of {total} claims hold",
            verdict=word(report),
            held=report.counts.get("pass", 0),
            total=report.in_level,
        )
        others = [say("{count} ran", count=ran(report))] * (report.verdict != "conformant")
    others += [rest] if (rest := tally(report.counts)) else []
    if unselected:
        others.append(
            say("{count} not run", count=unselected)
            if report.broken
            else say("{count} not selected", count=unselected)
        )
    if report.broken:
        others.append(translated(report.broken))
    elif not report.judged:
        others.append(say("nothing was judged"))
    if report.undecided:
        others.append(translated(report.undecided))
    return say("{held}; {others}", held=held, others=say(", ").join(others)) if others else held


def word(report: Report) -> str:
    """Return the verdict in words: optional parts that are left out are no failure."""
    if not report.judged and not report.broken:
        return say("could not judge")
    return say("no bug found") if report.verdict == "partial" else say(report.verdict)


def circumstances(report: Report) -> str:
    """Return what repeats a run: level, edition and seed; and its error budget and its time."""
    return say(
        "{level} level, edition {edition}, seed {seed}, false-alarm budget {budget:g}, "
        "{seconds:.1f} s",
        level=say(report.level),
        edition=report.edition,
        seed=report.seed,
        budget=report.budget,
        seconds=report.seconds,
    )


def ran(report: Report) -> int:
    """Return how many claims were selected and applicable."""
    return sum(result.status != "not-applicable" for result in report.results)


def tally(counts: Mapping[str, int]) -> str:
    """Return in words how many claims ended with each status, except ``pass``."""
    words = {say(STATUS[status]): n for status, n in counts.items() if n and status != "pass"}
    return say(", ").join(say("{count} {status}", count=words[w], status=w) for w in words)


def by_part(report: Report) -> dict[str, Counter[str]]:
    """Return how many claims of each part ended with each status."""
    parts: dict[str, Counter[str]] = {}
    for result in report.results:
        parts.setdefault(result.claim.part, Counter())[result.status] += 1
    return parts


def by_reason(report: Report, status: Status) -> dict[str, list[str]]:
    """Return the ids of the claims with a status, grouped by their messages."""
    reasons: dict[str, list[str]] = {}
    for result in report.results:
        if result.status == status:
            reasons.setdefault(result.message, []).append(result.claim.id)
    return reasons


def folded(report: Report) -> dict[str, list[str]]:
    """Return, for every claim that explains failures of others, the ids of those others."""
    explained = {r.claim.id: r.explained_by for r in report.results if r.explained_by}
    roots: dict[str, list[str]] = {}
    for result in report.results:
        if result.status in BAD and result.explained_by:
            root = result.explained_by
            for _ in explained:  # no chain has more steps, and a circle ends too
                root = explained.get(root, root)
            roots.setdefault(root, []).append(result.claim.id)
    return roots
