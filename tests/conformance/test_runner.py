"""Whatever a subject does, its claims end with a status, and the run goes on."""

import contextlib
import dataclasses
import functools
import random
import re
import signal
import sys
import time
import typing
import warnings

import numpy as np
import pytest
import torch

from vae_ref import conformance
from vae_ref.conformance import Conventions, Subject, all_claims, guards, runner
from vae_ref.conformance.answers.comparison import require_agreement
from vae_ref.conformance.diagnosis import explain
from vae_ref.conformance.guards import TimeLimit, global_state_kept
from vae_ref.conformance.probe import draws
from vae_ref.conformance.records import (
    TEXTBOOK,
    Diagram,
    Inconclusive,
    NotApplicable,
    Report,
    Status,
    Violation,
)
from vae_ref.conformance.runner import UnknownClaimError, probe_of, select
from vae_ref.conformance.subject import Elsewhere

pytestmark = pytest.mark.usefixtures("user")  # the type checker draws from Python's generator

CLAIMS = {claim.id: claim for claim in all_claims()}
CLOSED = "kl/closed-form"


def kl(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()


def reparameterize(mu, logvar):
    return mu + torch.randn_like(mu) * torch.exp(logvar / 2)


def drawn_slowly(mu, logvar):
    """A sampler that spends more CPU time on many draws than these tests allow for all."""
    start = time.process_time()
    while len(mu) > 1000 and time.process_time() < start + 0.2:
        pass
    return reparameterize(mu, logvar)


SIGNALS = (signal.SIGALRM, signal.SIGPROF, signal.SIGINT, signal.SIGTERM)


def state():
    return {
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": [str(part) for part in np.random.get_state()],
        "python": random.getstate(),
        "handlers": [signal.getsignal(s) for s in SIGNALS],
        "timers": [signal.getitimer(t) for t in (signal.ITIMER_REAL, signal.ITIMER_PROF)],
        "filters": list(warnings.filters),
        "numpy's errors": np.geterr(),
    }


def leaving_no_trace(function):
    """Demand of every call in this file that the state is as before, however it ends."""

    @functools.wraps(function)
    def call(*arguments, **options):
        before = state()
        try:
            return function(*arguments, **options)
        finally:
            assert state() == before

    return call


check, verify = map(leaving_no_trace, (runner.check, conformance.verify))


def subject(**parts):
    return Subject(name="fake", **parts)


def of(act, *, seconds=10.0, identifier=CLOSED, **parts):
    """Check one claim whose check is ``act``, or that calls a KL that is ``act``."""
    claim = dataclasses.replace(CLAIMS[identifier], seconds=seconds)
    return check(claim, probe_of(subject(kl=act, **parts)))


def judged(act):
    probe = probe_of(subject(kl=kl, reparameterize=drawn_slowly))
    return check(dataclasses.replace(CLAIMS[CLOSED], check=act), probe)


# Every status.


def violates(probe):
    found, due = torch.tensor(1.0), torch.tensor(0.0)
    require_agreement("it", found, due, scale=1.0, dtype=torch.float64, inputs={}, symptom="odd")


def does_not_apply(probe):
    assert probe.course


def cannot_tell(probe):
    assert draws.draws(probe)


def breaks(probe):
    raise RuntimeError("first line\nsecond line")


@pytest.mark.parametrize(
    ("act", "status", "message"),
    [
        (lambda probe: None, "pass", ""),
        (violates, "fail", "it is 1, not 0"),
        (does_not_apply, "not-applicable", "there is no course: no images to train on"),
        (cannot_tell, "inconclusive", r"[\d,]+ draws are needed, but .* .*"),
        (breaks, "error", "RuntimeError: first line"),
    ],
)
def test_a_claim_ends_with_a_status(monkeypatch, act, status, message):
    monkeypatch.setattr(draws, "BUDGET", 0.01)
    result = judged(act)
    assert result.status == status
    assert re.fullmatch(message, result.message)
    assert result.seconds >= 0
    if status == "fail":
        assert (result.symptom, result.counterexample["got"]) == ("odd", 1)


@pytest.mark.parametrize("own", [NotApplicable("no"), Violation("no"), Inconclusive("no")])
def test_a_subject_that_raises_a_finding_of_the_kit_is_merely_wrong(own):
    """It does not choose its own verdict."""

    def act(mu, logvar):
        raise own

    result = of(act)
    assert (result.status, result.symptom) == ("error", "own finding")
    assert result.message == f"{type(own).__name__}: no"


def test_every_status_there_is_can_be_reached(monkeypatch):
    monkeypatch.setattr(draws, "BUDGET", 0.01)

    def odd(mu, logvar):
        if mu.shape == (3, 5):
            raise OSError("odd")
        return kl(mu, logvar)

    found = {of(works_on_and_on, seconds=0.05).status}
    report = verify(
        subject(kl=odd, reparameterize=lambda mu, logvar: drawn_slowly(2 * mu, logvar)),
        expected_failures={
            "reparameterization/affine": "known",
            "reparameterization/fresh-noise": "thought to be known",
        },
        only="[kor]*",
    )
    assert found | set(report.counts) == set(typing.get_args(Status))


# What a subject may answer, and do.

ANSWERS = {
    "a constant": (lambda mu, logvar: torch.tensor(3.0), "fail", "the KL is 3, not"),
    "zero": (lambda mu, logvar: torch.tensor(0.0), "fail", "the KL is 0, not"),
    "NaN": (lambda mu, logvar: kl(mu, logvar) * float("nan"), "fail", "the KL is nan, not"),
    "infinity": (lambda mu, logvar: torch.tensor(float("inf")), "fail", "the KL is"),
    "nothing": (lambda mu, logvar: None, "fail", "kl returned NoneType, not a tensor"),
    "a float": (lambda mu, logvar: 1.0, "fail", "kl returned float, not a tensor"),
    "a NumPy number": (lambda mu, logvar: np.float64(1.0), "fail", "kl returned float64, not"),
    "integers": (lambda mu, logvar: torch.tensor(1), "fail", "kl returned torch.int64, not"),
    "complex": (lambda mu, logvar: torch.tensor(1j), "fail", "kl returned torch.complex"),
    "a tuple": (lambda mu, logvar: (kl(mu, logvar),), "fail", "kl returned tuple, not a tensor"),
    "no numbers": (lambda mu, logvar: torch.zeros(0), "fail", "the KL is 0, not"),
    "half precision": (lambda mu, logvar: kl(mu, logvar).half(), "fail", "the KL is"),
}


@pytest.mark.parametrize(("act", "status", "message"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_none_fails(act, status, message):
    result = of(act)
    assert result.status == status
    assert result.message.startswith(message)
    assert "\n" not in result.message


class Odd(BaseException):
    """What no ``except Exception`` catches."""


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class SilentError(Exception):
    def __str__(self):
        return "\n\n"


RAISES = {
    "an exception": (ValueError("no"), "ValueError: no"),
    "lines": (ValueError("one\ntwo"), "ValueError: one"),
    "an empty line first": (ValueError("\n\ntwo"), "ValueError"),
    "nothing to say": (ValueError(), "ValueError"),
    "an assertion": (AssertionError(), "AssertionError"),
    "the end of the program": (SystemExit(3), "SystemExit: 3"),
    "a base exception": (Odd("odd"), "Odd: odd"),
    "a generator's end": (GeneratorExit(), "GeneratorExit"),
    "an iterator's end": (StopIteration(), "StopIteration"),
    "no memory": (MemoryError(), "MemoryError"),
    "too deep": (RecursionError("deep"), "RecursionError: deep"),
    "what cannot be shown": (UnspeakableError(), "UnspeakableError"),
    "blank lines": (SilentError(), "SilentError"),
    "a group": (ExceptionGroup("several", [ValueError("a")]), "ExceptionGroup: several"),
}


@pytest.mark.parametrize(("error", "message"), RAISES.values(), ids=RAISES)
def test_what_is_raised_is_an_error_and_the_run_goes_on(error, message):
    def act(mu, logvar):
        raise error

    report = verify(subject(kl=act, reparameterize=reparameterize), only="*-mu")
    statuses = {r.claim.id: r.status for r in report.results}
    assert statuses["kl/gradient-mu"] == "error"
    assert statuses["reparameterization/gradient-mu"] == "pass"
    assert report.results[0].message.startswith(message)
    assert "\n" not in report.results[0].message
    assert report.verdict == "violated"


def test_a_kl_that_is_subtracted_from_a_squared_error_is_no_fault_of_the_kit():
    """It implies a negative variance, whose logarithm does not exist."""

    def loss(outputs, x, mu, logvar):
        return ((outputs - x) ** 2).sum() - 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()

    report = conformance.verify(Subject(name="subtracted", loss=loss), only="objective/*")
    found = {result.claim.id: result.status for result in report.results}
    assert "error" not in found.values()
    assert found["objective/beta"] == found["objective/lower-bound"] == "fail"


def test_ctrl_c_ends_the_run():
    def act(mu, logvar):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        of(act)


def test_recursion_without_end_is_an_error():
    def act(mu, logvar):
        return act(mu, logvar)

    assert of(act).message.startswith("RecursionError")


def works_on_and_on(mu, logvar):
    while True:
        pass


def works_for_torch(mu, logvar):
    while True:
        torch.zeros(8) + 1


def sleeps(mu, logvar):
    time.sleep(600)


def sleeps_past_exceptions(mu, logvar):
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.01)


@pytest.fixture
def impatient(monkeypatch):
    """Take for hanging what gives no answer for 0.2 seconds by the clock on the wall."""
    monkeypatch.setattr(guards, "patience", lambda seconds: 0.2)


@pytest.mark.parametrize("act", [works_on_and_on, works_for_torch])
def test_what_spends_its_cpu_time_is_left_which_is_said(act):
    start = time.process_time()
    result = of(act, seconds=0.2)
    assert result.status == "timeout"
    assert result.message == "no answer within 0.2 s of CPU time"
    assert 0.2 <= time.process_time() - start < 2
    assert of(kl).status == "pass"


@pytest.mark.parametrize("act", [sleeps, sleeps_past_exceptions])
def test_what_hangs_is_left_after_a_second_try_which_is_said(impatient, act):
    tries = []
    claim = dataclasses.replace(CLAIMS[CLOSED], seconds=10.0)
    result = check(
        claim, probe_of(subject(kl=act)), begins=lambda claim, seconds: tries.append(seconds)
    )
    assert tries == [10.0, 10.0]
    assert result.status == result.symptom == "timeout"
    assert result.message == "no answer within 0.2 s, twice"


def test_what_hung_once_only_is_judged_by_its_second_answer(impatient):
    """A machine that was busy for a while accuses nobody, and leaves no note."""
    calls = []

    def hangs_once(mu, logvar):
        calls.append(1)
        if len(calls) == 1:
            print("about to hang")
            time.sleep(600)
        return kl(mu, logvar)

    notes = []
    assert check(CLAIMS[CLOSED], probe_of(subject(kl=hangs_once)), notes).status == "pass"
    assert notes == []


def test_what_spent_its_cpu_time_is_not_tried_again():
    calls = []

    def act(mu, logvar):
        calls.append(1)
        works_on_and_on(mu, logvar)

    assert of(act, seconds=0.05).status == "timeout"
    assert len(calls) == 1


def test_what_is_slow_but_answers_is_not_accused():
    """A large network answers every call, and the time is up before all of them are made."""

    def slow(mu, logvar):
        end = time.process_time() + 0.05
        while time.process_time() < end:
            sum(range(1000))
        return kl(mu, logvar)

    kl(torch.zeros(1, 1), torch.zeros(1, 1))  # the first call of all takes torch longer
    result = check(
        dataclasses.replace(CLAIMS["kl/additive-over-examples"], seconds=0.12),
        probe_of(subject(kl=slow)),
    )
    assert result.status == "inconclusive"
    assert result.message.startswith("0.12 s of CPU time are not enough: one call alone took 0.0")


def test_what_swallows_the_limit_is_left_too():
    """It ends by itself after some seconds, so that the test ends where the limit fails."""
    end = time.process_time() + 3

    def act(mu, logvar):
        while time.process_time() < end:
            with contextlib.suppress(BaseException):
                sum(range(1000))
        return kl(mu, logvar)

    result = of(act, seconds=0.2)
    assert result.status == "timeout", result.seconds


def test_a_late_answer_is_none():
    """The limit was swallowed once, and the answer came all the same."""

    def act(mu, logvar):
        with contextlib.suppress(TimeLimit):
            works_on_and_on(mu, logvar)
        return kl(mu, logvar)

    assert of(act, seconds=0.05).status == "timeout"


# What a subject may do beside answering.


def prints(mu, logvar):
    print("hello")
    print("there", file=sys.stderr)
    return kl(mu, logvar)


def closes_the_output(mu, logvar):
    sys.stdout.close()
    return kl(mu, logvar)


def warns(mu, logvar):
    warnings.warn("old\nfashioned", FutureWarning, stacklevel=1)
    return kl(mu, logvar)


def warns_of_nothing(mu, logvar):
    warnings.warn("", stacklevel=1)
    return kl(mu, logvar)


def sets_the_dtype(mu, logvar):
    torch.set_default_dtype(torch.float32)
    return kl(mu, logvar)


def disables_gradients(mu, logvar):
    torch.set_grad_enabled(False)
    return kl(mu, logvar)


def reseeds(mu, logvar):
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    return kl(mu, logvar)


def ignores_warnings(mu, logvar):
    warnings.simplefilter("error")
    return kl(mu, logvar)


def wants_numpy_strict(mu, logvar):
    np.seterr(all="raise")
    return kl(mu, logvar)


def takes_the_alarm(mu, logvar):
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    return kl(mu, logvar)


def leaks(mu, logvar):
    leaked.append(torch.zeros(100_000))
    return kl(mu, logvar)


leaked = []
ACTS = [
    prints, closes_the_output, warns, warns_of_nothing, sets_the_dtype, reseeds, ignores_warnings,
    wants_numpy_strict, takes_the_alarm, leaks,
]  # fmt: skip


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_what_it_does_beside_leaves_the_answer_right(capsys, act):
    errors = np.geterr()
    try:
        report = verify(subject(kl=act, reparameterize=reparameterize), only="*/gradient-*")
    finally:
        leaked.clear()
        np_errors = np.geterr()
        np.seterr(**errors)
    assert {r.status for r in report.results if r.claim.part == "reparameterization"} == {"pass"}
    assert {r.status for r in report.results if r.claim.part == "kl"} == {"pass"}
    assert capsys.readouterr() == ("", "")
    assert np_errors == errors


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (prints, "prints", "printed 2 lines: hello"),
        (warns, "warns", "old"),
        (warns_of_nothing, "warns", ""),
    ],
)
def test_what_it_does_beside_is_noted(act, kind, message):
    probe, notes = probe_of(subject(kl=act)), []
    one_call = dataclasses.replace(
        CLAIMS[CLOSED], check=lambda b: b.kl_as_is(torch.zeros(1, 1), torch.zeros(1, 1))
    )
    assert check(one_call, probe, notes).status == "pass"
    (note,) = notes
    assert (note.kind, note.where) == (kind, CLOSED)
    assert note.message.startswith(message)


