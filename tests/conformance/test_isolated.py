"""A target in a process of its own: none that is right is refused, no cheater gets by."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from tests.conformance.cheaters import CHEATERS, RESULTS
from tests.conformance.strangers import SMALL
from tests.conformance.variants import VARIANTS, kl, squares
from tests.transcripts import ROOT
from vae_ref.conformance import Subject
from vae_ref.conformance.foreign import Foreign
from vae_ref.conformance.loading import spawning
from vae_ref.conformance.loading.isolated import isolated
from vae_ref.conformance.loading.process import (
    AnswerOfProcessError,
    Process,
    ProcessError,
    read_array,
    subject_of,
    written,
)
from vae_ref.conformance.loading.serve import Server
from vae_ref.conformance.records import TEXTBOOK
from vae_ref.conformance.runner import probe_of, select
from vae_ref.conformance.vigil import watched

pytestmark = pytest.mark.usefixtures("user")

HOLDS = ("pass", "not-applicable")


class Loopback(Process):
    """A server in this process, which is asked in the words of the protocol."""

    def __init__(self, subject):
        super().__init__(["loopback"])
        self.server = Server(lambda: subject)
        self.about = self._ask({"do": "start", "protocol": 1})
        self._running = self

    def _ask(self, request):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as the server's own process does
            return json.loads(json.dumps(self.server.reply(json.loads(json.dumps(request)))))


def alarms(subject, only=None, seed=0):
    process = Loopback(subject)
    results = watched(probe_of(subject_of(process), seed), select(only, parts=TEXTBOOK), [])
    return [r for r in results if r.status not in HOLDS]


@pytest.mark.sampled(12)
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            make,
            id=make.__name__,
            marks=[pytest.mark.slow] * (index > 0),
        )
        for index, make in enumerate(VARIANTS)
    ],
)
def test_no_variant_that_is_right_is_refused(make):
    torch.manual_seed(0)
    found = alarms(make())
    assert not found, "\n".join(f"{r.claim.id}: {r.status}: {r.message}" for r in found)


# Programs that are right for a while, or for some.


def failing(kl, only="kl/*"):
    return {r.claim.id: r.message for r in alarms(Subject(name="a cheater", kl=kl), only)}


def test_a_kl_that_is_right_for_few_examples_is_found():
    found = failing(lambda mu, logvar: kl(mu, logvar) * (1 + (len(mu) > 4)), "kl/closed-form")
    assert found["kl/closed-form"].startswith("asked in other sizes: the KL of ")


def test_a_slope_that_is_right_for_few_examples_is_found():
    def detached(mu, logvar):
        return kl(mu if len(mu) < 5 else mu.detach(), logvar)

    assert "the gradient of the KL" in failing(detached, "kl/closed-form")["kl/closed-form"]


def test_a_kl_that_is_right_for_the_usual_numbers_of_latents_is_found():
    usual = (1, 2, 3, 5)
    assert failing(lambda mu, s: kl(mu, s) * (1 + (mu.shape[1] not in usual)), "kl/gradient-mu")


def test_an_answer_of_mixed_precision_may_round_as_the_coarser_does():
    """Such as a sum in single precision, which another order of the examples changes."""
    scale, factor = 1 + 3e-7, [1.0]

    def loss(outputs, x, mu, logvar):
        return (squares(outputs, x) * factor[0]).double() + kl(mu, logvar)

    subject = subject_of(Loopback(Subject(name="mixed", loss=loss)))
    coarse, fine = torch.rand(2, 3, 7, dtype=torch.float32), torch.rand(2, 3, 2)
    subject.loss(*coarse, *fine)
    factor[0] = scale
    assert list(subject.elsewhere.again()) == []
    subject.loss(*coarse.double(), *fine)
    factor[0] = scale**2
    assert [name for name, _ in subject.elsewhere.again()] == ["loss"]


def test_a_kl_that_is_right_until_the_claims_are_checked_is_found():
    """The last questions are those of before."""
    process = Loopback(Subject(name="a cheater", kl=lambda mu, s: kl(mu, s) * factor[0]))
    subject, factor = subject_of(process), [1.0]
    subject.kl(torch.ones(3, 2), torch.zeros(3, 2))
    assert list(subject.elsewhere.again()) == []
    factor[0] = 1 + 1e-9
    ((name, difference),) = subject.elsewhere.again()
    assert name == "kl"
    assert difference == "3 where it was 3"


def test_a_sampler_that_cannot_be_seeded_is_not_asked_again():
    def sample(mu, logvar):
        return mu + torch.exp(logvar / 2) * torch.from_numpy(rng.standard_normal(mu.shape))

    rng = np.random.default_rng()
    conventions = Subject(name="x").conventions.declaring({"seeded": "false"})
    subject = subject_of(
        Loopback(Subject(name="x", reparameterize=sample, conventions=conventions))
    )
    subject.reparameterize(torch.zeros(3, 2), torch.zeros(3, 2))
    assert list(subject.elsewhere.again()) == []


# Files.


STEP = """
import torch
import torch.nn.functional as F

heads, decoder = torch.nn.Linear(784, 4), torch.nn.Linear(2, 784)


def step(x):
    mu, logvar = heads(x).chunk(2, 1)
    logits = decoder(mu + torch.exp(logvar / 2) * torch.randn_like(mu))
    kl = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl
