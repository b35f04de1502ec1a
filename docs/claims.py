"""Make the pages of the claims and the bugs from the registry, the bank and the kill matrix."""

import re
from collections.abc import Iterable
from pathlib import Path

import jinja2

from vae_ref.conformance.claims import BUDGET, all_claims, significance
from vae_ref.conformance.diagnosis.explain import kill_matrix
from vae_ref.conformance.mutants import BANK, Mutant
from vae_ref.conformance.records import EDITION, TEXTBOOK, Claim, Part

__all__ = ["link", "substitutions", "text"]

HERE = Path(__file__).parent
KINDS = {
    "exact": "a value is compared with an independent answer",
    "gradient": "a derivative is compared with an independent answer",
    "metamorphic": "two answers of the subject are compared with each other",
    "identity": "a consequence of the definition is checked",
    "statistical": "random draws are put to an exact test",
}
MUST = {bug: [claim.id for claim in all_claims() if bug in claim.kills] for bug in BANK}
"""The claims that must expose each bug by themselves."""
EXPOSED = {bug: dict.fromkeys(MUST[bug], "") | kill_matrix()[bug] for bug in BANK}
"""All claims that expose each bug, those that must do so first, and how each is violated."""


def substitutions() -> dict[str, str]:
    """Return the parts of the pages that are made from the registry, as Markdown."""
    parts = list(dict.fromkeys(claim.part for claim in all_claims()))
    others = [part for part in parts if part not in TEXTBOOK]
    claims = {part: [c for c in all_claims() if c.part == part] for part in parts}
    bugs = {part: [b for b in BANK.values() if b.part == part] for part in parts}
    own = all_claims(TEXTBOOK)
    trained = sum(claim.level == "trained" for claim in own)
    missed = ", ".join(bug for bug in BANK if not kill_matrix()[bug])
    noticed = f"not noticed: {missed}" if missed else "each of them is noticed"
    show = _macros(claims, bugs)
    return {
        "claims_count": str(len(own)),
        "claims_trained": str(trained),
        "claims_standard": str(len(own) - trained),
        "claims_statistical": str(sum(claim.kind == "statistical" for claim in own)),
        "claims_seconds": _seconds(own),
        "claims_budget": _power(BUDGET),
        "claims_edition": str(EDITION),
        "claims_share": _power(significance()),
        "claims_kinds": "\n\n".join(f"{kind}\n: {KINDS[kind]}" for kind in KINDS),
        "claims_overview": show.overview(parts, "part", "claims/"),
        "claims_index": show.index_of_claims(),
        "bugs_count": str(sum(len(bugs[part]) for part in TEXTBOOK)),
        "bugs_noticed": noticed,
        "bugs_index": show.index_of_bugs(),
        "kinds_overview": show.overview(others, "kind", ""),
        "kinds_claims": str(len(all_claims()) - len(own)),
        "kinds_bugs": str(sum(len(bugs[part]) for part in others)),
        **{f"page_of_{part}": show.page(part) for part in parts},
    }


def _macros(
    claims: dict[Part, list[Claim]], bugs: dict[Part, list[Mutant]]
) -> jinja2.environment.TemplateModule:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "anchor": _anchor,
        "first_sentence": lambda words: re.split(r"(?<=\.) (?=[A-Z])", words)[0],
        "link": link,
        "links": lambda ids: ", ".join(map(link, ids)),
        "need": lambda need: " or ".join(f"`{name}`" for name in need.split("|")),
        "seen": _seen,
        "sentence": _sentence,
        "text": text,
    }
    values = {
        "claims": claims,
        "bugs": bugs,
        "kinds": KINDS,
        "must": MUST,
        "exposed_by": EXPOSED,
        "also": {
            claim.id: [bug for bug in BANK if claim.id in EXPOSED[bug] and bug not in claim.kills]
            for claim in all_claims()
        },
        "titles": {part: _title(part) for part in claims},
        "share": {
            part: _power(significance(parts=TEXTBOOK if part in TEXTBOOK else (part,)))
            for part in claims
        },
    }
    return environment.get_template("claims.md.jinja", globals=values).module


def _title(part: Part) -> str:
    return (HERE / "claims" / f"{part}.md").read_text().partition("\n")[0].removeprefix("# ")


def _power(chance: float) -> str:
    return f"{chance:.0e}".replace("e-0", "e-")


def _seconds(claims: Iterable[Claim]) -> str:
    standard, trained = (
        max(claim.seconds for claim in claims if claim.level == level)
        for level in ("standard", "trained")
    )
    return f"{standard:g} s of CPU time, or {trained:g} s if it trains"


def _sentence(words: str) -> str:
    """Begin with a capital letter, unless the first word is a symbol such as z_e."""
    return words if "_" in words.partition(" ")[0] else words[0].upper() + words[1:]


def _anchor(identifier: str) -> str:
    """Return an anchor; the ids of a claim and a bug may differ only in the slash."""
    return identifier.replace("/", "-") if "/" in identifier else f"bug-{identifier}"


def text(plain: str) -> str:
    """Escape a text, so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>$|^~#])", r"\\\1", plain)


def link(identifier: str) -> str:
    return f"[`{identifier}`](#{_anchor(identifier)})"


def _seen(place: str) -> str:
    """Link to a repository or one of its threads; return any other place as it is."""
    match = re.match(r"([\w.-]+/[\w.-]+)(?:#(\d+))?", place)
    if not match:
        return text(place)
    thread = f"/issues/{match[2]}" if match[2] else ""
    address = f"https://github.com/{match[1]}{thread}"
    return f"[{text(match[0])}]({address}){text(place[match.end() :])}"