def test_the_same_note_is_made_once():
    notes = verify(subject(kl=warns), only="kl/*").notes
    assert [note.message for note in notes] == ["old"]
    assert notes[0].where == CLOSED


@pytest.mark.parametrize(
    ("act", "word"),
    [
        (sets_the_dtype, "default dtype"),
        (disables_gradients, "grad mode"),
        (reseeds, "seeds torch's global generator"),
    ],
)
def test_what_it_changes_is_a_claim_of_its_own(act, word):
    (result,) = verify(subject(kl=act), only="model/global-state-intact").results
    assert result.status == "fail"
    assert word in result.message


def in_place(mu, logvar):
    mu.mul_(0)
    return kl(mu, logvar)


def test_changed_inputs_are_a_claim_of_its_own():
    (result,) = verify(subject(kl=in_place), only="model/inputs-intact").results
    assert (result.status, result.message) == ("fail", "kl changes its arguments in place")


def test_gradients_that_are_off_stay_off_for_one_claim_only():
    """The first claim switches them off; what follows it is checked with gradients."""
    calls = []

    def once(mu, logvar):
        if not calls:
            calls.append(1)
            torch.set_grad_enabled(False)
        return kl(mu, logvar)

    report = verify(subject(kl=once), only="kl/*")
    assert {r.claim.id for r in report.results if r.status != "pass"} == set()


