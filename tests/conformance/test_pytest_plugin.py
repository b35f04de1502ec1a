"""The pytest plugin: claims as tests, and no trace of it where nobody asked."""

import dataclasses
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from vae_ref.conformance import Subject, TargetError, parametrize_with_claims
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.probe import draws
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import TEXTBOOK, Diagnosis
from vae_ref.conformance.runner import UnknownClaimError

SUBJECTS = """
import torch
from vae_ref.conformance import Subject

def terms(mu, logvar):
    return 0.5 * (mu**2 + torch.expm1(logvar) - logvar)

mine = Subject(name="mine", kl=lambda mu, logvar: terms(mu, logvar).sum())
twin = Subject(name="mine", kl=mine.kl)
wrong = Subject(name="wrong", kl=lambda mu, logvar: terms(mu, logvar).mean())
empty = Subject(name="empty")
"""
OWN_TESTS = """
from subjects import mine, wrong
from vae_ref.conformance import parametrize_with_claims

@parametrize_with_claims(mine, expected_failures={"kl/quadrature": "an old bug"})
def test_mine(check):
    check()

@parametrize_with_claims(wrong, only="kl/[cq]*", expected_failures={"kl/closed-form": "a mean"})
def test_wrong(check):
    check()
"""
RUN = ["-p", "no:hypothesispytest", "-p", "no:benchmark", "-p", "no:cacheprovider"]


@pytest.fixture
def pytest_run(pytester):
    """Run pytest anew, as its user would, in a directory that holds some subjects."""
    pytester.makepyfile(subjects=SUBJECTS)
    return partial(pytester.runpytest_subprocess, *RUN)


@pytest.fixture(scope="module")
def all_imported():
    """Pytester unloads what is imported in its tests, such as what the plugin imports late."""
    import vae_ref.conformance.diagnosis.explain
    import vae_ref.conformance.loading.recognition
    import vae_ref.conformance.reports.wording  # noqa: F401


@pytest.fixture
def pytest_run_here(all_imported, pytester):
    """The same in this process, which has imported torch."""
    pytester.makepyfile(subjects=SUBJECTS)
    pytester.syspathinsert()
    torch.set_default_dtype(torch.float32)
    return partial(pytester.runpytest_inprocess, *RUN)


@pytest.fixture(scope="module")
def subjects():
    namespace = {}
    exec(SUBJECTS, namespace)
    return namespace


@pytest.fixture(scope="module")  # before pytester, which unloads what is imported in its tests
def examples(subjects):
    """The counterexamples that a claim finds with three seeds."""
    marks = [parametrize_with_claims(subjects["wrong"], seed=seed) for seed in range(3)]
    messages = [message_of(mark, "kl/sum-over-latents").splitlines() for mark in marks]
    return [line for lines in messages for line in lines if line.startswith("  example")]


def check_of(mark, identifier):
    """Return what the decorator hands to the test of a claim."""
    (check,) = (p.values[0] for p in mark.args[1] if p.id == identifier)
    return check


def message_of(mark, identifier):
    with pytest.raises(pytest.fail.Exception) as failure:
        check_of(mark, identifier)()
    return failure.value.msg


def behave(monkeypatch, check, **changes):
    """Let the first claim of all do what the test is about."""
    first, *others = all_claims(TEXTBOOK)
    claims = (dataclasses.replace(first, check=check, **changes), *others)
    monkeypatch.setattr("vae_ref.conformance.runner.all_claims", lambda parts=None: claims)
    return first.id


# Subjects on the command line.


@pytest.mark.slow
def test_subjects_need_no_test_file(pytest_run):
    run = pytest_run(
        "--vae-subject=subjects:mine",
        "--vae-subject=subjects:wrong",
        "--vae-subject=subjects.py:twin",
        "--junit-xml=results.xml",
    )
    run.stdout.fnmatch_lines(
        [
            f"collected {3 * 17} items",
            "vae_ref[[]subjects:mine[]] .................*",
            "vae_ref[[]wrong[]] F..F*",
            "vae_ref[[]subjects.py:twin[]] .................*",
            "the KL is 1.25, not 2.5 (wrong violates kl/closed-form)",
            "FAILED vae_ref[[]wrong[]]::kl/closed-form - Failed: the KL is 1.25*",
        ]
    )
    outcomes = run.parseoutcomes()
    assert outcomes["passed"] > 2 * 17
    assert outcomes["passed"] + outcomes["failed"] == 3 * 17
    assert run.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.slow
