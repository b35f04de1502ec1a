"""Claims as tests: ``pytest --vae-subject my_model.py``, or a decorator in one's own test file.

Pytest loads this module on every start, asked for or not: whatever is heavy is imported where it
is used, and nothing happens without the option or the decorator.
"""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vae_ref.conformance.records import EDITION

if TYPE_CHECKING:
    from vae_ref.conformance.probe.probe import Probe
    from vae_ref.conformance.records import Claim, Level, Result
    from vae_ref.conformance.subject import Subject

__all__ = ["parametrize_with_claims"]

_VERB = {
    "fail": "violates",
    "expected-failure": "violates",  # with --runxfail
    "error": "raises an error in",
    "timeout": "runs out of time in",
    "unexpected-pass": "unexpectedly fulfils",
}


def parametrize_with_claims(
    subject: "Subject | str | Path | None" = None,
    *,
    step: Callable[..., Any] | None = None,
    batch: Any = None,
    expected_failures: Mapping[str, str] | None = None,
    only: str | None = None,
    level: "Level" = "standard",
    edition: int = EDITION,
    seed: int = 0,
) -> pytest.MarkDecorator:
    """Turn a test function with the argument ``check`` into one test for every claim.

    ``check()`` fails if the claim is violated, with a message that stands alone, and skips if the
    claim does not apply or could not be decided. All claims share what was drawn and trained.

    Args:
        subject: What is under test; or a file or a module to load it from, as a text or a path.
        step: Instead of a subject, a function that returns the loss.
        batch: What the step is called with, if anything; after that with all of it twice.
        expected_failures: Claim ids with the reason why they are known to fail; such a failure is
            an xfail. A claim that holds all the same, an error or a time-out is a failure.
        only: A pattern of claim ids, such as ``kl/*``; by default all.
        level: ``trained`` adds the claims that train the subject first.
        edition: The edition of the claims; by default the newest.
        seed: Of everything that is random.

    Raises:
        InputError: If there is neither subject nor step, or both, or a batch without a step, or
            no such edition.
        NoVAEError: If the step has no VAE that can be judged; the message says why.
        TargetError: If a subject cannot be loaded.
        UnknownClaimError: If ``only`` or an expected failure matches no claim.

    Example:
        >>> from vae_ref.conformance import Subject, parametrize_with_claims
        >>> subject = Subject(
        ...     name="mine",
        ...     kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(),
        ... )
        >>> @parametrize_with_claims(subject, expected_failures={"kl/near-prior": "naive form"})
        ... def test_my_vae(check):
        ...     check()
    """
    from vae_ref.conformance.runner import require_known, select, subject_or_step

    require_known(expected_failures or {})
    trial = _Trial(subject_or_step(subject, step, batch), seed, expected_failures, edition)
    chosen = select(only, level, edition, parts=trial.subject.parts)
    checks = [pytest.param(partial(_check, trial, c), id=c.id) for c in chosen]
    return pytest.mark.parametrize("check", checks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the options; see ``pytest --help``."""
    group = parser.getgroup("vae_ref", "conformance of variational autoencoders")
    group.addoption(
        "--vae-subject",
        action="append",
        default=[],
        metavar="TARGET",
        help="hold a VAE against every claim that applies to it: module, module:name, file.py or "
        "file.py:name; may be repeated",
    )
    group.addoption(
        "--vae-level",
        choices=("standard", "trained"),
        default="standard",
        help="trained adds the claims that train the VAE first",
    )
    group.addoption(
        "--vae-edition",
        type=int,
        choices=range(1, EDITION + 1),
        default=EDITION,
        help="the edition of the claims; by default the newest",
    )
    group.addoption(
        "--vae-seed", type=int, default=0, metavar="N", help="of all that is random in the claims"
    )


@pytest.hookimpl(tryfirst=True)  # so that -k, --deselect and --last-failed see the items too
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the claims of the subjects that were asked for; there need be no test files."""
    subjects = {target: _load(target) for target in config.option.vae_subject}
    names = [subject.name for subject in subjects.values()]
    for target, subject in subjects.items():
        label = f"vae_ref[{subject.name if names.count(subject.name) == 1 else target}]"
        trial = _Trial(subject, config.option.vae_seed, edition=config.option.vae_edition)
        claims = trial.applicable(config.option.vae_level)
        if not claims:
            raise pytest.UsageError(f"--vae-subject {target}: no claim applies to {subject.name}")
        items += session.genitems(
            ClaimCollector.from_parent(
                session, name=label, nodeid=label, trial=trial, claims=claims
            )
        )


def _load(target: str) -> "Subject":
    from vae_ref.conformance.loading.recognition import TargetError, load

    try:
        return load(target)
    except TargetError as error:
        raise pytest.UsageError(f"--vae-subject {target}: {error}") from None


class ClaimCollector(pytest.Collector):
    """The claims that apply to a subject of the command line."""

    def __init__(self, *, trial: "_Trial", claims: "Sequence[Claim]", **node: Any) -> None:
        super().__init__(**node)
        self._trial, self._claims = trial, claims

    def collect(self) -> "Iterator[ClaimItem]":
        """Yield a test for every claim."""
        for claim in self._claims:
            check = partial(_check, self._trial, claim)
            yield ClaimItem.from_parent(self, name=claim.id, check=check)


class ClaimItem(pytest.Item):
    """A claim about a subject, as a test."""

    def __init__(self, *, check: Callable[[], None], **node: Any) -> None:
        super().__init__(**node)
        self._check = check

    def runtest(self) -> None:
        """Check the claim."""
        self._check()

    def reportinfo(self) -> tuple[Path, None, str]:
        """Head a failure with the whole id; there is no line to point at."""
        return self.path, None, self.nodeid


class _Trial:
    """A subject on a probe that all of its claims share, and what became of them so far."""

    def __init__(
        self,
        subject: "Subject",
        seed: int,
        expected: Mapping[str, str] | None = None,
        edition: int = EDITION,
    ) -> None:
        self.subject = subject
        self._seed, self._edition = seed, edition
        self._expected = expected or {}
        self._results: dict[str, Result] = {}

    @cached_property
    def _probe(self) -> "Probe":
        from vae_ref.conformance.runner import probe_of

        return probe_of(self.subject, self._seed, edition=self._edition)

    def applicable(self, level: "Level") -> "list[Claim]":
        """Return the claims about the parts that the subject has."""
        from vae_ref.conformance.runner import select

        has = self.subject.has
        claims = select(None, level, self._edition, parts=self.subject.parts)
        return [claim for claim in claims if all(has(need) for need in claim.needs)]

    def result(self, claim: "Claim") -> "Result":
        """Check a claim, and explain a failure by the claims checked before it."""
        from vae_ref.conformance.diagnosis.explain import FAILED, explain
        from vae_ref.conformance.runner import as_expected, check

        result = as_expected(check(claim, self._probe), self._expected)
        self._results[claim.id] = result
        if result.status not in FAILED:
            return result
        explained, _ = explain(self._probe, tuple(self._results.values()))
        return next(result for result in explained if result.claim.id == claim.id)


def _check(trial: _Trial, claim: "Claim") -> None:
    """Check a claim, and end the test in the way the claim ended."""
    __tracebackhide__ = True
    result = trial.result(claim)
    if result.status in ("not-applicable", "inconclusive"):
        pytest.skip(f"{result.status}: {result.message}")
    if result.status == "expected-failure":
        pytest.xfail(result.message)  # returns under --runxfail, which wants to see the failure
    if result.status != "pass":
        pytest.fail(_account(trial.subject.name, result), pytrace=False)


def _account(subject: str, result: "Result") -> str:
    """Say what is wrong, to a reader who has nothing but this text."""
    from vae_ref.conformance.reports.wording import printable, rows

    claim, diagnosis = result.claim, result.diagnosis
    text = f"{result.message} ({subject} {_VERB[result.status]} {claim.id})\n"
    text += f"  {diagnosis.explanation}\n" if diagnosis else ""
    text += "".join(
        f"  {label:8} {content}\n" for label, content in rows(result) if label != "found"
    )
    if diagnosis and diagnosis.reproduction:
        text += f"  reproduction\n{textwrap.indent(diagnosis.reproduction.strip(), ' ' * 6)}\n"
    return printable(text).rstrip()
