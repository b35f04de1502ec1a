"""The programs that run many seeds resume, and say of every result what made it."""

import json
from types import SimpleNamespace

import pytest
import torch

from benchmarks import course_seeds, false_alarms, mnist_seeds
from vae_ref.support import provenance

COURSES = ("mnist", "glyphs", "halves")


def rows(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_every_seed_of_mnist_says_what_made_it(small, monkeypatch, tmp_path, user):
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(mnist_seeds, "mnist", lambda root, *, train: small[0 if train else 1])
    monkeypatch.setattr(mnist_seeds, "RESULTS", tmp_path / "results" / "seeds.jsonl")
    monkeypatch.setattr(mnist_seeds, "EPOCHS", 1)
    mnist_seeds.measure("", 1)
    mnist_seeds.measure("", 2)
    first, second = rows(mnist_seeds.RESULTS)
    assert (first["seed"], second["seed"]) == (0, 1)
    assert first["test_loss"] != second["test_loss"]
    made = provenance.record(threads=torch.get_num_threads())
    assert made.keys() <= first.keys()
    assert first["threads"] == made["threads"]


def test_every_seed_of_a_course_says_what_made_it(monkeypatch):
    monkeypatch.setattr(course_seeds, "select", lambda only, level: [])
    threads = torch.get_num_threads()
    row = course_seeds.measure("halves", "", None, 3)
    torch.set_num_threads(threads)
    assert (row["seed"], row["threads"]) == (3, 1)
    assert provenance.record(threads=1).keys() <= row.keys()


@pytest.mark.parametrize("course", COURSES)
def test_the_intervals_are_those_of_the_seeds(course, monkeypatch, tmp_path):
    """They are written again to the same bytes, though older seeds lack some fields."""
    before = course_seeds.INTERVALS.read_text()
    (tmp_path / "intervals.json").write_text(before)
    results = rows(course_seeds.RESULTS / f"course_{course}.jsonl")
    monkeypatch.setattr(course_seeds, "INTERVALS", tmp_path / "intervals.json")
    course_seeds.summarise(course, results)
    assert (tmp_path / "intervals.json").read_text() == before


def test_false_alarms_say_what_made_them(monkeypatch, tmp_path, capsys):
    failure = SimpleNamespace(status="fail", claim=SimpleNamespace(id="kl/x"), message="no")
    report = SimpleNamespace(counts={"fail": 1}, results=[failure])
    monkeypatch.setattr(false_alarms, "verify", lambda subject, *, seed: report)
    monkeypatch.setattr(false_alarms, "RESULTS", tmp_path / "alarms.json")
    monkeypatch.setattr("sys.argv", ["false_alarms", "--runs", "2"])
    false_alarms.main()
    found = json.loads((tmp_path / "alarms.json").read_text())
    assert (found["runs"], found["statuses"]) == (2, {"fail": 2})
    assert {failure["claim"] for failure in found["failures"]} == {"kl/x"}
    assert provenance.record(threads=1).keys() <= found.keys()
