"""Print the claims: a list of them, or one with all that is said of it."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console

from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.diagnosis.explain import kill_matrix
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.records import Claim
from vae_ref.conformance.reports import plain_formula
from vae_ref.conformance.reports.page import Page, padded
from vae_ref.support.messages import say, translated

__all__ = ["show_claim", "show_claims"]


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
            page.line(f"{claim.id:{longest}}  {padded(say(claim.kind), 11)}  {statement}")
    page.line(say("{count} of {total} claims", count=len(claims), total=len(all_claims())))


def show_claim(claim: Claim, console: Console) -> None:
    """Print a claim: what it says, how it is checked, and the bugs that it finds."""
    page = Page(console)
    page.line(claim.id, "bold")
    page.paragraph(translated(claim.statement), indent=2)
    page.line()
    page.paragraph(plain_formula.plain(claim.formula), indent=6)
    page.line()
    needs = "; ".join(need.replace("|", say(" or ")) for need in claim.needs)
    level = say("{level}, since edition {edition}", level=say(claim.level), edition=claim.edition)
    is_violation = claim.tolerance.startswith("a measure outside")
    rows = {
        say("source"): claim.source,
        say("kind"): say(claim.kind),
        say("violated by") if is_violation else say("tolerance"): translated(claim.tolerance),
        say("level"): level,
        say("needs"): needs,
        say("builds on"): ", ".join(claim.builds_on),
        say("limit"): say("{seconds:g} s of CPU time", seconds=claim.seconds),
    }
    longest = max(map(cell_len, rows))
    for label, text in rows.items():
        if text:
            page.paragraph(text, label=f"{padded(label, longest)}  ", indent=2)
    page.line()
    page.section("must find", ((bug, BANK[bug].explanation) for bug in claim.kills))
    seen = (bug for bug, claims in kill_matrix().items() if claim.id in claims)
    if also := [bug for bug in seen if bug not in claim.kills]:
        page.paragraph(", ".join(also), label=say("also finds: "))
