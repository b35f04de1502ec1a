"""The sample of the large families of tests."""

import subprocess

import pytest

from tests import sampling
from tests.sampling import is_due, revision


@pytest.mark.parametrize("one_in", [3, 8])
def test_every_case_has_its_turn(one_in):
    for case in map(str, range(100)):
        assert sum(is_due(case, one_in, commit) for commit in range(one_in)) == 1


def test_a_sample_has_its_share():
    due = sum(is_due(f"tests/test_bank.py::test_a_bug[{n}]", 3, 0x7FF5D60) for n in range(900))
    assert 250 < due < 350


def test_without_a_history_all_cases_run(monkeypatch):
    def fails(*words, **options):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(sampling.subprocess, "run", fails)
    revision.cache_clear()
    assert revision() is None
    revision.cache_clear()
