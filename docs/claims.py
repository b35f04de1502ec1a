"""Make the page of the claims from the registry, the bank of bugs and the kill matrix."""

import re
from collections.abc import Iterable, Iterator
from html import escape
from itertools import groupby

from vae_ref.conformance.claims import BUDGET, all_claims, significance
from vae_ref.conformance.diagnosis.explain import kill_matrix
from vae_ref.conformance.mutants import BANK, Mutant
from vae_ref.conformance.records import EDITION, TEXTBOOK, Claim, Part

__all__ = ["link", "substitutions", "text"]

PITCH, MARGIN = 15, 6  # of a picture's rows and columns, in pixels
LETTER = 6.1  # the width of a letter in a label, roughly

NAMES: dict[Part, str] = {"kl": "KL divergence"}
TITLES: dict[Part, str] = {
    "conditional": "Conditional VAEs and learned priors",
    "hierarchy": "Hierarchies of codes",
    "categorical": "Discrete codes",
    "quantisation": "Vector quantisation",
    "families": "Other likelihoods",
    "disentangling": "Disentangling terms and annealing",
    "estimators": "Estimators of bounds, gradients and a KL",
    "flows": "Richer posteriors and priors",
    "evidence": "Bounds on the evidence from both sides",
    "calibration": "Calibration of the posterior",
}
KINDS = {
    "exact": "a value is compared with an independent answer",
    "gradient": "a derivative is compared with an independent answer",
    "metamorphic": "two answers of the subject are compared with each other",
    "identity": "a consequence of the definition is checked",
    "statistical": "random draws are put to an exact test",
}


def substitutions() -> dict[str, str]:
    """Return the parts of the pages that are made from the registry, as Markdown."""
    known, bank = all_claims(), list(BANK.values())
    claims = [claim for claim in known if claim.part in TEXTBOOK]
    bugs = [bug for bug in bank if bug.part in TEXTBOOK]
    missed = [bug.id for bug in bank if not kill_matrix()[bug.id]]
    noticed = "each of them is noticed" if not missed else f"not noticed: {', '.join(missed)}"
    trained = sum(claim.level == "trained" for claim in claims)
    statistical = sum(claim.kind == "statistical" for claim in claims)
    return {
        "claims_count": str(len(claims)),
        "claims_trained": str(trained),
        "claims_standard": str(len(claims) - trained),
        "claims_statistical": str(statistical),
        "claims_seconds": _seconds(claims),
        "claims_budget": f"{BUDGET:.0e}".replace("e-0", "e-"),
        "claims_edition": str(EDITION),
        "claims_share": f"{significance():.0e}".replace("e-0", "e-"),
        "bugs_count": str(len(bugs)),
        "bugs_noticed": noticed,
        "claims_overview": "\n".join(_overview(claims, bugs)),
        "claims_kinds": "\n\n".join(f"{kind}\n: {KINDS[kind]}" for kind in KINDS),
        "claims": "\n".join(line for section in _sections(claims) for line in section),
        "bugs": "\n".join(line for lines in _banks(bugs) for line in lines),
        "kinds_overview": "\n".join(_kinds(known, bank)),
        "kinds_claims": str(len(known) - len(claims)),
        "kinds_bugs": str(len(bank) - len(bugs)),
        **dict(_of_kinds(known, bank)),
    }


def _of_kinds(claims: Iterable[Claim], bugs: Iterable[Mutant]) -> Iterator[tuple[str, str]]:
    """Yield what the page of each kind of VAE shows."""
    for part in TITLES:
        own = (line for claim in claims if claim.part == part for line in _claim(claim))
        yield f"claims_of_{part}", "\n".join(own)
        yield f"bugs_of_{part}", "\n".join(_bank(part, [bug for bug in bugs if bug.part == part]))


def _kinds(claims: Iterable[Claim], bugs: Iterable[Mutant]) -> Iterator[str]:
    yield "| kind | claims | bugs in the bank |"
    yield "|---|--:|--:|"
    for part, title in TITLES.items():
        counts = (sum(each.part == part for each in group) for group in (claims, bugs))
        yield f"| [{title}]({part}.md) | {' | '.join(map(str, counts))} |"


def _name(part: Part) -> str:
    return NAMES.get(part, part)


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _anchor(identifier: str) -> str:
    """Return an anchor; the ids of a claim and a bug may differ only in the slash."""
    return identifier.replace("/", "-") if "/" in identifier else f"bug-{identifier}"