def test_what_depends_on_the_order_of_calls_is_found():
    calls = []

    def drifts(mu, logvar):
        calls.append(1)
        return kl(mu, logvar) * (1 + 1e-3 * len(calls))

    assert verify(subject(kl=drifts), only="kl/*").verdict == "violated"


def outcomes(fake, *identifiers, seed=0):
    """Check claims with one probe and without a diagnosis, which takes longer than they do."""
    probe = probe_of(fake, seed)
    results = [check(CLAIMS[identifier], probe) for identifier in identifiers]
    return {r.claim.id: (r.status, r.message) for r in results}


def named(part):
    return [identifier for identifier in CLAIMS if identifier.startswith(part)]


def test_the_run_itself_does_not_depend_on_what_ran_before():
    """A claim alone ends as it does among all the others."""
    wrong = subject(
        kl=lambda mu, logvar: 1.01 * kl(mu, logvar),
        reparameterize=lambda mu, logvar: reparameterize(mu, logvar + 0.001),
    )
    identifiers = [*named("kl/"), *named("reparameterization/")]
    together = outcomes(wrong, *identifiers)
    with global_state_kept():
        torch.manual_seed(1)  # the state of the global generator does not matter
        alone = {i: outcomes(wrong, i)[i] for i in reversed(identifiers)}
    assert alone == together