def test_options_of_pytest_apply_and_the_seed_is_handed_on(pytest_run_here, pytester, examples):
    pytester.makepyfile(test_other="def test_sum(): pass\ndef test_else(): pass")
    run = pytest_run_here("--vae-subject=subjects:wrong", "--vae-seed=2", "-k", "sum", "-q")
    run.assert_outcomes(passed=1, failed=1, deselected=17)
    assert [example in run.outlines for example in examples] == [False, False, True]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "there is no module nowhere*"),
        ("subjects:nobody", "subjects has no nobody*"),
        ("subjects:empty", "no claim applies to empty"),
    ],
)
def test_a_bad_target_is_one_line(pytest_run_here, target, message):
    run = pytest_run_here("--vae-subject", target)
    run.stderr.fnmatch_lines([f"ERROR: --vae-subject {target}: {message}"])
    assert len(list(filter(None, run.errlines))) == 1
    assert run.ret == pytest.ExitCode.USAGE_ERROR


# One's own test file.


@pytest.mark.slow
def test_a_decorated_test_is_one_for_each_claim(pytest_run_here, pytester):
    pytester.makepyfile(test_mine=OWN_TESTS)
    run = pytest_run_here("-ra")
    run.stdout.fnmatch_lines(
        [
            "expected to fail: an old bug (mine unexpectedly fulfils kl/quadrature)",
            "SKIPPED * test_mine.py:*: not-applicable: there is no encode",
            "XFAIL *::test_wrong[[]kl/closed-form[]] - *a mean: the KL is 1.25, not 2.5",
        ]
    )
    applicable = sum(claim.level == "standard" for claim in all_claims(TEXTBOOK))
    run.assert_outcomes(passed=16 + 1, failed=1, xfailed=1, skipped=applicable - 17)


def test_a_failure_stands_alone(subjects, monkeypatch):
    def explain(probe, results):
        found = Diagnosis(
            bug="kl-mean-over-everything",
            explanation="your KL is a mean",
            score=0.75,
            runner_up="kl-mean-over-latents",
            yours="terms.mean()",
            right="terms.sum()",
            reproduction="kl(mu, logvar)",
            links=("the guide",),
        )
        explained = (
            dataclasses.replace(result, diagnosis=found, explained_by="kl/closed-form")
            for result in results
        )
        return tuple(explained), ()

    monkeypatch.setattr("vae_ref.conformance.diagnosis.explain.explain", explain)
    message = message_of(parametrize_with_claims(subjects["wrong"]), "kl/gradient-mu")
    lines = message.splitlines()
    assert lines.pop(8).startswith("  example  mu = [[1, 2]], logvar = [[0, 0]]; expected 2, got")
    assert lines == [
        "dKL/dmu is 1 at [0, 1], not 2 (wrong violates kl/gradient-mu)",
        "  your KL is a mean",
        "  claim    The gradient of the KL divergence with respect to mu is mu.",
        r"  formula  \partial \mathrm{KL} / \partial \mu = \mu",
        "  source   Kingma and Welling 2014, appendix B",
        "  yours    terms.mean()",
        "  right    terms.sum()",
        "  bug      kl-mean-over-everything (score 0.75, runner-up kl-mean-over-latents)",
        "  follows  from the failure of kl/closed-form",
        "  see      the guide",
        "  reproduction",
        "      kl(mu, logvar)",
    ]


def test_a_failure_that_follows_from_an_earlier_one_says_so():
    subject = Subject(name="double", kl=lambda mu, s: (mu**2 + s.exp() - 1 - s).sum())
    mark = parametrize_with_claims(subject, only="kl/*")
    assert "follows" not in message_of(mark, "kl/quadrature")
    message_of(mark, "kl/closed-form")
    assert "follows  from the failure of kl/closed-form" in message_of(mark, "kl/quadrature")


def test_an_expected_failure_is_shown_on_request(subjects, monkeypatch):
    reasons = {"kl/closed-form": "a mean"}
    check = check_of(
        parametrize_with_claims(subjects["wrong"], expected_failures=reasons), "kl/closed-form"
    )
    with pytest.raises(pytest.xfail.Exception, match="a mean: the KL is 1.25"):
        check()
    monkeypatch.setattr(pytest, "xfail", lambda reason: None)  # as --runxfail does
    with pytest.raises(pytest.fail.Exception, match="wrong violates kl/closed-form"):
        check()


