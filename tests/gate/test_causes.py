"""What makes a count or a time rise is named by its line, wherever the line was before."""

import importlib.util
import sys

import pytest
import torch

from benchmarks.planted import PLANTED, named
from vae_ref.gate.causes import causes, edits, slower_line
from vae_ref.gate.counting import ledger
from vae_ref.gate.tracing import trace
from vae_ref.gate.verdict import Change
from vae_ref.gate.worker import Project

BASE = """
def inner(x):
    return x + 1

def outer(x):
    return inner(x)

def other(x):
    return inner(x)
"""


def site(what, amount, *chain, shape=""):
    places = [["a.py", line] for line in chain]
    return {"chain": places, "what": what, "shape": shape, "counts": {"bytes": amount}}


@pytest.fixture
def named_in(tmp_path):
    """Return the causes of a rise of bytes, of sites in a file that changed."""

    def find(text, base, head):
        for side, content in (("base", BASE), ("head", text)):
            (tmp_path / side).mkdir()
            (tmp_path / side / "a.py").write_text(content)
        changes = [Change("step/bytes", 1, 2)]
        trees = tmp_path / "base", tmp_path / "head"
        return causes(changes, {"step": base}, {"step": head}, trees)["step/bytes"]

    return find


def test_a_line_that_only_moved_is_the_same_line(named_in):
    moved = "\n\n" + BASE.replace("x + 1", "x + 1.0")
    base = [site("add", 8, 3, shape="float32[2]"), site("mul", 5, 6)]
    head = [site("add", 16, 5, shape="float64[2]"), site("mul", 5, 8)]
    [cause] = named_in(moved, base, head)
    assert cause.line == "a.py:5 `return x + 1.0`"
    assert (cause.base, cause.head) == (8, 16)
    assert cause.action == "add of float64[2] (was float32[2])"
    assert cause.where == cause.line, "it was changed itself"


def test_the_first_and_the_heaviest_are_named_and_crumbs_are_not(named_in):
    head = [site("mul", 1, 3), site("copy", 10, 6), site("add", 90, 9), site("exp", 80, 9)]
    assert [cause.what for cause in named_in(BASE, [], head)] == ["copy", "add"]


def test_a_caller_that_was_changed_is_named(named_in):
    twice = BASE.replace("def outer(x):\n    return inner(x)", "def outer(x):\n    inner(x)\n")
    head = [site("add", 16, 3, 6)]
    [cause] = named_in(twice, [site("add", 8, 3, 6)], head)
    assert cause.where == "a.py:3 `return x + 1`, called by a.py:6 `inner(x)`"


def test_the_caller_that_calls_more_is_named_if_none_was_changed(named_in):
    base = [site("add", 8, 3, 6), site("add", 8, 3, 9)]
    head = [site("add", 8, 3, 6), site("add", 32, 3, 9)]
    [cause] = named_in(BASE, base, head)
    assert cause.where == "a.py:3 `return x + 1`, called by a.py:9 `return inner(x)`"


def test_what_only_moved_within_the_file_is_no_cause(named_in):
    """Two functions change places; one of them copies, too."""
    first, second, *_ = BASE.split("\n\n")
    swapped = f"\n{second}\n\n{first.strip()}\n    y = x.clone()\n"
    base = [site("add", 90, 3), site("mul", 90, 6)]
    head = [site("mul", 90, 3), site("add", 90, 6), site("clone", 8, 7)]
    assert [cause.what for cause in named_in(swapped, base, head)] == ["clone"]


def test_a_line_that_was_split_does_no_more_than_before(named_in):
    """The new line beside it does."""
    split = BASE.replace("return x + 1", "y = x.clone()\n    z = y + 1\n    return z")
    base = [site("add", 90, 3, shape="float32[2]"), site("mul", 90, 3)]
    head = [
        site("clone", 8, 3),
        site("add", 92, 4, shape="float32[2]"),
        site("mul", 90, 4),
    ]
    found = named_in(split, base, head)
    assert [(cause.what, cause.base, cause.head) for cause in found] == [("clone", 0, 8)]
    assert found[0].changed


def test_a_line_that_was_changed_is_named_before_others_that_do_more(named_in):
    """What is alive at another moment is not more, but it is counted at the peak."""
    changed = BASE.replace("def other(x):\n", "def other(x):\n    x = x.clone()\n")
    head = [site("mul", 30, 3), site("add", 50, 6), site("clone", 40, 9)]
    assert [cause.what for cause in named_in(changed, [], head)] == ["clone", "mul", "add"]


def test_what_was_changed_elsewhere_is_listed(tmp_path):
    for side, text in (
        ("base", "@guard\ndef f():\n    pass\n\nn = 1\n"),
        ("head", "def f():\n    pass\n\nn = 2\n"),
    ):
        (tmp_path / side / "package").mkdir(parents=True)
        (tmp_path / side / "package" / "a.py").write_text(text)
        (tmp_path / side / "b.py").write_text("same = 1\n")
    assert edits((tmp_path / "base", tmp_path / "head")) == [
        "package/a.py:1 without `@guard`",
        "package/a.py:4 `n = 2`",
    ]