def test_a_seed_repeats_a_run():
    def numbers(seed):
        fake = subject(reparameterize=lambda mu, s: reparameterize(mu, 1.1 * s))
        return outcomes(fake, *named("reparameterization/s"), seed=seed)

    assert numbers(1) == numbers(1)
    assert numbers(1) != numbers(2)


NONSENSE = {
    "NaN": lambda mu, logvar: mu * float("nan"),
    "NaN at times": lambda mu, logvar: torch.where(torch.rand_like(mu) < 0.01, torch.nan, mu),
    "infinity": lambda mu, logvar: mu + float("inf"),
    "mu": lambda mu, logvar: mu,
    "a constant": lambda mu, logvar: torch.zeros_like(mu),
}
STATISTICAL = [c.id for c in all_claims(TEXTBOOK) if c.kind == "statistical"]


@pytest.mark.parametrize("act", [NONSENSE["NaN"], NONSENSE["infinity"]], ids=["NaN", "infinity"])
def test_no_statistic_of_nonsense_holds(act):
    """Of NaN every comparison is false: a p-value that is none must not pass for a large one."""
    found = outcomes(subject(reparameterize=act), *STATISTICAL)
    assert [identifier for identifier, (status, _) in found.items() if status == "pass"] == []


@pytest.mark.parametrize("act", NONSENSE.values(), ids=NONSENSE)
def test_a_sampler_of_nonsense_is_violated_without_an_error(act):
    found = outcomes(subject(reparameterize=act), *named("reparameterization/"))
    statuses = {status for status, _ in found.values()}
    assert "fail" in statuses
    assert statuses <= {"pass", "fail", "not-applicable"}, found


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 2), (3, 5, 2)])
def test_a_sampler_of_another_shape_is_told_so(shape):
    result = check(
        CLAIMS["reparameterization/affine"],
        probe_of(subject(reparameterize=lambda mu, logvar: torch.zeros(shape))),
    )
    assert result.status == "fail"
    if shape not in ((), (1,)):  # which is the shape of the smallest case, all but
        assert "z has shape" in result.message


