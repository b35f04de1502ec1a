"""Editions of the claims: what one demands never changes, and another may only add to it."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from tests.conformance.test_badge import report as badge_report
from tests.conformance.test_badge import texts
from vae_ref import InputError, cli
from vae_ref.conformance import claims, runner, verify
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.records import EDITION, TEXTBOOK
from vae_ref.conformance.reports.badge import badge
from vae_ref.conformance.reports.files import as_json, as_junit
from vae_ref.conformance.reports.wording import circumstances
from vae_ref.conformance.runner import select
from vae_ref.conformance.subject import Subject

FROZEN = json.loads(Path(__file__).with_name("editions.json").read_text())
"""What the claims of each edition demand, by edition and id. A line here is never changed."""


def right(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()


def demanded(claim):
    return [claim.kind, claim.level, claim.tolerance]


def test_the_claims_of_an_edition_are_frozen():
    known = {claim.id: claim for claim in all_claims()}
    frozen = {
        identifier: (int(edition), demands)
        for edition, of_edition in FROZEN.items()
        for identifier, demands in of_edition.items()
    }
    for identifier in known.keys() - frozen.keys():
        assert known[identifier].edition == EDITION, "raise EDITION in records.py"
        pytest.fail(
            f"{identifier} is new: an edition that was published gets no new claims about a kind "
            f"of VAE that it knows. Give it edition={len(FROZEN) + 1}, raise EDITION in "
            'records.py to that, and add it to editions.json: "EDITION": {"ID": [KIND, LEVEL, '
            "TOLERANCE]}"
        )
    assert known.keys() == frozen.keys(), "a claim was removed"
    for identifier, claim in known.items():
        assert (claim.edition, demanded(claim)) == frozen[identifier], f"{identifier} has changed"
    assert [*FROZEN] == [str(n + 1) for n in range(EDITION)]


@pytest.fixture
def newer(monkeypatch):
    """Add a second edition with one more claim, which nothing fulfils."""
    first = all_claims(TEXTBOOK)
    shares = claims.significance.__wrapped__

    def fails(probe):
        raise runner.Violation("nothing fulfils this")

    more = dataclasses.replace(
        next(c for c in first if c.id == "kl/closed-form"),
        kind="statistical",
        id="kl/of-another-edition",
        edition=EDITION + 1,
        check=fails,
    )
    for module in (claims, runner):
        monkeypatch.setattr(module, "all_claims", lambda parts=None: (*first, more))
        monkeypatch.setattr(module, "EDITION", EDITION + 1)
        monkeypatch.setattr(module, "significance", shares)
    return more


def test_a_new_claim_breaks_nobody_within_an_edition(newer):
    subject = Subject(name="mine", kl=right)
    before, after = (verify(subject, only="kl/*", edition=n) for n in (EDITION, EDITION + 1))
    assert before.exit_status == 0
    assert after.failures[0].claim is newer
    assert (before.edition, after.edition) == (EDITION, EDITION + 1)
    assert after.in_level == before.in_level + 1


def test_a_run_shares_its_budget_among_the_claims_of_its_edition(newer):
    statistical = [claim for claim in claims.all_claims(TEXTBOOK) if claim.kind == "statistical"]
    assert claims.significance(EDITION + 1) == claims.BUDGET / len(statistical)
    assert claims.significance(EDITION) == claims.BUDGET / (len(statistical) - 1)


@pytest.mark.parametrize("edition", [0, EDITION + 1, 10**30])
def test_an_edition_that_is_none_is_refused(edition):
    with pytest.raises(InputError, match="edition must be "):
        select(None, edition=edition)


def test_the_command_refuses_it_in_a_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vae-ref", "verify", "--edition", "7", "--in-process"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    editions = " or ".join(str(n + 1) for n in range(EDITION))
    assert f"edition must be {editions}; got 7" in capsys.readouterr().err.replace("\n", " ")


def test_reports_name_their_edition():
    report = verify(Subject(name="mine", kl=right), only="kl/closed-form")
    assert as_json(report)["edition"] == EDITION
    assert f'<property name="edition" value="{EDITION}" />' in as_junit(report)
    assert f"edition {EDITION}" in circumstances(report)


def test_a_badge_names_its_edition():
    assert texts(badge(badge_report(edition=1)))[-1] == "vae_ref 0.1.0, edition 1"
