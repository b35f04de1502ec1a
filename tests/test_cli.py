"""The command, as its users and their scripts see it."""

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import vae_ref.support.atomic
from vae_ref import Recipe, Run, cli, glyphs
from vae_ref.cli.output import Output
from vae_ref.cli.progress import Progress
from vae_ref.cli.train import _load
from vae_ref.data import DataError

DRAWN = "vae_ref.data.glyphs"
FEW = """
import vae_ref.data.glyphs as data
whole = data.glyphs
data.glyphs = lambda count, seed: whole(count // 10, seed=seed)
"""
"""Ten seconds less for each process that trains."""

COMMAND = [sys.executable, "-c", FEW + "from vae_ref.cli import main; main()"]
QUICK = ["--dataset", "glyphs", "--hidden-dim", "32", "--latent-dim", "3"]


@pytest.fixture
def vae_ref_command(monkeypatch, capsys):
    """Run the command in this process, on few glyphs; return its status, output and errors."""
    monkeypatch.setattr(f"{DRAWN}.glyphs", lambda count, seed: glyphs(count // 100, seed=seed))
    torch.set_default_dtype(torch.float32)
    monkeypatch.delenv("VAE_REF_DATA", raising=False)
    monkeypatch.delenv("VAE_REF_TRACEBACK", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vae-ref", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return (stop.value.code or 0, *capsys.readouterr())

    return run


def files(directory: Path) -> set[str]:
    """Name the files below a directory, but for the lock that keeps other runs out of it."""
    found = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    return found - {".lock"}


def losses(run: Path) -> list[tuple]:
    """The history but for its times."""
    records = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    keys = ("epoch", "train_loss", "test_loss", "test_reconstruction", "test_kl")
    return [tuple(record[key] for key in keys) for record in records]


def test_train_leaves_what_is_agreed(vae_ref_command, tmp_path):
    status, output, errors = vae_ref_command(
        "train", *QUICK, "--epochs", 2, "--out", tmp_path / "run"
    )
    assert status == 0, errors
    assert files(tmp_path / "run") == {
        "history.jsonl",
        "checkpoint.safetensors",
        "curves.png",
        *(f"images/{kind}_{n}.png" for kind in ("reconstruction", "sample") for n in (1, 2)),
        "images/interpolation.png",
    }
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert output.count("examples/s") == 2
    assert "\x1b" not in output, "a log is plain lines"
    summary, heading, *pictures = output.splitlines()[2:]
    assert "test loss" in summary
    assert heading == "Its pictures:"
    names = ["curves", *(f"images/{n}" for n in ("reconstruction_2", "sample_2", "interpolation"))]
    assert pictures == [f"  {tmp_path}/run/{name}.png" for name in names]


def test_the_bar_moves_within_an_epoch():
    terminal = Output()
    terminal._force_terminal = True
    with Progress(3, 20, 1000, terminal) as progress:
        (task,) = progress._bar.tasks
        places = []
        for seen in (128, 130, 512, 1000):
            progress.step(seen)
            places.append(task.completed)
    assert places == [3.128, 3.128, 3.512, 4]


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "autoencoder"],
        pytest.param(["--likelihood", "gaussian"], marks=pytest.mark.slow),
        pytest.param(["--likelihood", "continuous-bernoulli"], marks=pytest.mark.slow),
        pytest.param(["--beta", "4"], marks=pytest.mark.slow),
        pytest.param(
            ["--batch-size", "1000", "--learning-rate", "0.01", "--seed", "-5", "--device", "cpu"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_kind_of_run_can_be_evaluated_and_sampled(vae_ref_command, tmp_path, options):
    run, checkpoint = tmp_path / "run", tmp_path / "run" / "checkpoint.safetensors"
    assert vae_ref_command("train", *QUICK, *options, "--epochs", 1, "--out", run)[0] == 0
    status, output, _ = vae_ref_command("evaluate", checkpoint, "--samples", 5)
    assert status == 0
    assert ("log p(x), K = 5" in output) == ("autoencoder" not in options)
    assert vae_ref_command("sample", checkpoint, "--count", 9)[0] == 0
    assert files(run / "samples") == {"sample.png", "interpolation.png"}


@pytest.mark.slow
def test_a_latent_plane_is_drawn(vae_ref_command, tmp_path):
    options = ["--dataset", "glyphs", "--latent-dim", "2", "--epochs", "1"]
    assert vae_ref_command("train", *options, "--out", tmp_path / "run")[0] == 0
    plane = {"manifold.png", "posterior.png", "interpolation.png"}
    assert plane <= {Path(name).name for name in files(tmp_path / "run" / "images")}
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    assert vae_ref_command("sample", checkpoint, "--out", tmp_path / "drawn")[0] == 0
    assert plane <= files(tmp_path / "drawn")


def test_evaluate_reports_what_training_reported(vae_ref_command, tmp_path):
    run = tmp_path / "run"
    vae_ref_command("train", *QUICK, "--epochs", 1, "--out", run)
    record = json.loads((run / "history.jsonl").read_text())
    output = vae_ref_command("evaluate", run / "checkpoint.safetensors")[1]
    values = {line[:20].strip(): line.split()[-1] for line in output.splitlines()[2:]}
    assert float(values["ELBO"]) == pytest.approx(-record["test_loss"], abs=1e-3)
    assert float(values["KL divergence"]) == pytest.approx(record["test_kl"], abs=1e-3)
    assert float(values["log p(x), K = 50"]) > float(values["ELBO"])


def test_a_run_is_never_overwritten(vae_ref_command, tmp_path):
    arguments = ("train", *QUICK, "--epochs", 1, "--out", tmp_path / "run")
    vae_ref_command(*arguments)
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    status, _, errors = vae_ref_command(*arguments)
    assert status == 2
    assert errors.startswith("vae-ref: --out must not hold a run already; got ")
    assert "--resume" in errors
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.slow
def test_resume_extends_a_run_and_says_when_there_is_nothing_to_do(vae_ref_command, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    vae_ref_command("train", *QUICK, "--epochs", 3, "--out", whole)
    for epochs in (1, 3, 2):
        status = vae_ref_command("train", *QUICK, "--epochs", epochs, "--out", parts, "--resume")[
            0
        ]
        assert status == 0
    assert files(parts) == files(whole)
    for name in ("checkpoint.safetensors", "images/sample_2.png", "images/interpolation.png"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert losses(parts) == losses(whole)


@pytest.mark.slow
def test_resume_insists_on_the_recipe_of_the_run(vae_ref_command, tmp_path):
    vae_ref_command("train", *QUICK, "--epochs", 1, "--out", tmp_path / "run")
    status, _, errors = vae_ref_command(
        "train", *QUICK, "--beta", 2, "--epochs", 2, "--out", tmp_path / "run", "--resume"
    )
    assert status == 2
    assert "--beta must be 1.0, as in the run that" in errors


def test_every_option_reaches_the_run(vae_ref_command, tmp_path):
    recipe = Recipe(
        dataset="glyphs",
        model="autoencoder",
        likelihood="gaussian",
        beta=0.5,
        latent_dim=4,
        hidden_dim=24,
        batch_size=50,
        learning_rate=3e-3,
        seed=9,
    )
    options = [
        part
        for name, value in dataclasses.asdict(recipe).items()
        for part in (f"--{name.replace('_', '-')}", value)
    ]
    assert vae_ref_command("train", *options, "--epochs", 1, "--out", tmp_path / "run")[0] == 0
    run = Run.load(tmp_path / "run" / "checkpoint.safetensors")
    assert run.recipe == recipe
    assert run.optimizer.state[run.model.decoder[0].bias]["step"] == 600 / 50


def test_training_and_test_glyphs_are_not_the_same(monkeypatch):
    monkeypatch.setattr(f"{DRAWN}.glyphs", lambda count, seed: glyphs(count // 100, seed=seed))
    train, test = (_load("glyphs", Path(), train=part) for part in (True, False))
    assert (len(train), len(test)) == (600, 100)
    assert not train.images[:100].equal(test.images)


@pytest.mark.slow
def test_seed_and_count_change_what_is_drawn(vae_ref_command, tmp_path):
    vae_ref_command("train", *QUICK, "--epochs", 1, "--out", tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"

    def drawn(*options: object) -> bytes:
        vae_ref_command("sample", checkpoint, "--out", tmp_path / "drawn", *options)
        return (tmp_path / "drawn" / "sample.png").read_bytes()

    assert drawn() == (tmp_path / "run" / "images" / "sample_1.png").read_bytes()
    assert len({drawn(), drawn("--seed", 1), drawn("--seed", 2), drawn("--count", 8)}) == 4
    scores = [
        vae_ref_command("evaluate", checkpoint, *options)[1]
        for options in ([], ["--seed", 0], ["--seed", 1], ["--samples", 2])
    ]
    assert scores[0] == scores[1]
    assert len(set(scores)) == 3


@pytest.mark.slow
def test_prior_samples_need_no_data(vae_ref_command, tmp_path, monkeypatch):
    vae_ref_command("train", *QUICK, "--epochs", 1, "--out", tmp_path / "run")

    def absent(count, seed):
        raise DataError("The data are gone.")

    monkeypatch.setattr(f"{DRAWN}.glyphs", absent)
    status, _, errors = vae_ref_command("sample", tmp_path / "run" / "checkpoint.safetensors")
    assert status == 0
    assert "pictures with test images are not drawn. The data are gone." in errors
    assert files(tmp_path / "run" / "samples") == {"sample.png"}


def test_a_damaged_history_is_said(vae_ref_command, tmp_path):
    arguments = ["train", *QUICK, "--epochs", 2, "--out", tmp_path / "run"]
    vae_ref_command(*arguments)
    path = tmp_path / "run" / "history.jsonl"
    second = path.read_bytes().splitlines()[1]
    for damaged, message in (
        (None, "does not have the 2 epochs of the checkpoint"),
        (second, "does not have the 2"),
        (b"\xff\xfe", "line 1 is not a record"),
        (b'{"epoch": 1}', "line 1 is not a record"),
    ):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        status, _, errors = vae_ref_command(*arguments, "--resume")
        assert status == 2
        assert message in errors
        path.touch()


@pytest.mark.slow
def test_resuming_elsewhere_is_said(vae_ref_command, tmp_path, monkeypatch):
    arguments = ["train", *QUICK, "--epochs", 1, "--out", tmp_path / "run"]
    vae_ref_command(*arguments)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    status, _, errors = vae_ref_command(*arguments, "--resume")
    assert status == 0
    assert "threads=99" in errors
    assert "digits will differ" in errors


@pytest.mark.parametrize("where", ["reconstruction", "curves"])
def test_ctrl_c_says_what_is_saved(vae_ref_command, tmp_path, monkeypatch, where):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"vae_ref.running.pictures.{where}", interrupted)
    status, _, errors = vae_ref_command("train", *QUICK, "--epochs", 1, "--out", tmp_path / "r")
    assert status == 130
    assert f"r holds {0 if where == 'reconstruction' else 1} epochs." in errors


class Killed(BaseException):
    """What nothing in the program catches by name."""


@pytest.mark.slow
def test_killed_at_any_write_and_resumed_a_run_ends_the_same(
    vae_ref_command, tmp_path, monkeypatch
):
    """At the k-th file that is about to be replaced, for every k."""
    arguments = ["train", *QUICK, "--epochs", 2]
    vae_ref_command(*arguments, "--out", tmp_path / "whole")
    replace, left = os.replace, [0]

    def counted(source, target):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        replace(source, target)

    monkeypatch.setattr(vae_ref.support.atomic.os, "replace", counted)
    kills = 0
    while True:
        run = tmp_path / f"killed-{kills}"
        left[0] = kills + 1
        try:
            vae_ref_command(*arguments, "--out", run)
        except Killed:
            kills += 1
        else:
            break
        left[0] = 0
        assert vae_ref_command(*arguments, "--out", run, "--resume")[0] == 0
        assert files(run) == files(tmp_path / "whole")
        assert losses(run) == losses(tmp_path / "whole")
        for name in files(run) - {"history.jsonl"}:  # which holds times
            assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert kills == 2 * 4 + 2


@pytest.mark.slow
def test_a_real_kill_and_a_real_interrupt(tmp_path, forked):
    """SIGKILL in the second epoch, SIGINT after the resumption, then to the end."""
    arguments = [*COMMAND, "train", *QUICK, "--epochs", "3", "--device", "cpu"]
    undisturbed = [sys.executable, *arguments[1:]]
    whole, run = tmp_path / "whole", tmp_path / "run"
    subprocess.run([*undisturbed, "--out", whole], check=True, capture_output=True)

    def stop_after(epoch: int, how: signal.Signals) -> tuple[int, str]:
        with subprocess.Popen(
            [*arguments, "--out", run, "--resume"], stderr=subprocess.PIPE, text=True
        ) as process:
            deadline = time.monotonic() + 600
            while not (run / "images" / f"sample_{epoch}.png").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.001)
            process.send_signal(how)
            _, errors = process.communicate()
        return process.returncode, errors

    assert stop_after(1, signal.SIGKILL) == (-signal.SIGKILL, "")
    status, errors = stop_after(2, signal.SIGINT)
    assert status == 130, errors
    assert "--resume continues" in errors
    assert "Traceback" not in errors
    subprocess.run([*undisturbed, "--out", run, "--resume"], check=True, capture_output=True)
    for name in ("checkpoint.safetensors", "images/sample_1.png", "images/sample_3.png"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert files(run) == files(whole)
    assert losses(run) == losses(whole)


def _limit_file_size():
    """Stand in for a full disk: pictures fit, a checkpoint does not."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


@pytest.mark.slow
def test_a_full_disk_is_one_line(tmp_path):
    result = subprocess.run(
        [*COMMAND, "train", *QUICK, "--epochs", "1", "--out", tmp_path / "run"],
        capture_output=True,
        text=True,
        preexec_fn=_limit_file_size,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1, result.stderr
    assert "checkpoint.safetensors" in result.stderr
    assert "checkpoint.safetensors" not in files(tmp_path / "run")
    assert not any("unfinished" in name for name in files(tmp_path / "run"))


BAD = {
    "an unknown data set": (["--dataset", "cifar"], "--dataset"),
    "an unknown device": (["--device", "tpu"], "--device"),
    "an unknown engine": (["--engine", "warp"], "--engine"),
    "an unknown option": (["--epoch", "3"], "--epoch"),
    "no epochs": (["--epochs", "0"], "--epochs"),
    "no latent dimension": (["--latent-dim", "0"], "latent_dim must be a positive integer; got 0"),
    "a negative beta": (["--beta", "-1"], "beta must be finite and not negative; got -1.0"),
    "not a number": (["--learning-rate", "fast"], "--learning-rate"),
    "a huge size": (
        ["--latent-dim", str(10**9)],
        "latent_dim must be at most 10,000; got 1000000",
    ),
    "digits without end": (["--hidden-dim", "9" * 5000], "--hidden-dim"),
    "a long number": (["--hidden-dim", "9" * 4000], "hidden_dim must be at most 10,000; got 999"),
    "a rate that is none": (
        ["--learning-rate", "nan"],
        "learning_rate must be positive and finite",
    ),
    "an infinite beta": (["--beta", "9" * 5000], "beta must be finite and not negative; got inf"),
    "a seed that is none": (["--seed", "1.5"], "--seed"),
    "a seed without end": (["--seed", "9" * 5000], "--seed"),
    "epochs without end": (["--epochs", str(10**9)], "--epochs"),
    "a long word": (["--dataset", "x" * 5000], "--dataset"),
    "a diverging rate": (["--learning-rate", "1e18"], "Lower the learning rate"),
    "divergence in one step": (
        ["--learning-rate", "1e18", "--batch-size", "60000"],
        "Lower the learning rate",
    ),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_a_wrong_call_is_answered_with_status_2(vae_ref_command, tmp_path, options, message):
    out = tmp_path / "run"
    status, _, errors = vae_ref_command("train", *QUICK, *options, "--out", out)
    assert status == 2
    assert message in errors
    assert "Traceback" not in errors
    assert errors.startswith("vae-ref: ")
    assert errors.count("\n") == 1
    assert len(errors) < 400
    assert not (out / "checkpoint.safetensors").exists()
    assert not out.exists() or files(out) == set()


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("evaluate", "--samples"),
        ("sample", "--count"),
        ("evaluate", "--seed"),
        ("sample", "--seed"),
    ],
)
@pytest.mark.parametrize("number", ["9" * 5000, "1.5", "nan", ""])
def test_a_wrong_number_is_answered_in_one_line(vae_ref_command, command, option, number):
    status, _, errors = vae_ref_command(command, "no.safetensors", option, number)
    assert status == 2
    assert option in errors
    assert errors.count("\n") == 1
    assert len(errors) < 400


@pytest.mark.parametrize(
    ("command", "option"),
    [("evaluate", "--samples"), ("sample", "--count"), ("train", "--epochs")],
)
@pytest.mark.parametrize("number", [0, -1, 10**9])
def test_a_number_out_of_range(vae_ref_command, command, option, number):
    checkpoint = [] if command == "train" else ["no.safetensors"]
    status, _, errors = vae_ref_command(command, *checkpoint, option, number)
    assert status == 2
    assert option in errors


@pytest.mark.parametrize("arguments", [[], ["train", "--latent-dim"], ["trian"]])
def test_a_call_that_is_none(vae_ref_command, arguments):
    status, output, errors = vae_ref_command(*arguments)
    assert status == (2 if arguments else status)
    assert "Usage" in output + errors if not arguments else errors.count("\n") == 1


def test_cuda_where_there_is_none(vae_ref_command, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, errors = vae_ref_command("train", *QUICK, "--device", "cuda", "--out", tmp_path)
    assert status == 2
    assert errors.startswith("vae-ref: --device must be available; got cuda. Use cpu")


@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_no_data_and_no_network_names_the_way_out(vae_ref_command, tmp_path, monkeypatch, dataset):
    def unreachable(*_, **__):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    arguments = ["--dataset", dataset, "--data", tmp_path / "none", "--out", tmp_path / "run"]
    status, _, errors = vae_ref_command("train", *arguments)
    assert status == 2
    assert errors.count("\n") == 1
    for part in ("Network is unreachable", "--data", "VAE_REF_DATA", "--dataset glyphs"):
        assert part in errors
    assert list(tmp_path.iterdir()) == [], "something was left behind"


@pytest.mark.parametrize("blocker", ["run", ""])
def test_an_output_directory_that_cannot_be_made(vae_ref_command, tmp_path, blocker):
    (tmp_path / "run").write_text("a file")
    out = tmp_path / "run" / blocker.replace("run", "below")
    status, _, errors = vae_ref_command("train", *QUICK, "--epochs", 1, "--out", out)
    assert status == 2
    assert errors.count("\n") == 1
    assert "run" in errors
    assert (tmp_path / "run").read_text() == "a file"


@pytest.mark.parametrize("command", ["evaluate", "sample"])
@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 a pickle"])
def test_what_is_no_checkpoint(vae_ref_command, tmp_path, command, content):
    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    status, _, errors = vae_ref_command(command, path)
    assert status == 2
    assert errors.count("\n") == 1
    assert str(path) in errors


def test_an_error_of_ours_is_one_line_too(vae_ref_command, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("vae_ref.running.training.fit", broken)
    status, _, errors = vae_ref_command("train", *QUICK, "--out", tmp_path / "run")
    assert status == 70
    assert errors.startswith("vae-ref: internal error, RuntimeError: first line (")
    monkeypatch.setenv("VAE_REF_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["vae-ref", "train", *QUICK, "--out", str(tmp_path / "b")])
    with pytest.raises(RuntimeError, match="first line"):
        cli.main()


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["evaluate", "-h"]])
def test_help_teaches(vae_ref_command, monkeypatch, arguments):
    monkeypatch.setenv("COLUMNS", "200")
    status, output, _ = vae_ref_command(*arguments)
    assert status == 0
    if "train" in arguments:
        for words in ("--likelihood", "squared error", "VAE_REF_DATA", "nats per example"):
            assert words in " ".join(output.split())


@pytest.mark.slow
def test_on_a_terminal_there_is_a_bar_with_loss_and_speed(tmp_path, forked):
    """Through a pseudo-terminal, as a person would see it."""
    import pty

    reader, writer = pty.openpty()
    with subprocess.Popen(
        [
            sys.executable,
            *COMMAND[1:],
            "train",
            *QUICK,
            "--epochs",
            "3",
            "--out",
            tmp_path / "run",
        ],
        stdout=writer,
        stderr=writer,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "160"},
    ) as process:
        os.close(writer)
        seen = b""
        while True:
            try:
                part = os.read(reader, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            seen += part
    text = seen.decode()
    assert process.returncode == 0, text
    assert "\x1b[" in text
    assert "1/3" in text
    assert "examples/s" in text.split("1/3")[1]


SLOW_TO_IMPORT = f"""{FEW}
import json, sys
from vae_ref.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, words
    print("imported:", *{{"torch._dynamo", "torchvision"}} & {{*sys.modules}})
"""


@pytest.mark.slow
def test_no_command_on_a_run_imports_what_takes_seconds(tmp_path):
    """Torch's optimisers import its compiler, 1.2 s, where nothing is compiled."""
    run, saved = tmp_path / "run", tmp_path / "run" / "checkpoint.safetensors"
    commands = (
        ["train", *QUICK, "--epochs", "1", "--out", run],
        ["train", "--epochs", "2", "--resume", "--out", run, *QUICK],
        ["sample", saved],
        ["evaluate", saved],
    )
    words = json.dumps(commands, default=str)
    command = [sys.executable, "-c", SLOW_TO_IMPORT, words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("imported:")]
    assert found == ["imported:"] * len(commands)