def test_a_sampler_that_spends_the_budget_of_cpu_time_is_not_decided(monkeypatch):
    """However long its next call would take: it is not accused of a time-out."""
    monkeypatch.setattr(draws, "BUDGET", 0.1)
    report = verify(subject(reparameterize=drawn_slowly), only="reparameterization/mean")
    (result,) = report.results
    assert result.status == "inconclusive"
    message = r"[\d,]+ draws are needed, but 0.1 s of CPU time are enough for [\d,]+ only; fewer"
    assert re.match(message, result.message)
    assert (report.verdict, report.exit_status) == ("undecided", 3)


def test_claims_have_more_time_than_the_draws_may_take():
    assert all(CLAIMS[identifier].seconds > draws.BUDGET for identifier in STATISTICAL)


@pytest.mark.slow
def test_a_sampler_that_waits_is_decided(monkeypatch):
    """The clock on the wall decides nothing: it may wait, or the machine be busy."""
    monkeypatch.setattr(draws, "BUDGET", 1.0)
    waited = []

    def slow(mu, logvar):
        if len(mu) > 1000:
            time.sleep(0.1)
            waited.append(0.1)
        return reparameterize(mu, logvar)

    report = verify(subject(reparameterize=slow), only="reparameterization/mean")
    assert sum(waited) > 1.0
    assert report.results[0].status == "pass"


