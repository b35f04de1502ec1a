"""A race is evaluated correctly: ratios within repetitions, targets, and void losses."""

import dataclasses
import json
import math

import pytest

from benchmarks import race
from benchmarks.standings import CONTESTANTS, Result, Standings, interval
from tests import test_mnist
from tests.benchmarks.races import EPOCHS, LOSS, SECONDS, results


def verdicts(found):
    return [target.verdict for target in Standings(found).targets()]


def test_the_interval_is_that_of_the_tests_on_mnist():
    assert interval(EPOCHS) == pytest.approx(test_mnist.interval("test_loss", EPOCHS))


def test_all_targets_are_met():
    assert verdicts(results()) == ["met"] * 4


@pytest.mark.parametrize(
    ("missed", "changed"),
    [(0, {"textbook": 8 * 1.2 - 0.01}), (1, {"scan": 1.15 * 1.2 - 0.01}), (2, {"floor": 1.04})],
)
def test_one_target_is_missed(missed, changed):
    expected = ["missed" if n == missed else "met" for n in range(4)]
    assert verdicts(results(SECONDS | changed)) == expected


def test_the_target_of_the_floor_depends_on_the_processor():
    content = {"results": [dataclasses.asdict(result) for result in results()]}
    fast = Standings.read(content | {"environment": {"vectors": "AVX512", "device": "cpu"}})
    assert fast.targets()[2].statement == "at most 0.65 times the floor, in every epoch"
    assert fast.targets()[2].verdict == "missed"
    on_gpu = Standings.read(content | {"environment": {"vectors": "AVX512", "device": "cuda"}})
    assert on_gpu.targets()[2].verdict == "met"


def test_one_epoch_far_above_the_floor_misses_the_target():
    found = [
        dataclasses.replace(r, seconds=[1.6, *r.seconds[1:]]) if r.contestant == "ours" else r
        for r in results()
    ]
    assert verdicts(found)[2] == "missed"


@pytest.mark.parametrize(("drift", "verdict"), [(1.05, "met"), (1.2, "missed")])
def test_an_epoch_may_drift_as_far_as_the_floor_does(drift, verdict):
    def seconds(result):
        factor = {"ours": drift, "floor": 1 + 0.02 * result.repetition}.get(result.contestant, 1)
        return [*result.seconds[:-1], result.seconds[-1] * factor]

    found = [dataclasses.replace(r, seconds=seconds(r)) for r in results()]
    assert verdicts(found)[3] == verdict


def test_ratios_are_taken_within_a_repetition():
    """A machine that becomes five times slower between repetitions changes no ratio."""
    steady = Standings(results())
    changing = Standings(results(pace=lambda repetition, _: 5.0 ** (repetition % 3)))
    for name in CONTESTANTS:
        assert changing.ratio(name, "ours") == pytest.approx(steady.ratio(name, "ours"))


def test_a_ratio_can_be_that_of_some_epochs():
    common = {"repetition": 1, "seed": 0, "test_loss": LOSS}
    found = Standings(
        [
            Result(contestant="ours", seconds=[1, 1, 1, 1, 1, 1], **common),
            Result(contestant="fair", seconds=[9, 7, 2, 2, 2, 2], **common),
        ]
    )
    assert found.ratio("fair", "ours", first=3) == (2, 2, 2)
    assert found.ratio("fair", "ours", first=2, last=2) == (7, 7, 7)
    assert found.ratio("fair", "ours") == (4, 4, 4)


@pytest.mark.parametrize("loss", [90.0, 120.0, math.nan])
def test_a_time_with_a_wrong_loss_is_void(loss):
    found = results(losses={"scan": loss})
    assert [name for name in SECONDS if Standings(found).is_void(name)] == ["scan"]
    assert verdicts(found) == ["met", "void", "met", "met"]
    assert verdicts(results(losses={"ours": loss})) == ["void"] * 4