def text(plain: str) -> str:
    """Escape a text, so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>$|^~#])", r"\\\1", plain)


def _code(plain: str) -> str:
    return f"`{plain}`".replace("|", r"\|")


def link(identifier: str) -> str:
    return f"[`{identifier}`](#{_anchor(identifier)})"


def _seconds(claims: Iterable[Claim]) -> str:
    standard, trained = (
        max(claim.seconds for claim in claims if claim.level == level)
        for level in ("standard", "trained")
    )
    return f"{standard:g} s of CPU time, or {trained:g} s if it trains"


def _overview(claims: Iterable[Claim], bugs: Iterable[Mutant]) -> Iterator[str]:
    yield "| part | claims | bugs in the bank |"
    yield "|---|--:|--:|"
    parts = [bug.part for bug in bugs]
    for part, group in groupby(claims, lambda claim: claim.part):
        title = f"[{_sentence(_name(part))}](#part-{part})"
        yield f"| {title} | {len(list(group))} | {parts.count(part)} |"


def _sections(claims: Iterable[Claim]) -> Iterator[Iterator[str]]:
    for part, group in groupby(claims, lambda claim: claim.part):
        yield iter([f"(part-{part})=", f"## {_sentence(_name(part))}", ""])
        yield from map(_claim, group)


def _claim(claim: Claim) -> Iterator[str]:
    yield from (f"({_anchor(claim.id)})=", f"### {claim.id}", "")
    yield from (text(claim.statement), "", "$$", claim.formula, "$$", "")
    label = "Finds" if claim.kind == "statistical" else "Tolerance"
    needs = (" or ".join(f"`{n}`" for n in need.split("|")) for need in claim.needs)
    yield f":Source: {text(claim.source)}"
    yield f":Kind: {claim.kind}"
    yield f":{label}: {text(claim.tolerance)}"
    yield f":Needs: {'; '.join(needs)}"
    yield f":Must notice: {', '.join(map(link, claim.kills))}"
    if claim.builds_on:
        yield f":Builds on: {', '.join(map(link, claim.builds_on))}"
    yield f":Level: {claim.level}, at most {claim.seconds:g} s of CPU time"
    yield ""


def _banks(bugs: Iterable[Mutant]) -> Iterator[Iterator[str]]:
    for part, group in groupby(sorted(bugs, key=_place), lambda bug: bug.part):
        yield iter([f"(bugs-{part})=", f"### Bugs in the {_name(part)}", ""])
        yield _bank(part, list(group))


def _bank(part: Part, bugs: list[Mutant]) -> Iterator[str]:
    yield from ("```{raw} html", _picture(part, bugs), "```", "")
    yield "| bug | what the kit says, what the bug computes, where it was seen |"
    yield "|---|---|"
    for bug in bugs:
        name = f"[`{bug.id}`]{{#{_anchor(bug.id)}}}"
        lines = [f"{text(_sentence(bug.explanation))}.", _code(bug.wrong)]
        if bug.seen:
            lines.append(f"Seen in {', '.join(map(_seen, bug.seen))}.")
        yield f"| {name} | {'<br>'.join(lines)} |"
    yield ""


def _place(bug: Mutant) -> int:
    parts = list(dict.fromkeys(claim.part for claim in all_claims()))
    return parts.index(bug.part)


def _seen(place: str) -> str:
    """Link to a repository or one of its threads; return any other place as it is."""
    match = re.match(r"([\w.-]+/[\w.-]+)(?:#(\d+))?", place)
    if not match:
        return text(place)
    thread = f"/issues/{match[2]}" if match[2] else ""
    address = f"https://github.com/{match[1]}{thread}"
    return f"[{text(match[0])}]({address}){text(place[match.end() :])}"


def _picture(part: Part, bugs: list[Mutant]) -> str:
    """Draw which claims notice the bugs of a part, with the colours and the font of the page."""
    declared = {(claim.id, bug) for claim in all_claims() for bug in claim.kills}
    noticed = {claim for bug in bugs for claim in kill_matrix()[bug.id]}
    columns = [claim.id for claim in all_claims() if claim.id in noticed]
    left, top = (MARGIN + LETTER * max(map(len, ids)) for ids in ([b.id for b in bugs], columns))
    width, height = left + PITCH * len(columns) + MARGIN, top + PITCH * len(bugs) + MARGIN
    svg = [
        f'<div class="kills"><svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">',
        f"<title>Which claims notice the bugs in the {_name(part)}</title>",
    ]
    for i, claim in enumerate(columns):
        x = left + PITCH * (i + 0.5)
        svg.append(f'<path class="line" d="M{x:.1f} {top:.1f}V{height - MARGIN:.1f}"/>')
        turned = f"translate({x + 4:.1f} {top - 4:.1f}) rotate(-90)"
        svg.append(_label(claim, f'transform="{turned}"'))
    for i, bug in enumerate(bugs):
        y = top + PITCH * (i + 0.5)
        svg.append(f'<path class="line" d="M{left:.1f} {y:.1f}H{width - MARGIN:.1f}"/>')
        svg.append(_label(bug.id, f'x="{left - 4:.1f}" y="{y + 4:.1f}" text-anchor="end"'))
        for claim, symptom in kill_matrix()[bug.id].items():
            must = "must" if (claim, bug.id) in declared else "does"
            x, side = left + PITCH * columns.index(claim), PITCH - 4
            title = f"{bug.id} is noticed by {claim}" + (f": {symptom}" if symptom else "")
            svg.append(
                f'<rect class="{must}" x="{x + 2:.1f}" y="{y - side / 2:.1f}" width="{side}" '
                f'height="{side}"><title>{escape(title)}</title></rect>'
            )
    return "\n".join([*svg, "</svg></div>"])


def _label(identifier: str, place: str) -> str:
    return f'<a href="#{_anchor(identifier)}"><text {place}>{escape(identifier)}</text></a>'
