"""The sample of the large families of tests."""

import subprocess

import pytest

from tests import sampling
from tests.sampling import is_due, revision


@pytest.mark.parametrize("one_in", [3, 8])
def test_every_case_has_its_turn(one_in):
    for index in range(100):
        assert sum(is_due("test", index, one_in, commit) for commit in range(one_in)) == 1


@pytest.mark.parametrize("family", ["test_bank.py::test_a_bug", "test_race.py::test_a_loss"])
@pytest.mark.parametrize("cases", [3, 10, 900])
def test_a_sample_has_its_share(family, cases):
    due = sum(is_due(family, index, 3, 0x7FF5D60) for index in range(cases))
    assert cases // 3 <= due <= cases // 3 + 1


def test_without_a_history_all_cases_run(monkeypatch):
    def fails(*words, **options):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(sampling.subprocess, "run", fails)
    revision.cache_clear()
    assert revision() is None
    revision.cache_clear()
