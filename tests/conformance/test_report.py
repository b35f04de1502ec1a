"""Reports as JSON and JUnit, as the scripts of others read them."""

import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
import torch

import vae_ref.conformance
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.records import Diagnosis, Note, Report, Result
from vae_ref.conformance.reports import wording
from vae_ref.conformance.reports.files import as_json, as_junit, write
from vae_ref.conformance.runner import verify
from vae_ref.conformance.subject import Conventions, Subject

SCHEMA = json.loads(Path(vae_ref.conformance.__file__).with_name("report.schema.json").read_text())
CLAIMS = all_claims()
DIAGNOSIS = Diagnosis(
    bug="kl-no-half",
    explanation="The factor 1/2 is missing.",
    score=0.9,
    yours="mu**2 + ...",
    right="0.5 * (mu**2 + ...)",
    reproduction="print(kl(mu, logvar))",
    links=("https://example.org/issues/1",),
)
HOSTILE = "<script>alert(1)</script> ]]> & \x1b[31mred\x07\x00 [bold]rich[/] \ud800 \ufffe \u202e"


def right(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()


def made(*results: Result, **rest) -> Report:
    defaults = {"subject": "mine", "seed": 0, "level": "standard", "in_level": len(results)}
    return Report(**{**defaults, **rest}, results=results)


def valid(report: Report) -> dict:
    """The data of a report, after a strict encoder, a strict parser and the schema."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = json.dumps(as_json(report), allow_nan=False)
    data = json.loads(text.encode(), parse_constant=refuse)
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    return data


def raises(mu, logvar):
    raise OSError("no\nKL")


SUBJECTS = {
    "right": (right, "pass"),
    "wrong": (lambda mu, logvar: 2 * right(mu, logvar), "fail"),
    "nan": (lambda mu, logvar: right(mu, logvar) * math.nan, "fail"),
    "infinite": (lambda mu, logvar: right(mu, logvar) / 0.0, "fail"),
    "raises": (raises, "error"),
    "exits": (lambda mu, logvar: sys.exit(3), "error"),
    "returns nothing": (lambda mu, logvar: None, "fail"),
    "prints": (lambda mu, logvar: print(HOSTILE) or right(mu, logvar), "pass"),
}


@pytest.mark.parametrize(("kl", "status"), SUBJECTS.values(), ids=SUBJECTS)
def test_json_of_a_run_is_as_the_schema_says(kl, status):
    report = verify(Subject(name="mine", kl=kl), only="kl/closed-form")
    data = valid(report)
    (claim,) = data["claims"]
    assert (claim["id"], claim["part"], claim["status"]) == ("kl/closed-form", "kl", status)
    assert data["ran"] == 1 < data["in_level"]
    assert data["verdict"] == report.verdict
    assert data["counts"] == {status: 1}


def test_json_of_all_claims_on_the_kl(user):
    conventions = Conventions(seeded=False, spread="logvar", beta=4.0)
    data = valid(verify(Subject(name="mine", kl=right, conventions=conventions)))
    assert data["declared"] == {"seeded": False, "beta": 4.0}
    assert data["facts"]["KL"] == "summed over the batch"
    assert data["counts"]["not-applicable"] > data["counts"]["pass"] == data["ran"]
    assert data["verdict"] == "partial"


@pytest.mark.parametrize("status", wording.STATUS)
def test_json_and_junit_of_every_status(status):
    report = made(Result(claim=CLAIMS[0], status=status, message="why", seconds=0.5))
    assert valid(report)["claims"][0]["status"] == status
    (case,) = ElementTree.fromstring(as_junit(report)).iter("testcase")
    expected = {
        "pass": [],
        "fail": ["failure"],
        "unexpected-pass": ["failure"],
        "error": ["error"],
        "timeout": ["error"],
        "not-applicable": ["skipped"],
        "inconclusive": ["skipped"],
        "expected-failure": ["skipped"],
    }[status]
    assert [child.tag for child in case] == expected
    assert [child.get("message") for child in case] == ["why"] * len(expected)


@pytest.mark.parametrize(
    ("number", "written"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (0.5, 0.5)]
)
def test_numbers_that_json_lacks_are_strings(number, written):
    counterexample = {
        "inputs": {"mu": torch.tensor([[number, 1.0]]), "logvar": [[number]]},
        "expected": 1.0,
        "got": number,
        "tolerance": number,
        "index": (0, 1),
    }
    result = Result(claim=CLAIMS[0], status="fail", counterexample=counterexample)
    data = valid(made(replace(result, diagnosis=replace(DIAGNOSIS, score=number))))
    (claim,) = data["claims"]
    assert claim["counterexample"] == {
        "inputs": {"mu": [[written, 1.0]], "logvar": [[written]]},
        "expected": 1.0,
        "got": written,
        "tolerance": written,
        "index": [0, 1],
    }
    assert claim["diagnosis"]["score"] == written


def test_diagnosis_and_explanation_are_written_whole():
    root = Result(claim=CLAIMS[0], status="fail", diagnosis=DIAGNOSIS)
    other = Result(claim=CLAIMS[1], status="fail", explained_by=CLAIMS[0].id)
    first, second = valid(made(root, other))["claims"]
    assert first["diagnosis"] == {
        "bug": "kl-no-half",
        "explanation": "The factor 1/2 is missing.",
        "score": 0.9,
        "runner_up": None,
        "yours": "mu**2 + ...",
        "right": "0.5 * (mu**2 + ...)",
        "reproduction": "print(kl(mu, logvar))",
        "links": ["https://example.org/issues/1"],
    }
    assert (first["explained_by"], second["explained_by"]) == (None, CLAIMS[0].id)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.pop("verdict"),
        lambda data: data.update(extra=1),
        lambda data: data.update(verdict="fine"),
        lambda data: data.update(schema_version=1),
        lambda data: data["counts"].update(passed=1),
        lambda data: data["claims"][0].pop("diagnosis"),
        lambda data: data["claims"][0].update(extra=1),
        lambda data: data["claims"][0]["diagnosis"].update(extra=1),
        lambda data: data["claims"][0]["counterexample"].update(extra=1),
        lambda data: data["claims"][0]["counterexample"].update(got="NaN"),
        lambda data: data["notes"][0].update(extra=1),
    ],
)
def test_schema_refuses_what_the_report_is_not(spoil):
    result = Result(
        claim=CLAIMS[0], status="fail", diagnosis=DIAGNOSIS, counterexample={"inputs": {}}
    )
    data = valid(made(result, notes=(Note("prints", "kl", "x"),)))
    spoil(data)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(data)


def test_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_nothing_a_subject_says_breaks_json_or_junit():
    diagnosis = replace(DIAGNOSIS, explanation=HOSTILE, reproduction=HOSTILE, yours=HOSTILE)
    report = made(
        Result(
            claim=CLAIMS[0],
            status="fail",
            message=HOSTILE,
            diagnosis=diagnosis,
            counterexample={"inputs": {HOSTILE: HOSTILE}},
        ),
        Result(claim=CLAIMS[1], status="not-applicable", message=HOSTILE),
        subject=HOSTILE,
        facts={HOSTILE: HOSTILE},
        notes=(Note("prints", "kl", HOSTILE),),
        versions={"torch": HOSTILE},
    )
    assert "<script>" in valid(report)["subject"]
    suites = ElementTree.fromstring(as_junit(report))
    failure, skipped = suites.find(".//failure"), suites.find(".//skipped")
    for text in (failure.get("message"), failure.text, skipped.get("message")):
        assert "<script>alert(1)</script> ]]> & " in text
        assert r"\x1b[31mred\x07\x00 [bold]rich[/] \ud800 \ufffe \u202e" in text


def test_junit_counts_what_it_lists():
    statuses = ["pass", "fail", "error", "timeout", "not-applicable", "unexpected-pass", "pass"]
    report = made(
        *(Result(claim=c, status=s, seconds=0.25) for c, s in zip(CLAIMS, statuses, strict=False)),
        seconds=3.0,
    )
    (suite,) = ElementTree.fromstring(as_junit(report))
    found = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped", "time")}
    assert found == {"tests": "7", "failures": "2", "errors": "2", "skipped": "1", "time": "3.000"}
    cases = list(suite.iter("testcase"))
    assert [case.get("name") for case in cases] == [claim.id for claim in CLAIMS[:7]]
    assert {case.get("classname") for case in cases} == {"vae_ref.kl"}
    assert cases[0].get("time") == "0.250"


def test_junit_failure_says_what_to_do():
    result = Result(
        claim=CLAIMS[0],
        status="fail",
        message="the KL is 5, not 2.5",
        diagnosis=DIAGNOSIS,
        counterexample={"inputs": {"mu": [[1.0]]}, "expected": 2.5, "got": 5.0},
    )
    text = ElementTree.fromstring(as_junit(made(result))).find(".//failure").text
    for part in (
        CLAIMS[0].statement,
        "the KL is 5, not 2.5",
        "mu = [[1]]; expected 2.5, got 5",
        "The factor 1/2 is missing.",
        "bug: kl-no-half (score 0.90)",
        "yours: mu**2",
        "right: 0.5",
        "print(kl(mu, logvar))",
        "https://example.org/issues/1",
    ):
        assert part in text


def test_write_replaces_a_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    write(path, "neu: µ\n")
    assert path.read_bytes() == "neu: µ\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    path.write_text("old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"report\.json") as failure:
        write(path, "new")
    assert failure.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_names_the_file_and_not_the_unfinished_one(tmp_path):
    with pytest.raises(FileNotFoundError) as failure:
        write(tmp_path / "missing" / "report.json", "text")
    assert failure.value.filename == str(tmp_path / "missing" / "report.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_write_writes_into_a_pipe_and_does_not_replace_it(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(pipe, "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (math.nan, "nan"),
        ([[1.0, 2.0]], "[[1, 2]]"),
        ([], "[]"),
        ([[0.1] * 20] * 3, "[0.1, 0.1, 0.1, 0.1, ...] (3 x 20)"),
        ([0.1] * 784, "[0.1, 0.1, 0.1, 0.1, ...] (784)"),
        ([[[[1.0] * 8] * 8] * 4] * 2, "[1, 1, 1, 1, ...] (2 x 4 x 8 x 8)"),
    ],
)
def test_brief_values(value, text):
    assert wording.brief(value) == text


def test_chains_of_explanations_end_at_their_root():
    a, b, c = (Result(claim=claim, status="fail") for claim in CLAIMS[:3])
    b = replace(b, explained_by=a.claim.id)
    c = replace(c, explained_by=b.claim.id)
    assert wording.folded(made(a, b, c)) == {a.claim.id: [b.claim.id, c.claim.id]}


def test_explanations_in_a_circle_come_to_an_end():
    a, b = (Result(claim=claim, status="fail") for claim in CLAIMS[:2])
    circle = made(replace(a, explained_by=b.claim.id), replace(b, explained_by=a.claim.id))
    assert sum(map(len, wording.folded(circle).values())) == 2
