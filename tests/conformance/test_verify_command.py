"""The commands verify and claims, as their users and their scripts see them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len
from strangers import MEAN_KL, SMALL, kl_that, varied

from vae_ref.conformance import all_claims
from vae_ref.conformance.diagnosis.explain import kill_matrix
from vae_ref.conformance.loading import recognition
from vae_ref.conformance.reports import plain_formula

COMMAND = [sys.executable, "-m", "vae_ref"]
KL = [claim.id for claim in all_claims() if claim.part == "kl"]
PATIENCE = 600  # seconds, on however busy a machine, after which a process is taken to hang

# The exit status.


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["right_kl.py"], 0, "no bug found: "),
        (["right_kl.py:subject"], 0, "no bug found: "),
        (["right_kl"], 0, "no bug found: "),
        (["wrong_kl.py"], 1, "VIOLATED kl/closed-form"),
        (["raising_kl.py", "--only", "kl/gradient-mu"], 1, "ValueError: no"),
        (["small_vae.py", "--only", "model/*"], 0, "no bug found: "),
        (["--only", "kl/*"], 0, "the reference"),
        (["--only", "model/*", "--level", "standard"], 0, "the reference"),
    ],
)
def test_the_status_says_whether_the_claims_hold(vae_ref_command, arguments, expected, words):
    status, output, errors = vae_ref_command("verify", *arguments)
    assert status == expected
    assert words in output
    assert errors == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such.py"], "there is no file no_such.py"),
        (["no_such_module"], "there is no module no_such_module; "),
        (["no_vae.py"], "no_vae.py has no VAE: "),
        (["bad_syntax.py"], "importing bad_syntax.py raised SyntaxError: "),
        (["raising_file.py"], "importing raising_file.py raised ValueError: first (raising_file"),
        (["exiting_file.py"], "importing exiting_file.py raised SystemExit: 0 (exiting_file"),
        (["right_kl.py:nothing"], "right_kl.py has no nothing. It defines "),
        (["right_kl.py", "--only", "nothing/*"], "no claim matches 'nothing/*'; vae-ref claims"),
        (["right_kl.py", "--seed", "one"], "--seed must be a number or fresh; got one."),
        (["right_kl.py", "--seed", "-1"], "--seed must be a number or fresh; got -1."),
        (["right_kl.py", "--seed", "1.5"], "--seed must be a number or fresh; got 1.5."),
        (["right_kl.py", "--seed", ""], "--seed must be a number or fresh; got "),
        (["right_kl.py", "--seed", "9" * 5000], "--seed must have at most 100 digits; got 999"),
        (["right_kl.py", "--declare", "latent_shape=" + "9" * 5000], "latent_shape must be sizes"),
        (["right_kl.py", "--declare", "beta" * 5000], "--declare must be KEY=VALUE; got betabeta"),
        (["right_kl.py", "--only", "9" * 5000], "no claim matches '999"),
        (["right_kl.py", "--declare", "beta"], "--declare must be KEY=VALUE; got beta."),
        (["right_kl.py", "--declare", "beta=x"], "beta must be a "),
        (["right_kl.py", "--declare", "bta=4"], "there is no convention called 'bta'; there are"),
        (["right_kl.py", "--declare", "=4"], "there is no convention called ''; there are spread"),
        (["right_kl.py", "--declare", "pixel_shape=²"], "pixel_shape must be "),
        (["--declare", "beta=4"], "--declare must come with a TARGET; got beta=4."),
        (["right_kl.py", "--expect-failures", "none"], "No such file or directory: 'none'"),
        (["right_kl.py", "--expect-failures", "."], "Is a directory: '.'"),
        (["right_kl.py", "--json", "no/such/dir.json"], "no/such/dir.json"),
        (["right_kl.py", "--junit", "no/such/dir.xml"], "no/such/dir.xml"),
        (["right_kl.py", "--html", "no/such/dir.html"], "no/such/dir.html"),
        (["right_kl.py", "--json", "."], "."),
        (["right_kl.py", "--json", "right_kl.py/below"], "right_kl.py/below"),
    ],
)
def test_a_wrong_call_is_answered_with_status_2(vae_ref_command, arguments, message):
    quick = [] if "--only" in arguments else ["--only", "kl/gradient-mu"]
    status, _, errors = vae_ref_command("verify", *arguments, *quick)
    assert status == 2, errors
    assert errors.startswith("vae-ref: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert len(errors) < 400
    assert "-> None" not in errors


@pytest.mark.parametrize(
    "arguments", [["--level", "odd"], ["--no-such-option"], ["a.py", "b.py"], ["--json"]]
)
def test_an_option_that_there_is_none(vae_ref_command, arguments):
    assert vae_ref_command("verify", *arguments)[0] == 2


def test_a_wrong_call_is_known_before_anything_is_run(vae_ref_command, tmp_path):
    (tmp_path / "known").write_text("kl/no-such-claim: because\n")
    (tmp_path / "loads.py").write_text("open('loaded', 'w').close()")
    status, output, _ = vae_ref_command("verify", "loads.py", "--expect-failures", "known")
    assert (status, output) == (2, "")
    assert not (tmp_path / "loaded").exists()


def test_a_file_that_hangs_is_left(vae_ref_command, monkeypatch, tmp_path):
    monkeypatch.setattr(recognition, "_IMPORT_SECONDS", 0.2)
    (tmp_path / "endless.py").write_text("while True: pass")
    status, _, errors = vae_ref_command("verify", "endless.py")
    assert status == 2
    assert errors.startswith("vae-ref: importing endless.py took more than ")
    assert errors.count("\n") == 1


def test_what_is_undecided_is_not_all_right(vae_ref_command, monkeypatch, tmp_path):
    monkeypatch.setattr("vae_ref.conformance.probe.draws.BUDGET", 0.01)
    endless = varied(
        SMALL, ("std = torch.exp", "while len(mu) > 1000: pass\n        std = torch.exp")
    )
    (tmp_path / "endless.py").write_text(endless)
    status, output, _ = vae_ref_command("verify", "endless.py", "--only", "*/mean")
    assert status == 3
    assert "inconclusive" in output
    assert output.splitlines()[-2].startswith("could not judge: 0 of ")


def test_nor_is_a_run_in_which_nothing_was_judged(vae_ref_command):
    status, output, _ = vae_ref_command("verify", "right_kl.py", "--only", "likelihood/value")
    assert status == 3
    assert "nothing was judged" in " ".join(output.split())


# Options.


def test_a_bug_is_named(vae_ref_command):
    status, output, _ = vae_ref_command("verify", "mean_kl.py", "--only", "kl/*")
    assert status == 1
    assert "kl-mean-over-everything" in output
    assert output.count("VIOLATED") == 1


@pytest.mark.parametrize(
    ("seed", "said"), [("0", "seed 0,"), ("007", "seed 7,"), (str(2**63), "")]
)
def test_the_seed_is_said(vae_ref_command, seed, said):
    arguments = ("right_kl.py", "--only", "kl/gradient-mu", "--seed", seed)
    status, output, _ = vae_ref_command("verify", *arguments)
    assert status == 0
    assert said in output


def test_a_fresh_seed_is_printed_and_can_be_given(vae_ref_command):
    def seed_of(text):
        arguments = ("wrong_kl.py", "--only", "kl/order-of-latents", "--seed", text)
        output = re.sub(r"\s+", " ", vae_ref_command("verify", *arguments)[1])
        return re.search(r"seed (\d+)", output)[1]

    fresh = [seed_of("fresh") for _ in range(3)]
    assert len(set(fresh)) == 3
    assert seed_of(fresh[0]) == fresh[0]


def test_a_declaration_is_obeyed_and_reported(vae_ref_command, tmp_path):
    (tmp_path / "beta.py").write_text(varied(SMALL, ("BCE + KLD", "BCE + 4 * KLD")))
    arguments = ("verify", "beta.py", "--only", "objective/beta")
    assert vae_ref_command(*arguments)[0] == 1
    status, output, _ = vae_ref_command(
        *arguments, "--declare", "beta=4", "--declare", "dtype=float64"
    )
    assert status == 0
    assert re.search(r"declared\n\s+beta\s+4", output)


EXPECTED = "# what we know\n\nkl/closed-form: issue 12, to be fixed  # soon\n kl/near-prior :why\n"


def test_expected_failures(vae_ref_command, tmp_path):
    (tmp_path / "known").write_text(EXPECTED)
    arguments = ("--only", "kl/closed-form", "--expect-failures", "known")
    status, output, _ = vae_ref_command("verify", "wrong_kl.py", *arguments)
    assert status == 0
    assert "issue 12, to be fixed: the KL is" in re.sub(r"\s+", " ", output)
    assert "soon" not in output
    status, output, _ = vae_ref_command("verify", "right_kl.py", *arguments)
    assert status == 1
    assert "expected to fail: issue 12" in output


def test_a_reason_may_name_an_issue(vae_ref_command, tmp_path):
    (tmp_path / "known").write_text("kl/closed-form: see #12\n")
    arguments = ("--only", "kl/closed-form", "--expect-failures", "known")
    assert "#12" in vae_ref_command("verify", "wrong_kl.py", *arguments)[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"kl/closed-form\n", "must give a reason after a colon; got kl/closed-form."),
        (b"kl/closed-form:\n", "must give a reason after a colon; got kl/closed-form:."),
        (b": reason\n", "names no claim"),
        (b"kl/no-such-claim: why\n", "names no claim: kl/no-such-claim;"),
        (b"kl/*: why\n", "names no claim: kl/*;"),
        (b"\xff\xfe\n", "known"),
        (b"\x00", "known must be text without control characters; got '\\x00' in line 1."),
        (b"# one\nkl/closed-form: \x1b[2Jwhy\n", "control characters; got '\\x1b' in line 2."),
        ("kl/closed-form: why\x85".encode(), "control characters; got '\\x85' in line 1."),
        (b"kl/closed-form: why\nkl/closed-form: why\n", "name a claim once; got kl/closed-form"),
        (b"kl/closed-form: why\n" + b"# more\n" * 200_000, "known must have at most 1 MiB"),
        (b"k" * 10_000 + b": why\n", "names no claim: kkk"),
        (b"k" * 10_000 + b"\n", "must give a reason after a colon; got kkk"),
    ],
)
def test_a_bad_file_of_expected_failures(vae_ref_command, tmp_path, content, message):
    (tmp_path / "known").write_bytes(content)
    arguments = ("right_kl.py", "--only", "kl/closed-form", "--expect-failures", "known")
    status, _, errors = vae_ref_command("verify", *arguments)
    assert status == 2, errors
    assert message in errors
    assert errors.count("\n") == 1


def test_an_empty_file_of_expected_failures_expects_none(vae_ref_command, tmp_path):
    (tmp_path / "known").write_text("\ufeff\n# nothing\n\n")
    arguments = ("right_kl.py", "--only", "kl/closed-form", "--expect-failures", "known")
    assert vae_ref_command("verify", *arguments)[0] == 0


# Reports.


@pytest.mark.parametrize(
    ("target", "expected"),
    [pytest.param("right_kl.py", 0, marks=pytest.mark.slow), ("mean_kl.py", 1)],
)
def test_reports_are_written_whatever_comes_out(vae_ref_command, tmp_path, target, expected):
    files = ("--json", "r.json", "--junit", "r.xml", "--html", "r.html")
    status, _, errors = vae_ref_command("verify", target, "--only", "kl/*", *files)
    assert (status, errors) == (expected, "")
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["verdict"] == ("violated" if expected else "partial")
    assert sum(data["counts"].values()) == len(data["claims"])
    assert {"id", "part", "status", "message", "diagnosis", "counterexample"} <= set(
        data["claims"][0]
    )
    suite = ElementTree.parse(tmp_path / "r.xml").getroot().find("testsuite")
    assert int(suite.get("tests")) == len(data["claims"])
    page = (tmp_path / "r.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html")
    assert not [name for name in os.listdir(tmp_path) if "unfinished" in name]


def test_where_a_file_moves_to_does_not_move_the_report(vae_ref_command, tmp_path):
    (tmp_path / "moving.py").write_text("import os\nos.chdir('/')\n" + kl_that("pass"))
    arguments = ("--only", "kl/gradient-mu", "--json", "here.json")
    assert vae_ref_command("verify", "moving.py", *arguments)[0] == 0
    assert (tmp_path / "here.json").exists()


def test_what_is_already_there_stays_if_a_report_cannot_be_written(vae_ref_command, tmp_path):
    (tmp_path / "r.json").mkdir()
    arguments = ("right_kl.py", "--only", "kl/gradient-mu", "--json", "r.json")
    assert vae_ref_command("verify", *arguments)[0] == 2
    assert (tmp_path / "r.json").is_dir()


def test_what_our_own_display_draws_is_not_the_subject_s(vae_ref_command, monkeypatch, tmp_path):
    """Continuous integration likes colours, and the display then draws into any stream."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    (tmp_path / "slow.py").write_text(kl_that("time.sleep(0.05)"))
    arguments = ("slow.py", "--only", "kl/gradient-mu", "--json", "r.json")
    status, _, errors = vae_ref_command("verify", *arguments)
    assert status == 0
    assert "verifying" in errors
    assert json.loads((tmp_path / "r.json").read_text())["notes"] == []


