"""Reports on the terminal and in logs."""

import io
import math

import pytest
from rich.console import Console

from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.records import EDITION, Diagnosis, Note, Report, Result
from vae_ref.conformance.reports.terminal import show
from vae_ref.conformance.reports.wording import example

CLAIMS = all_claims()
DIAGNOSIS = Diagnosis(
    bug="kl-no-half",
    explanation="your KL lacks the factor 1/2",
    score=0.987,
    runner_up="kl-negated",
    yours="sum(mu^2 + sigma^2 - log sigma^2 - 1)",
    right="1/2 sum(mu^2 + sigma^2 - log sigma^2 - 1)",
    reproduction="import torch\n\nfor _ in range(2):\n    print(kl(mu, logvar))  # " + "x" * 90,
    links=("https://example.org/issues/1",),
)
COUNTEREXAMPLE = {"inputs": {"mu": [[1.0]], "logvar": [[0.0]]}, "expected": 0.5, "got": math.nan}


def made(*results: Result, **rest) -> Report:
    defaults = {"subject": "mine", "seed": 0, "level": "standard", "in_level": len(results)}
    return Report(**{**defaults, "budget": 1e-6, "seconds": 2.14, **rest}, results=results)


def shown(report: Report, width: int = 100, encoding: str = "utf-8", **options) -> str:
    """What a console of some width and encoding receives."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    show(report, Console(file=file, width=width, **options))
    file.flush()
    return raw.getvalue().decode(encoding)


def failed(index: int, **rest) -> Result:
    return Result(claim=CLAIMS[index], status="fail", message="the KL is nan, not 0.5", **rest)


def held(*indices: int) -> list[Result]:
    return [Result(claim=CLAIMS[i], status="pass") for i in indices]


@pytest.mark.parametrize(
    ("report", "last"),
    [
        (
            made(*held(0, 1, 2)),
            "conformant: 3 of 3 claims hold "
            f"(standard level, edition {EDITION}, seed 0, false-alarm budget 1e-06, 2.1 s)",
        ),
        (
            made(*held(0), Result(claim=CLAIMS[1], status="not-applicable"), in_level=68, seed=7),
            "no bug found: 1 claims checked; 1 not applicable, 66 not selected "
            f"(standard level, edition {EDITION}, seed 7, false-alarm budget 1e-06, 2.1 s)",
        ),
        (
            made(*held(0), Result(claim=CLAIMS[1], status="inconclusive", message="slow")),
            "undecided: 1 of 2 claims hold; 2 ran, 1 inconclusive "
            f"(standard level, edition {EDITION}, ",
        ),
        (
            made(*held(0), Result(claim=CLAIMS[1], status="expected-failure", message="known")),
            "no bug found: 2 claims checked; 1 expected failure "
            f"(standard level, edition {EDITION}, ",
        ),
        (
            made(*held(0), failed(1), Result(claim=CLAIMS[2], status="timeout", message="slow")),
            "violated: 1 of 3 claims hold; 3 ran, 1 violated, 1 timeout "
            f"(standard level, edition {EDITION}, ",
        ),
        (
            made(Result(claim=CLAIMS[0], status="unexpected-pass", message="known"), in_level=2),
            "violated: 0 of 2 claims hold; 1 ran, 1 unexpectedly holds, 1 not selected (",
        ),
        (
            made(in_level=68),
            "could not judge: 0 of 68 claims hold; 0 ran, 68 not selected, nothing was judged (",
        ),
        (
            made(*held(0), in_level=3, broken="the target's process ended with status 0"),
            "violated: 1 of 3 claims hold; 1 ran, 2 not run, "
            f"the target's process ended with status 0 (standard level, edition {EDITION}, ",
        ),
    ],
)
def test_last_line_counts_only_what_was_run(report, last):
    assert shown(report, width=300).splitlines()[-1].startswith(last)


def test_parts_are_counted():
    reparameterization = next(c for c in CLAIMS if c.part == "reparameterization")
    lines = shown(
        made(*held(*range(9)), failed(9), Result(claim=reparameterization, status="pass"))
    ).splitlines()
    assert "  kl                   9 of 10 hold   1 violated" in lines
    assert "  reparameterization   1 of  1 hold" in lines


def test_failure_is_shown_whole():
    root = failed(0, diagnosis=DIAGNOSIS, counterexample=COUNTEREXAMPLE)
    others = [failed(i, explained_by=CLAIMS[0].id) for i in (1, 2)]
    output = shown(made(root, *others))
    assert output.count("VIOLATED") == 1, "failures with the same cause are folded"
    block = output[output.index("VIOLATED") : output.index("violated: 0 of 3")]
    assert [line.rstrip() for line in block.splitlines()] == [
        "VIOLATED kl/closed-form",
        "  your KL lacks the factor 1/2",
        f"  claim    {CLAIMS[0].statement}",
        "  found    the KL is nan, not 0.5",
        "  yours    sum(mu^2 + sigma^2 - log sigma^2 - 1)",
        "  right    1/2 sum(mu^2 + sigma^2 - log sigma^2 - 1)",
        "  bug      kl-no-half (score 0.99, runner-up kl-negated)",
        "  example  mu = [[1]], logvar = [[0]]; expected 0.5, got nan",
        "  see      https://example.org/issues/1",
        "  reproduction",
        "",
        "      import torch",
        "",
        "      for _ in range(2):",
        "          print(kl(mu, logvar))  # " + "x" * 90,
        "",
        f"  also: {CLAIMS[1].id}, {CLAIMS[2].id}",
        "",
    ]


def test_an_infinite_tolerance_is_shown():
    """It is a text, as it came from the process that judged."""
    counterexample = {"inputs": {}, "expected": "inf", "got": 1.0, "tolerance": "inf"}
    output = shown(made(failed(0, counterexample=counterexample)))
    assert "expected inf, got 1, tolerance inf" in output


@pytest.mark.parametrize(
    ("status", "heading"),
    [("error", "ERROR"), ("timeout", "TIMEOUT"), ("unexpected-pass", "UNEXPECTEDLY HOLDS")],
)
def test_failures_of_other_kinds(status, heading):
    output = shown(made(Result(claim=CLAIMS[0], status=status, message="OSError: no KL")))
    assert f"{heading} {CLAIMS[0].id}\n" in output
    assert "found    OSError: no KL" in output


def test_failure_explained_by_an_expected_one_is_not_lost():
    expected = Result(claim=CLAIMS[0], status="expected-failure", message="known: it is nan")
    output = shown(made(expected, failed(1, explained_by=CLAIMS[0].id)))
    assert "explained by what is reported elsewhere" in output
    assert f"  {CLAIMS[0].id}  {CLAIMS[1].id}" in output
    assert f"expected failures\n  known: it is nan  {CLAIMS[0].id}" in output


def test_what_is_left_open_is_grouped_by_reason():
    statuses = ["not-applicable", "not-applicable", "inconclusive"]
    reasons = ["there is no module and encode", "there is no module and encode", "too slow"]
    output = shown(
        made(
            *(
                Result(claim=c, status=s, message=m)
                for c, s, m in zip(CLAIMS, statuses, reasons, strict=False)
            ),
            facts={"likelihood": "bernoulli"},
            declared={"latent_shape": (4, 8, 8)},
            notes=(Note("prints", "kl/near-prior", "printed 1 lines: hello"),),
        )
    )
    for block in (
        f"inconclusive\n  too slow  {CLAIMS[2].id}\n",
        "not applicable\n"
        f"  there is no module and encode:\n      {CLAIMS[0].id}, {CLAIMS[1].id}\n",
        "noted\n  prints, kl/near-prior  printed 1 lines: hello\n",
        "inferred\n  likelihood  bernoulli\n",
        "declared\n  latent_shape  (4, 8, 8)\n",
    ):
        assert block in output


@pytest.mark.parametrize("width", [80, 100])
def test_lines_are_wrapped_and_words_are_not(width):
    long = "there is no " + " and ".join(f"part-number-{i}" for i in range(20))
    report = made(
        failed(0, diagnosis=DIAGNOSIS, counterexample=COUNTEREXAMPLE),
        *(Result(claim=c, status="not-applicable", message=long) for c in CLAIMS[1:]),
    )
    output = shown(report, width)
    prose = [line for line in output.splitlines() if "xxx" not in line]
    assert max(map(len, prose)) <= width
    assert not any(line != line.rstrip() for line in prose), "no spaces at the ends of lines"
    assert "x" * 90 in output, "code is not wrapped"
    words = output.replace(",", " ").replace(":", " ").split()
    assert {claim.id for claim in CLAIMS} <= set(words)


def test_very_long_words_are_left_whole():
    path = "/".join(["directory"] * 20)
    assert path in shown(made(Result(claim=CLAIMS[0], status="error", message=path)), 40)


def test_log_has_no_colours_and_a_terminal_does(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    report = made(failed(0))
    assert "\x1b" not in shown(report)
    assert "\x1b[1;31mVIOLATED" in shown(report, force_terminal=True, color_system="standard")


def test_what_a_subject_says_is_shown_literally():
    hostile = "[red]markup[/red] :smile: \x1b[2Jcleared\x07 <script> \u202e"
    literal = r"[red]markup[/red] :smile: \x1b[2Jcleared\x07 <script> \u202e"
    output = shown(
        made(
            Result(claim=CLAIMS[0], status="fail", message=hostile),
            Result(claim=CLAIMS[1], status="not-applicable", message=hostile),
            subject=hostile,
            facts={"likelihood": hostile, hostile: "x"},
            notes=(Note("prints", "kl", hostile),),
        ),
        width=200,
    )
    assert output.count(literal) == 6
    assert not set(output) & set("\x1b\x07\u202e")


def test_console_without_unicode_gets_escapes():
    report = made(Result(claim=CLAIMS[0], status="error", message="½ Σ"))
    assert r"found    \xbd \u03a3" in shown(report, encoding="ascii")


def test_a_counterexample_from_another_process_may_have_a_tolerance_that_is_no_number():
    found = {"inputs": {}, "expected": "nan", "got": 1.0, "tolerance": "nan", "index": []}
    assert example(found) == "expected nan, got 1, tolerance nan"