def test_lines_are_counted_as_python_counts_them(named_in):
    [cause] = named_in("x = 1 # \x0c page\ny = 2\n", [], [site("add", 8, 2)])
    assert cause.line == "a.py:2 `y = 2`"


def test_a_long_line_is_cut(named_in):
    [cause] = named_in("x = " + "1" * 999 + "\n", [], [site("add", 8, 1)])
    assert len(cause.line) < 130


def test_what_no_line_of_the_project_does_is_said(named_in):
    [cause] = named_in(BASE, [], [site("add", 3)])
    assert cause.where == "outside of the project"


@pytest.fixture
def module(tmp_path):
    """Import a file of a project."""
    before = list(sys.meta_path)

    def load(text):
        file = tmp_path / "mine.py"
        file.write_text(text)
        spec = importlib.util.spec_from_file_location("mine", file)
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded, Project(tmp_path, set())

    yield load
    sys.meta_path[:] = before


def test_the_backward_pass_belongs_to_the_line_that_it_differentiates(module):
    mine, project = module("def f(x):\n    y = x.exp()\n    return y.sum()\n")
    x = torch.ones(3, requires_grad=True)

    def call():
        x.grad = None
        mine.f(x).backward()

    found = {(s["chain"][0], s["what"]) for s in ledger(call, project).sites() if s["chain"]}
    assert (("mine.py", 2), "exp") in found
    assert (("mine.py", 2), "mul (backward)") in found
    assert (("mine.py", 3), "expand (backward)") in found
    assert (("mine.py", 2), "saved for the backward pass") in found


def test_counts_are_those_of_all_lines(module):
    mine, project = module("def f(x):\n    return (x.exp() + 1).sum().item()\n")
    found = ledger(lambda: mine.f(torch.ones(5)), project)
    for name, value in found.counts().items():
        assert value == sum(site["counts"].get(name, 0) for site in found.sites())
    assert found.counts()["synchronisations"] == 1


def test_what_stays_alive_is_counted():
    kept, x = [], torch.ones(5)
    assert ledger(lambda: kept.append(x.exp())).counts()["kept_bytes"] == x.nbytes
    assert ledger(x.exp).counts()["kept_bytes"] == 0


def test_lines_are_timed_and_counted(module):
    mine, project = module(
        "import time\n"
        "def nap():\n"
        "    time.sleep(0.02)\n"
        "def step():\n"
        "    for _ in range(3):\n"
        "        nap()\n"
        "    return 1\n"
    )
    found = {line["place"]: line for line in trace(mine.step, project.relative)}
    nap, caller = found["mine.py", 3], found["mine.py", 6]
    assert nap["hits"] == caller["hits"] == 3
    assert nap["own"] >= 0.06
    assert caller["own"] < 0.06 <= caller["total"]
    assert sys.gettrace() is None


def test_a_call_that_fails_is_no_longer_traced(module):
    mine, project = module("def f():\n    return 1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        trace(mine.f, project.relative)
    assert sys.gettrace() is None


def test_what_is_generated_or_installed_is_not_of_the_project(module):
    _, project = module("")
    assert project.relative("<string>") is None
    assert project.relative(str(project.source / "venv" / "site-packages" / "x.py")) is None
    assert project.relative(str(project.source / "mine.py")) == "mine.py"


def test_the_fast_paths_of_torch_are_counted():
    layer = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    x = torch.ones(2, 3, 8)
    with torch.no_grad():
        assert ledger(lambda: layer(x)).counts()["operations"] == 1


def line(number, own, total, hits):
    return {"place": ["a.py", number], "own": own, "total": total, "hits": hits}


def test_the_slower_line_is_named_with_its_changed_caller(tmp_path):
    loop = BASE.replace(
        "def outer(x):\n    return inner(x)", "def outer(x):\n    return [inner(x) for _ in 'abc']"
    )
    for side, text in (("base", BASE), ("head", loop)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.py").write_text(text)
    base = [[line(6, 0.001, 0.011, 1), line(3, 0.010, 0.010, 1)]] * 3
    head = [[line(6, 0.002, 0.032, 1), line(3, 0.030, 0.030, 3)]] * 3
    [cause] = slower_line(base, head, (tmp_path / "base", tmp_path / "head"))
    assert cause.line == "a.py:3 `return x + 1`"
    assert cause.caller == "a.py:6 `return [inner(x) for _ in 'abc']`"
    assert (cause.what, cause.base, cause.head) == ("executed 1 -> 3 times", 10_000, 30_000)
    assert slower_line(head, base, (tmp_path / "head", tmp_path / "base")) == []
    assert slower_line(base, head, (tmp_path / "base", tmp_path / "head"), least=0.03) == []


@pytest.mark.sampled(4)
@pytest.mark.slow
@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.what)
def test_the_line_of_a_planted_regression_is_named(planted, tmp_path):
    right, found = named(planted, tmp_path)
    assert right, found