# The list of claims.


def test_claims_are_listed(vae_ref_command):
    status, output, errors = vae_ref_command("claims")
    assert (status, errors) == (0, "")
    assert all(claim.id in output for claim in all_claims())
    count = len(all_claims())
    assert output.splitlines()[-1] == f"{count} of {count} claims"


def test_claims_can_be_chosen(vae_ref_command):
    status, output, _ = vae_ref_command("claims", "kl/*")
    *lines, last = output.splitlines()
    assert status == 0
    assert len(lines) == sum(claim.part == "kl" for claim in all_claims())
    assert all(line.startswith("kl/") for line in lines)
    assert last == f"{len(lines)} of {len(all_claims())} claims"


@pytest.mark.parametrize("claim", all_claims()[::12], ids=lambda claim: claim.id)
def test_one_claim_is_shown_in_full(vae_ref_command, claim):
    status, output, _ = vae_ref_command("claims", claim.id)
    assert status == 0
    words = " ".join(output.split())
    for text in (claim.id, claim.statement, plain_formula.plain(claim.formula), *claim.kills):
        assert " ".join(text.split()) in words
    assert max(map(cell_len, output.splitlines())) <= 100


def test_the_label_of_a_tolerance_says_whether_it_is_allowed(vae_ref_command):
    _, output, _ = vae_ref_command("claims", "training/loss")
    assert "  violated by  a measure outside the interval of the reference's seeds\n" in output
    assert "tolerance" not in output
    _, output, _ = vae_ref_command("claims", "kl/closed-form")
    assert "  tolerance  32 roundings" in output