def test_a_sampler_is_drawn_from_in_few_sizes():
    """Functions of JAX are compiled anew for each, which takes more than a second."""
    sizes = set()

    def compiled(mu, logvar):
        sizes.add(mu.shape)
        return reparameterize(mu, logvar)

    draws.draws(probe_of(subject(reparameterize=compiled)))
    assert len(sizes) == 2


# Expectations.


def double(mu, logvar):
    return 2 * kl(mu, logvar)


def expecting(act, reason="issue 12"):
    return verify(subject(kl=act), only=CLOSED, expected_failures={CLOSED: reason})


def test_an_expected_failure_is_one():
    report = expecting(double)
    (result,) = report.results
    assert result.status == "expected-failure"
    assert result.message.startswith("issue 12: the KL is")
    assert result.counterexample["got"] == 1.0
    assert report.verdict == "partial", "what is known to fail does not hold"
    assert report.failures == ()


def test_an_unexpected_pass_is_a_violation():
    report = expecting(kl)
    assert report.results[0].status == "unexpected-pass"
    assert report.results[0].message == "expected to fail: issue 12"
    assert report.verdict == "violated"
    assert len(report.failures) == 1


@pytest.mark.parametrize(
    ("act", "status"), [(lambda m, s: 1 / 0, "error"), (works_on_and_on, "timeout")]
)
def test_an_expected_failure_that_ends_otherwise_is_a_violation(monkeypatch, act, status):
    monkeypatch.setattr(explain, "_SECONDS", 0.2)
    hasty = tuple(dataclasses.replace(claim, seconds=0.2) for claim in all_claims(TEXTBOOK))
    monkeypatch.setattr("vae_ref.conformance.runner.all_claims", lambda parts=None: hasty)
    report = expecting(act)
    assert report.results[0].status == status
    assert report.verdict == "violated"


def test_an_expected_failure_that_does_not_apply_is_none():
    report = verify(subject(nll=lambda o, x: o), only=CLOSED, expected_failures={CLOSED: "why"})
    assert report.results[0].status == "not-applicable"


@pytest.mark.parametrize("unknown", ["kl/no-such-claim", "kl/*", "", "KL/closed-form"])
def test_an_expected_failure_that_is_no_claim_raises(unknown):
    with pytest.raises(UnknownClaimError, match="an expected failure names no claim"):
        verify(subject(kl=kl), expected_failures={CLOSED: "known", unknown: "not"})


# Selection, verdict, counts.


@pytest.mark.parametrize("pattern", ["nothing/*", "", "KL/*", "kl", "kl/closed-for", "["])
def test_a_pattern_that_matches_nothing_raises(pattern):
    with pytest.raises(UnknownClaimError, match="no claim matches"):
        verify(subject(kl=kl), only=pattern)


def test_a_claim_of_another_level_says_so():
    """``vae-ref claims`` lists it, so that to say there is none is of no help."""
    assert select("training/*", "trained")
    with pytest.raises(UnknownClaimError, match="trained"):
        select("training/*")


def test_only_selects():
    report = verify(subject(kl=kl), only="kl/g*")
    assert [r.claim.id for r in report.results] == ["kl/gradient-mu", "kl/gradient-logvar"]
    assert report.verdict == "partial", "the rest was not looked at"
    assert report.in_level == len(select(None, parts=TEXTBOOK))


