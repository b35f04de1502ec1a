"""A directory of a run belongs to one run at a time, and holds no remains."""

import pytest

from vae_ref import InputError
from vae_ref.running.directory import RunDirectory


def test_two_runs_in_one_directory_are_told_so(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with (
        directory.opened(),
        pytest.raises(InputError, match=r"^--out must not be in use by another run"),
        RunDirectory(directory.path).opened(),
    ):
        pass
    with RunDirectory(directory.path).opened():
        assert directory.images.is_dir()


def test_what_a_killed_run_left_unfinished_is_removed(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.images.mkdir()
    left = [tmp_path / ".history.jsonl.123.unfinished", directory.images / ".a.png.9.unfinished"]
    kept = directory.images / "sample_1.png"
    for file in (*left, kept):
        file.write_bytes(b"x")
    with directory.opened():
        assert not any(file.exists() for file in left)
        assert kept.exists()