def test_the_target_of_an_absent_rival_is_not_measured():
    found = [r for r in results() if r.contestant not in ("scan", "floor")]
    assert verdicts(found) == ["met", "not measured", "not measured", "not measured"]


def test_a_short_race_measures_no_steady_state():
    found = [dataclasses.replace(r, seconds=r.seconds[:2], test_loss=None) for r in results()]
    assert verdicts(found) == ["met", "not measured", "met", "met"]


@pytest.fixture
def entered(monkeypatch):
    """Let contestants finish at once, and list those that were called."""
    calls = []

    def enter(name, repetition, arguments):
        calls.append((repetition, name))
        (found,) = [r for r in results() if (r.contestant, r.repetition) == (name, repetition)]
        return found

    monkeypatch.setattr(race, "enter", enter)
    monkeypatch.setattr(race, "mnist", lambda *_, **__: None)
    return calls


def test_each_repetition_begins_with_the_next_contestant(entered, tmp_path, capsys):
    race.main(["--repetitions", "2", "--json", str(tmp_path / "race.json")])
    names = [*CONTESTANTS]
    assert entered == [(1, n) for n in names] + [(2, n) for n in names[1:] + names[:1]]


def test_the_file_holds_what_the_table_shows(entered, tmp_path, capsys):
    race.main(["--json", str(tmp_path / "race.json")])
    content = json.loads((tmp_path / "race.json").read_text())
    assert sorted(Standings.read(content).results, key=str) == sorted(results(), key=str)
    assert {"processor", "cores", "threads", "torch", "commit", "load"} <= content[
        "environment"
    ].keys()
    output = capsys.readouterr().out
    for words in (
        "textbook script",
        "epoch 6",
        "test loss",
        "time / floor",
        "1.20 (1.20–1.20)",
    ):
        assert words in output


def test_a_rival_that_is_not_installed_is_left_out(entered, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(race, "NEEDS", {"scan": "no_such_package"})
    race.main(["--repetitions", "1", "--json", str(tmp_path / "race.json")])
    assert [name for _, name in entered] == [name for name in CONTESTANTS if name != "scan"]
    output = capsys.readouterr()
    assert "scan is left out: pip install -e '.[rivals]'" in output.err
    assert "not measured" in output.out


@pytest.mark.parametrize(("python", "missing"), [("/bin/true", False), ("/bin/false", True)])
def test_a_rival_that_does_not_see_the_gpu_is_left_out(monkeypatch, python, missing):
    monkeypatch.setattr(race.sys, "executable", python)
    assert race.is_missing("scan", "cuda") is missing
    assert not race.is_missing("fair", "cuda")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--repetitions", "0"], "--repetitions must be 1 to 1000; got 0."),
        (["--threads", "9999"], "--threads must be 1 to"),
        (["--device", "cuda"], "--device cuda needs a GPU"),
        (["--data", "nowhere"], "MNIST is not in nowhere"),
    ],
)
def test_misuse_gives_one_line(words, message, capsys, monkeypatch):
    monkeypatch.setattr(race.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        race.main(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_contestant_that_fails_ends_the_race(monkeypatch, mnist_root, tmp_path, capsys):
    monkeypatch.setattr(race.sys, "executable", "/bin/false")
    with pytest.raises(SystemExit) as stop:
        race.main(["--data", str(mnist_root), "--only", "floor", "--json", str(tmp_path / "x")])
    assert stop.value.code == 1
    assert "floor ended with status 1: no message" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize("contestant", CONTESTANTS)
def test_a_contestant_reaches_the_loss(contestant, mnist_root, tmp_path, capsys):
    words = ["--repetitions", "1", "--epochs", "1", "--threads", "1", "--only", contestant]
    race.main(["--data", str(mnist_root), *words, "--json", str(tmp_path / "race.json")])
    standings = Standings.read(json.loads((tmp_path / "race.json").read_text()))
    assert standings.names == [contestant]
    assert not standings.is_void(contestant)