def test_a_claim_lists_the_bugs_that_it_must_find_and_those_it_also_finds(vae_ref_command):
    claim = all_claims()[0]
    _, output, _ = vae_ref_command("claims", claim.id)
    required, _, others = output.partition("must find\n")[2].partition("also finds: ")
    assert all(f"  {bug} " in required for bug in claim.kills)
    seen = {bug for bug, claims in kill_matrix().items() if claim.id in claims}
    assert {*others.replace(",", "").split()} == seen - {*claim.kills} != set()


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        ("nothing", "vae-ref claims lists them."),
        ("", "vae-ref claims lists them."),
        ("kl", "did you mean kl/*?"),
        ("KL/*", "did you mean kl/*?"),
        ("kl/closed-fom", "did you mean kl/closed-form?"),
        ("kl-no-haf", "did you mean kl-no-half?"),
        ("kl-no-half", "it is a bug, which kl/closed-form finds."),
    ],
)
def test_claims_that_there_are_none(vae_ref_command, pattern, remedy):
    for arguments in (["claims", pattern], ["verify", "--only", pattern]):
        status, output, errors = vae_ref_command(*arguments)
        assert (status, output) == (2, "")
        assert errors == f"vae-ref: no claim matches {pattern!r}; {remedy}\n"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("vae-ref verify --only kl/", ["kl/*", *KL]),
        ("vae-ref claims kl/gradient-", ["kl/gradient-mu", "kl/gradient-logvar"]),
        ("vae-ref ver", ["verify"]),
    ],
)
def test_claims_are_completed_before_torch_could_be_imported(words, found):
    code = "import sys; from vae_ref.cli import main; sys.argv[0] = 'vae-ref'; main()"
    command = [sys.executable, "-X", "importtime", "-c", code]
    state = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    state |= {"_VAE_REF_COMPLETE": "complete_bash", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, env=os.environ | state, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == found
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("command", ["verify", "claims"])
def test_help(vae_ref_command, command):
    status, output, _ = vae_ref_command(command, "--help")
    assert status == 0
    assert "Usage" in output


# As a program of its own: each start takes seconds, so there are few.


def start(directory, *arguments, **environment):
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=directory,
        env={**os.environ, "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_program_from_end_to_end(tmp_path):
    (tmp_path / "mean_kl.py").write_text(MEAN_KL)
    with start(tmp_path, "verify", "mean_kl.py", "--json", "r.json") as process:
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (1, "")
    assert "kl-mean-over-everything" in output
    assert "\x1b" not in output, "a log is plain lines"
    claims = json.loads((tmp_path / "r.json").read_text())["claims"]
    roots = [c for c in claims if c["status"] == "fail" and not c["explained_by"]]
    assert [c["diagnosis"]["bug"] for c in roots] == ["kl-mean-over-everything"]


@pytest.mark.slow
def test_ctrl_c_ends_with_130(tmp_path):
    ready = tmp_path / "ready"
    (tmp_path / "slow.py").write_text(
        kl_that(f"open({str(ready)!r}, 'w').close(); time.sleep(600)")
    )
    with start(tmp_path, "verify", "slow.py", "--only", "kl/*") as process:
        deadline = time.monotonic() + PATIENCE
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_closed_pipe_is_no_traceback(tmp_path):
    with start(tmp_path, "claims") as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
