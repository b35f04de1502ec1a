"""A report that cannot be written, or would replace an input, is refused before the work."""

import os

import pytest

from tests.conformance.strangers import kl_that
from vae_ref.support.atomic import require_writable


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["--json", "right_kl.py"], "--json must not be a file that is read; got right_kl.py."),
        (["--html", "./right_kl.py"], "--html must not be a file that is read; got right_kl.py."),
        (["--json", "known", "--expect-failures", "known"], "--json must not be a file that is r"),
        (["--json", "x", "--junit", "x"], "--junit must not be that of --json; got x."),
        (["--json", "no/such/x"], "No such file or directory: 'no/such/x'"),
        (["--junit", "."], "Is a directory: '.'"),
    ],
)
def test_it_is_known_before_the_work(vae_ref_command, tmp_path, files, message):
    (tmp_path / "known").write_text("kl/closed-form: because\n")
    (tmp_path / "right_kl.py").write_text(kl_that("raise SystemError('it was run')"))
    before = os.listdir(tmp_path)
    status, output, errors = vae_ref_command("verify", "right_kl.py", *files)
    assert (status, output) == (2, "")
    assert message in errors
    assert set(os.listdir(tmp_path)) - {"__pycache__"} == set(before)


def test_one_stream_may_take_several_reports(vae_ref_command):
    files = ["--json", "/dev/null", "--junit", "/dev/null"]
    assert vae_ref_command("verify", "right_kl.py", "--only", "kl/closed-form", *files)[0] == 0


def test_a_file_that_is_there_stays_as_it_is(tmp_path):
    (tmp_path / "old").write_text("old")
    require_writable(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "old"
    assert os.listdir(tmp_path) == ["old"]


def test_a_target_with_a_colon_in_its_name_is_found(vae_ref_command, tmp_path):
    (tmp_path / "a:b.py").write_text((tmp_path / "right_kl.py").read_text())
    status, output, _ = vae_ref_command("verify", "a:b.py", "--only", "kl/closed-form")
    assert status == 0
    assert "1 of 1 hold" in output


@pytest.mark.slow
def test_a_module_beside_the_target_is_not_taken_for_one_of_the_reports(
    vae_ref_command, forked, tmp_path
):
    """The pages are made in the process that never looks there; see test_supervision."""
    (tmp_path / "jinja2.py").write_text("raise RuntimeError")
    arguments = ["right_kl.py", "--only", "kl/closed-form", "--html", "report.html"]
    assert vae_ref_command("verify", *arguments, supervised=True)[0] == 0
    assert (tmp_path / "report.html").exists()
