"""The counts are exact, the same on every run, and higher for what costs more."""

import gc
import json
from pathlib import Path

import pytest
import torch

from benchmarks import workloads
from tests.gate.injections import INJECTIONS, copy_of
from vae_ref.gate import counters, paired
from vae_ref.gate.counters import Counted
from vae_ref.gate.counting import ledger
from vae_ref.gate.paired import Settings
from vae_ref.gate.revisions import GateError
from vae_ref.gate.verdict import compared

SETTINGS = Settings(workloads=Path(workloads.__file__))


def count(call):
    return ledger(call).counts()


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.float64, 8)])
def test_a_product_is_counted_exactly(dtype, size):
    a, b = torch.ones(5, 7, dtype=dtype), torch.ones(7, 3, dtype=dtype)
    assert count(lambda: a @ b) == {
        "operations": 1,
        "flops": 2 * 5 * 7 * 3,
        "bytes": size * (35 + 21 + 15),
        "peak_bytes": size * 15,
        "kept_bytes": 0,
        "synchronisations": 0,
        "saved_tensors": 0,
        "saved_bytes": 0,
    }


def test_the_backward_pass_is_counted():
    a, b = torch.ones(5, 7, requires_grad=True), torch.ones(7, 3, requires_grad=True)

    def call():
        a.grad = b.grad = None
        (a @ b).sum().backward()

    counts = count(call)
    assert counts["flops"] == 3 * 2 * 5 * 7 * 3
    assert (counts["saved_tensors"], counts["saved_bytes"]) == (2, 8 * (35 + 21))


def test_inference_mode_hides_nothing():
    layer, x = torch.nn.Linear(7, 3), torch.ones(5, 7)
    with torch.no_grad():
        expected = count(lambda: layer(x))
    with torch.inference_mode():
        found = count(lambda: layer(x))
    assert found["flops"] == expected["flops"] == 2 * 5 * 7 * 3
    assert found["bytes"] == expected["bytes"]


def test_a_view_moves_nothing_and_a_broadcast_little():
    x = torch.ones(100, 100)
    assert count(lambda: x.t()[:50].view(50, 100))["bytes"] == 0
    assert count(lambda: x.expand(9, 100, 100).sum())["bytes"] == 8 * (100 * 100 + 1)


def test_a_tensor_that_is_changed_is_read_and_written_but_a_buffer_only_written():
    x, y = torch.ones(100), torch.ones(100)
    assert count(lambda: x.mul_(1))["bytes"] == 8 * 200
    assert count(lambda: torch.exp(x, out=y))["bytes"] == 8 * 200
    assert count(lambda: torch._foreach_add_([x, y], 1))["bytes"] == 8 * 400


def test_the_peak_counts_what_is_alive_at_the_same_time():
    x = torch.ones(1000)

    def one_by_one():
        for _ in range(5):
            x.exp()

    assert count(one_by_one)["peak_bytes"] == 8000
    assert count(lambda: [x.exp() for _ in range(5)])["peak_bytes"] == 40000
    assert count(lambda: x.exp().exp().exp())["peak_bytes"] == 16000


def test_memory_that_is_older_than_the_call_is_not_counted():
    x = torch.ones(1000)
    assert count(lambda: x.mul_(1))["peak_bytes"] == 0
    assert count(lambda: torch.exp(x, out=x))["peak_bytes"] == 0


def test_garbage_in_cycles_lives_until_the_end():
    def cycle():
        for _ in range(5):
            kept = [torch.ones(1000)]
            kept.append(kept)

    assert count(cycle)["peak_bytes"] == 40000
    assert gc.isenabled()


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x[0].item(),
        lambda x: float(x[0]),
        lambda x: bool(x[0] > 0),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: torch.equal(x, x),
    ],
)
def test_the_host_waits_once(wait):
    x = torch.ones(3)
    assert count(lambda: wait(x))["synchronisations"] == 1


def test_a_call_that_fails_leaves_the_collector_on():
    with pytest.raises(ZeroDivisionError):
        count(lambda: 1 / 0)
    assert gc.isenabled()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return copy_of(tmp_path_factory.mktemp("base"))


@pytest.mark.sampled(6)
@pytest.mark.slow
@pytest.mark.parametrize("workload", ["objective", "textbook", "training", "eager", "evaluation"])
def test_counts_are_the_same_in_every_process(base, workload):
    first, second = paired.count(SETTINGS, workload, base, base)
    assert first == second
    assert first["counts"]["flops"] > 0
    assert first["counts"]["imports"] > 500
    if workload == "eager":  # it differentiates, even if another engine is chosen by default
        assert first["counts"]["saved_tensors"] > 4 * 10


@pytest.fixture(scope="module")
def objective(base):
    return paired.count(SETTINGS, "objective", base)[0]["counts"]


@pytest.mark.sampled(6)
@pytest.mark.slow
@pytest.mark.parametrize("name", INJECTIONS)
def test_a_fault_raises_the_counts(objective, name, tmp_path):
    module, addition, expected = INJECTIONS[name]
    [found] = paired.count(SETTINGS, "objective", copy_of(tmp_path, module, addition))
    changes = compared({"objective": objective}, {"objective": found["counts"]})
    risen = {
        change.name.removeprefix("objective/") for change in changes if change.head > change.base
    }
    assert risen >= expected


@pytest.mark.slow
def test_another_module_of_the_package_is_not_counted_as_an_import(objective, tmp_path):
    head = copy_of(tmp_path, "shapes", "import vae_ref.more\n")
    (head.tree / "vae_ref" / "more.py").write_text("")
    [found] = paired.count(SETTINGS, "objective", head)
    assert found["counts"] == objective


HERE = {"python": "3.11", "torch": "2", "device": "cpu"}


def counted(value: int, on: dict[str, str] = HERE) -> Counted:
    return Counted({"step": {"operations": value}}, {}, on)


def test_a_note_is_compared_with_the_counts(tmp_path):
    note = tmp_path / "results" / "counters.json"
    assert counters.differences(note, counted(5)) is None, "there is no note"
    counters.write(note, counted(5))
    assert counters.differences(note, counted(5)) == []
    assert counters.differences(note, counted(4)) == ["step/operations: 5 -> 4 (-20.0%)"]
    assert counters.differences(note, counted(5, HERE | {"torch": "3"})) is None
    more = Counted(counted(5).counts | {"new": {"operations": 1}}, {}, HERE)
    assert counters.differences(note, more) == ["new: not in the note"]


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"on": HERE})])
def test_a_file_that_is_not_a_note(tmp_path, text):
    (tmp_path / "note.json").write_text(text)
    with pytest.raises(GateError, match=r"note.json is not a note of counts; write it"):
        counters.differences(tmp_path / "note.json", counted(5))