"""


@pytest.fixture
def target(tmp_path, monkeypatch):
    """Write a file; return its name, from its own folder."""
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "entry.py").write_text(text)
        return "entry.py"

    return write


def test_a_file_is_judged_in_another_process(target, vae_ref_command):
    entry = target(SMALL + "\nprint(0)\n")
    status, output, _ = vae_ref_command(
        "verify", entry, "--isolated", "--only", "kl/c*", supervised=True
    )
    assert (status, "isolated" in output) == (0, True)
    assert not [name for name in sys.modules if name.endswith("entry")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "raise ValueError('no')",
            "importing entry.py raised ValueError: no",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "import os; os._exit(0)",
            "entry.py could not be loaded; the process ended with status 0",
            marks=pytest.mark.slow,
        ),
        pytest.param("x = 1", "entry.py has no VAE", marks=pytest.mark.slow),
        pytest.param(STEP, "is audited as a step", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_isolated_is_one_line(target, text, message):
    entry = target(text) + (":step" if "step" in text else "")
    with pytest.raises(ProcessError, match=message) as error:
        isolated(entry, {}, memory=8.0)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_process_that_hides_its_loss_is_undecided(target):
    subject = isolated(target(CHEATERS["hides-its-loss"].text), {}, memory=8.0)
    assert subject.undecided == (
        "the file defines loss_function, which its process does not offer"
    )


@pytest.mark.slow
def test_a_process_that_declares_what_its_file_does_not_is_refused(target):
    with pytest.raises(ProcessError, match="the process declares beta, and its file"):
        isolated(target(CHEATERS["declares-its-bug"].text), {}, memory=8.0)


def test_the_environment_does_not_tell_of_the_judge(monkeypatch):
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "x")
    monkeypatch.setenv("VAE_REF_DATA", "x")
    kept = spawning.environment()
    assert "PATH" in kept
    assert not [name for name in kept if name.startswith(("PYTEST", "VAE_REF"))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--isolated"], "--isolated must come with a TARGET"),
        (["small_vae.py", "--isolated", "--train", "glyphs"], "--isolated must stand without"),
        (["small_vae.py", "--isolated", "--in-process"], "--isolated must stand without"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(vae_ref_command, arguments, message):
    status, _, errors = vae_ref_command("verify", *arguments, supervised=True)
    assert status == 2
    assert message in errors


# Arrays.


def through_json(array, **options):
    return read_array(json.loads(json.dumps(written(array, packed=True))), "x", **options)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (1, 2), (0, 4)])
def test_a_packed_array_keeps_every_bit(shape):
    array = np.random.default_rng(0).standard_normal(shape) * np.array(1e-310)
    assert through_json(array, trusted=True).tobytes() == array.tobytes()
    assert through_json(array).shape == shape


def test_equal_rows_are_sent_once_to_those_who_may_be_trusted():
    rows = np.tile([1.0, 2.0], (1000, 1))
    assert len(written(rows, packed=True)["base64"]) < 30
    assert (through_json(rows, trusted=True) == rows).all()
    with pytest.raises(AnswerOfProcessError, match="x has 2 numbers, and the shape"):
        through_json(rows)


@pytest.mark.parametrize("axes", [(0, 2, 3, 1), (3, 1, 0, 2), (0, 1, 2, 3)])
@pytest.mark.parametrize("part", [slice(None), slice(1, 3)])
def test_the_order_of_an_array_in_memory_goes_with_it(axes, part):
    plain = np.arange(120.0).reshape(2, 3, 4, 5)
    array = np.ascontiguousarray(plain.transpose(axes)).transpose(np.argsort(axes))[:, part]
    found = read_array(json.loads(json.dumps(written(array, packed=True, ordered=True))), "x")
    assert np.array_equal(found, array)
    alike = torch.empty_like(torch.from_numpy(array))
    assert torch.from_numpy(found).stride() == alike.stride()


def test_an_array_that_repeats_numbers_in_memory_is_written_out():
    array = np.broadcast_to(np.arange(2.0), (4, 3, 2))
    form = written(array, packed=True, ordered=True)
    assert "axes" not in form
    assert np.array_equal(read_array(form, "x", trusted=True), array)


@pytest.mark.parametrize("axes", [[0], [0, 0], [1, 2], [True, 0], "10", [[0], 1], {"0": 1}, 3])
def test_axes_that_are_no_permutation_are_refused(axes):
    form = written(np.ones((2, 3)), packed=True) | {"axes": axes}
    with pytest.raises(AnswerOfProcessError, match="x must have as axes the numbers from 0 to 1"):
        read_array(form, "x", trusted=True)


@pytest.mark.parametrize("text", [3, None, "AAAA", "=", "é", []])
def test_base64_of_a_stranger_is_refused(text):
    with pytest.raises(AnswerOfProcessError, match="x"):
        read_array({"shape": [1], "base64": text}, "x")


def test_a_function_of_another_library_may_return_several_arrays():
    both = Foreign(
        lambda x: ((x, x**2), lambda slopes: [slopes[0] + 2 * x * slopes[1]]), differentiable=True
    )
    x = torch.tensor([3.0], requires_grad=True)
    first, second = both(x)
    (slope,) = torch.autograd.grad((first + 10 * second).sum(), x)
    assert (first.item(), second.item(), slope.item()) == (3, 9, 61)


# The bank of those who cheat.


def statuses(*names):
    """Run the command in a process that no cheater can reach."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance.cheaters", *names],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(line.split() for line in done.stdout.splitlines())


def test_the_results_are_those_of_the_bank():
    found = json.loads(RESULTS.read_text())
    assert list(found) == list(CHEATERS)
    assert len(found) >= 40
    assert [name for name, status in found.items() if status.get("isolated") == 0] == []


@pytest.mark.slow
@pytest.mark.sampled(32)  # cheaters.json has the results of all
@pytest.mark.parametrize("name", CHEATERS)
def test_nobody_who_cheats_gets_by(name):
    assert statuses(name)[name] != "0"
