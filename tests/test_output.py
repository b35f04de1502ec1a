"""Where nobody reads what a command says, the command does its work all the same."""

import os
import subprocess
import sys

import pytest

LONG = """
from vae_ref.cli.output import Output
output = Output()
for line in range(20_000):
    output.print("x" * 100)
open("done", "w").close()
"""


def environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_a_closed_pipe_is_no_error(tmp_path):
    run = subprocess.run(
        f"{sys.executable} -c '{LONG}' | head -c 1",
        shell=True,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert (run.stdout, run.stderr) == ("x", "")
    assert (tmp_path / "done").exists()


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(tmp_path, closed):
    code = "from vae_ref.support.command import streams_opened; streams_opened();" + LONG.replace(
        "\n", "\n"
    )
    (tmp_path / "long.py").write_text(code)
    command = f"{sys.executable} long.py {closed}"
    run = subprocess.run(command, shell=True, cwd=tmp_path, env=environment(), check=False)
    assert run.returncode == 0
    assert (tmp_path / "done").exists()