def test_progress_sees_every_result():
    seen = []
    report = verify(subject(kl=kl), only="kl/*", progress=seen.append)
    assert [r.claim.id for r in seen] == [r.claim.id for r in report.results]


def test_a_subject_without_anything_has_nothing_that_holds():
    report = verify(subject())
    assert set(report.counts) == {"not-applicable"}
    assert report.counts["not-applicable"] == report.in_level
    assert (report.judged, report.verdict, report.exit_status) == (0, "undecided", 3)
    assert all(r.message.startswith("there is no ") for r in report.results)


def test_weights_in_another_process_are_said_to_be_there():
    elsewhere = Elsewhere(again=lambda: iter(()), end=lambda: None)
    probe = probe_of(subject(kl=kl, elsewhere=elsewhere))
    needs = {("module",): "the weights are in another process, and are not asked for",
             ("loss",): "there is no loss"}  # fmt: skip
    for need, message in needs.items():
        claim = dataclasses.replace(CLAIMS[CLOSED], needs=need)
        assert check(claim, probe).message == message


@pytest.mark.parametrize(
    ("parts", "need", "message"),
    [
        ({}, "kl", "there is no kl"),
        ({"loss": print}, "kl", "there is no kl function of its own"),
        ({"loss": print}, "forward", "there is no forward"),
        (
            {"diagram": Diagram(nodes=(), edges=())},
            "forward",
            "there is no forward function of its own, as the step was audited",
        ),
    ],
)
def test_a_part_that_was_taken_from_elsewhere_is_not_called_missing(parts, need, message):
    claim = dataclasses.replace(CLAIMS[CLOSED], needs=(need,))
    assert check(claim, probe_of(subject(**parts))).message == message


def report_of(*statuses, in_level=None):
    claims = list(CLAIMS.values())
    results = tuple(judged(lambda probe: None) for _ in statuses)
    results = tuple(
        dataclasses.replace(r, status=s, claim=c)
        for r, s, c in zip(results, statuses, claims, strict=False)
    )
    size = len(statuses) if in_level is None else in_level
    return Report(subject="x", seed=0, level="standard", in_level=size, results=results)


@pytest.mark.parametrize(
    ("statuses", "verdict", "status"),
    [
        (("pass", "pass"), "conformant", 0),
        (("pass", "not-applicable"), "partial", 0),
        (("pass", "inconclusive"), "undecided", 3),
        (("not-applicable", "inconclusive"), "undecided", 3),
        (("not-applicable", "not-applicable"), "undecided", 3),
        (("expected-failure", "inconclusive"), "undecided", 3),
        (("pass", "expected-failure"), "partial", 0),
        (("not-applicable", "expected-failure"), "partial", 0),
        (("pass", "fail"), "violated", 1),
        (("pass", "error"), "violated", 1),
        (("pass", "timeout"), "violated", 1),
        (("pass", "unexpected-pass"), "violated", 1),
        (("inconclusive", "fail"), "violated", 1),
    ],
)
def test_the_verdict_and_the_exit_status(statuses, verdict, status):
    report = report_of(*statuses)
    assert (report.verdict, report.exit_status) == (verdict, status)
    assert sum(report.counts.values()) == 2
    assert report.counts[statuses[1]] == statuses.count(statuses[1])


def test_what_was_not_run_does_not_count_as_held():
    assert report_of("pass", "pass", in_level=3).verdict == "partial"
    assert report_of(in_level=2).verdict == "undecided", "nothing was judged"


def test_a_run_that_broke_off_is_violated_whatever_held_before():
    report = dataclasses.replace(report_of("pass", in_level=1), broken="the process ended")
    assert (report.verdict, report.exit_status) == ("violated", 1)


def test_declarations_and_versions_are_reported():
    fake = subject(
        kl=lambda m, s: kl(m, s) / m.shape[1], conventions=Conventions(kl_reduction="mean")
    )
    report = verify(fake, only=CLOSED, seed=7)
    assert report.results[0].status == "pass"
    assert (report.subject, report.seed, report.declared) == ("fake", 7, {"kl_reduction": "mean"})
    assert set(report.versions) == {"python", "torch", "vae_ref"}
