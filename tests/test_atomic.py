import errno
import os
import re

import pytest

from vae_ref.support.atomic import remove_unfinished, replacing


def write(path, content):
    with replacing(path) as file:
        file.write(content)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    for content in (b"first", b"second"):
        with replacing(path) as file:
            file.write(content)
            assert not path.exists() or path.read_bytes() != content
        assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, failure):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_said_with_the_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: .*file") as error:
        write(tmp_path / "file", b"content")
    assert error.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_in_nobodys_way_and_is_removed(tmp_path):
    left, other = tmp_path / ".file.1.unfinished", tmp_path / "file.unfinished"
    for path in (left, other):
        path.write_bytes(b"x" * 1000)
    write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    remove_unfinished(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"file", "file.unfinished"}


def test_two_processes_that_write_one_file_do_not_share_what_is_unfinished(tmp_path, monkeypatch):
    path = tmp_path / "file"
    with replacing(path) as ours:
        ours.write(b"ours")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        write(path, b"theirs")
        monkeypatch.undo()
    assert path.read_bytes() == b"ours"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_error_names_the_file_alone(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "file"):
        with pytest.raises(OSError, match=rf"'{re.escape(str(path))}'$"):
            write(path, b"content")


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write(tmp_path / "pipe", b"content")
    assert os.read(reader, 100) == b"content"
    os.close(reader)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]
