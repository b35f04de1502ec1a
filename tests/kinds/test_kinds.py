"""What holds for every kind of VAE: its reference, right variants, near misses, bugs and page."""

import importlib
import subprocess
import sys

import pytest
import torch

from tests.transcripts import ROOT
from vae_ref.bridge.kinds import REFERENCES
from vae_ref.conformance import verify
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.loading import serve
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.runner import UnknownClaimError, check, probe_of
from vae_ref.support.errors import UserError

pytestmark = pytest.mark.usefixtures("user")

HOLDS = ("pass", "not-applicable")
CLAIMS = {claim.id: claim for claim in all_claims()}
SUBJECTS = {kind: importlib.import_module(f"tests.kinds.subjects.{kind}") for kind in REFERENCES}
RIGHT = [
    pytest.param(make, id=make.__name__, marks=[pytest.mark.slow] * (index > 0))
    for subjects in SUBJECTS.values()
    for index, make in enumerate(subjects.RIGHT)  # by default one of each kind
]
NEAR = {claim: change for subjects in SUBJECTS.values() for claim, change in subjects.NEAR.items()}


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)],
    ids=str,
)
@pytest.mark.parametrize("kind", REFERENCES)
def test_every_claim_holds_on_the_reference(kind, dtype):
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    found = verify(REFERENCES[kind](dtype))
    left = {r.claim.id: r.message for r in found.results if r.status != "pass"}
    assert left == getattr(SUBJECTS[kind], "NOT_OF_THE_REFERENCE", {})
    assert found.results


def test_claims_about_another_kind_are_said_not_to_be_of_this_one():
    with pytest.raises(UnknownClaimError, match="no claim about this kind of VAE matches 'kl/"):
        verify(REFERENCES["conditional"](), only="kl/*")


def test_another_kind_is_not_isolated(monkeypatch):
    monkeypatch.setattr(serve, "load", lambda *_: REFERENCES["conditional"]())
    with pytest.raises(UserError, match="mine.py is a ConditionalVAE; .* leave out --isolated"):
        serve._loaded("mine.py", {})


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("make", RIGHT)
def test_no_alarm_is_raised_over_a_subject_that_is_right(make, dtype):
    torch.set_default_dtype(dtype)
    torch.manual_seed(0)
    found = verify(make())
    alarms = [r for r in found.results if r.status not in HOLDS]
    assert not alarms, "\n".join(f"{r.claim.id}: {r.status}: {r.message}" for r in alarms)
    assert found.counts["pass"]


@pytest.mark.parametrize("identifier", NEAR)
def test_a_near_miss_is_refused(identifier):
    (part,) = {CLAIMS[identifier].part}
    probe = probe_of(SUBJECTS[part].specimen(**NEAR[identifier]))
    result = check(CLAIMS[identifier], probe)
    assert result.status == "fail", result


@pytest.mark.parametrize("kind", REFERENCES)
def test_a_kind_is_complete(kind):
    claims = [claim for claim in CLAIMS.values() if claim.part == kind]
    bugs = [bug for bug in BANK.values() if bug.part == kind]
    assert len(bugs) >= 8
    assert len(SUBJECTS[kind].RIGHT) >= 4
    noticed = {bug for claim in claims for bug in claim.kills}
    assert noticed == {bug.id for bug in bugs}
    exact = {c.id for c in claims if c.kind in ("exact", "gradient", "identity", "statistical")}
    unknown = getattr(SUBJECTS[kind], "NO_NEAR_MISS", set())
    assert exact <= SUBJECTS[kind].NEAR.keys() | unknown
    assert (ROOT / "docs" / "kinds" / f"{kind}.md").exists()
    assert (ROOT / "docs" / "claims" / f"{kind}.md").exists()
    assert (ROOT / "docs" / "images" / f"kind_{kind}.png").exists()


@pytest.mark.slow
@pytest.mark.sampled(5)
@pytest.mark.parametrize("kind", REFERENCES)
def test_the_example_runs(kind, tmp_path):
    command = [sys.executable, str(ROOT / "docs" / "examples" / "kinds" / f"{kind}.py")]
    run = subprocess.run(
        [*command, str(tmp_path / "a.png")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "a.png").stat().st_size > 1000
