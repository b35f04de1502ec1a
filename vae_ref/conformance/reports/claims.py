"""Print the claims: a list of them, or one with all that is said of it."""

from collections.abc import Sequence

from rich.console import Console

from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.records import Claim
from vae_ref.conformance.reports import plain_formula
from vae_ref.conformance.reports.page import Page, padded
from vae_ref.support.messages import say, translated

__all__ = ["show_claim", "show_claims"]

_LABEL = 10


def show_claims(claims: Sequence[Claim], console: Console) -> None:
    """Print a list: on a terminal for people, in a pipe with one line for each claim."""
    page = Page(console)
    longest = max(len(claim.id) for claim in claims)
    for claim in claims:
        statement = translated(claim.statement)
        if console.is_terminal:
            page.line(claim.id, "bold")
            page.paragraph(statement, indent=2)
        else:
            page.line(f"{claim.id:{longest}}  {claim.kind:11}  {statement}")
    page.line(say("{count} of {total} claims", count=len(claims), total=len(all_claims())))


def show_claim(claim: Claim, console: Console) -> None:
    """Print a claim: what it says, how it is checked, and which bugs it finds."""
    page = Page(console)
    page.line(claim.id, "bold")
    page.paragraph(translated(claim.statement), indent=2)
    page.line()
    page.paragraph(plain_formula.plain(claim.formula), indent=6)
    page.line()
    needs = "; ".join(need.replace("|", say(" or ")) for need in claim.needs)
    level = say("{level}, since edition {edition}", level=say(claim.level), edition=claim.edition)
    rows = {
        say("source"): claim.source,
        say("kind"): say(claim.kind),
        say("tolerance"): translated(claim.tolerance),
        say("level"): level,
        say("needs"): needs,
        say("builds on"): ", ".join(claim.builds_on),
        say("limit"): say("{seconds:g} s of CPU time", seconds=claim.seconds),
    }
    for label, text in rows.items():
        if text:
            page.paragraph(text, label=f"{padded(label, _LABEL)}  ", indent=2)
    page.line()
    page.section("finds", ((bug, BANK[bug].explanation) for bug in claim.kills))