def works_on_and_on(*arguments):
    while True:
        pass


@pytest.mark.parametrize(
    ("undecided", "reason"),
    [
        (lambda probe: probe.course, "not-applicable: there is no course"),
        (draws.draws, r"inconclusive: [\d,]+ draws are needed, but"),
    ],
)
def test_what_was_not_decided_is_skipped(monkeypatch, undecided, reason):
    monkeypatch.setattr(draws, "BUDGET", 0.01)
    first = behave(monkeypatch, undecided)
    subject = Subject(name="slow", kl=works_on_and_on, reparameterize=works_on_and_on)
    check = check_of(parametrize_with_claims(subject), first)
    with pytest.raises(pytest.skip.Exception, match=reason):
        check()


def hangs(probe):
    with probe.calling():
        works_on_and_on()


@pytest.mark.parametrize(
    ("accident", "message"),
    [
        (lambda probe: 1 / 0, "ZeroDivisionError: .* raises an error in"),
        (hangs, "no answer within 0.1 s of CPU time .* runs out of time in"),
    ],
)
def test_an_accident_is_a_failure_even_where_one_is_expected(
    subjects, monkeypatch, accident, message
):
    first = behave(monkeypatch, accident, seconds=0.1)
    mark = parametrize_with_claims(subjects["mine"], expected_failures={first: "a reason"})
    with pytest.raises(pytest.fail.Exception, match=message):
        check_of(mark, first)()


def test_claims_are_chosen_by_pattern_and_level(subjects):
    def ids(**choice):
        return [p.id for p in parametrize_with_claims(subjects["mine"], **choice).args[1]]

    known = all_claims(TEXTBOOK)
    assert ids() == [claim.id for claim in known if claim.level == "standard"]
    assert ids(level="trained") == [claim.id for claim in known]
    assert ids(only="kl/gradient-*") == ["kl/gradient-mu", "kl/gradient-logvar"]


@pytest.mark.parametrize("as_given", [str, Path])
def test_a_file_is_loaded_as_the_command_does(tmp_path, as_given):
    file = tmp_path / "own.py"
    file.write_text("def kl_divergence(mu, logvar): return (mu + logvar).sum()")
    mark = parametrize_with_claims(as_given(file), only="kl/closed-form")
    assert "own.py violates kl/closed-form" in message_of(mark, "kl/closed-form")
    with pytest.raises(TargetError, match="there is no file no_such.py"):
        parametrize_with_claims(as_given("no_such.py"))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"expected_failures": {"kl/none": "?", "kl/closed-form": "?"}}, "no claim: kl/none;"),
        ({"only": "none/*"}, "no claim matches 'none/\\*'"),
    ],
)
def test_unknown_claims_are_an_error_on_import(subjects, choice, message):
    with pytest.raises(UnknownClaimError, match=message):
        parametrize_with_claims(subjects["mine"], **choice)


def test_claims_share_a_probe_that_the_first_of_them_makes(subjects, monkeypatch):
    made = []

    class Counted(Probe):
        def __init__(self, subject: Subject, seed: int = 0, **options) -> None:
            made.append(seed)
            super().__init__(subject, seed, **options)

    monkeypatch.setattr("vae_ref.conformance.runner.Probe", Counted)
    mark = parametrize_with_claims(subjects["mine"], seed=5)
    assert made == []
    check_of(mark, "kl/closed-form")()
    check_of(mark, "kl/quadrature")()
    assert made == [5]


# Runs that have nothing to do with VAEs.


def test_an_unrelated_run_pays_nothing(pytest_run, pytester):
    pytester.makepyfile(
        test_unrelated="""
        import sys

        def test_modules(pytestconfig):
            assert pytestconfig.pluginmanager.hasplugin("vae_ref")
            heavy = {"torch", "scipy", "vae_ref.conformance.claims"}
            assert not heavy & sys.modules.keys()
        """
    )
    pytest_run().assert_outcomes(passed=1)


def test_the_plugin_imports_pytest_and_the_standard_library():
    code = """
import sys, pytest
before = set(sys.modules)
import vae_ref.conformance.pytest_plugin
new = {name for name in sys.modules.keys() - before}
print(sorted(name for name in new if name.partition(".")[0] not in sys.stdlib_module_names))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    plugin = "vae_ref.conformance.pytest_plugin"
    records = "vae_ref.conformance.records"
    assert run.stdout.strip() == str(["vae_ref", "vae_ref.conformance", plugin, records])
