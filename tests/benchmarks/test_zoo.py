"""Every bug of the zoo is that of the bank with its name, and the page shows what is stored."""

import importlib.util
import itertools
import json
import re
import statistics
from pathlib import Path

import pytest
import torch

from benchmarks.zoo import __main__ as command
from benchmarks.zoo.bugs import PROGRAM, RIGHT, ZOO
from vae_ref.conformance import load, verify
from vae_ref.conformance.diagnosis.explain import kill_matrix
from vae_ref.conformance.mutants.specimen import TEXTBOOK, specimen

ROOT = Path(__file__).parents[2]
STORED = [json.loads(line) for line in command.RESULTS.read_text().splitlines()]
BUGS = [pytest.param(bug, id=bug.id) for bug in ZOO.values()]
PAIRS = [
    pytest.param(PROGRAM, specimen, id=RIGHT),
    *(pytest.param(bug.program, bug.mutant.subject, id=bug.id) for bug in ZOO.values()),
]
LEVELS = [  # a file has no training loop that the kit knows of
    pytest.param(bug, id=bug.id, marks=[pytest.mark.slow] * (index % 20 > 0))
    for index, bug in enumerate(b for b in ZOO.values() if b.mutant.slot != "train")
]


def epoch(module, train):
    """Return what an epoch reports, and the weights after it."""
    drawn = torch.rand(280, 784, generator=torch.Generator().manual_seed(2))
    x = drawn.sub(0.8).clamp_min(0).mul(5)
    torch.manual_seed(1)
    ((own, test),) = train(x[:200], x[200:], 1)
    return own, test, torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")  # by the bank
@pytest.mark.usefixtures("single_precision", "user")
@pytest.mark.parametrize(("text", "make"), PAIRS)
def test_a_program_trains_as_the_bug_of_the_bank_does(text, make):
    subject = make(sizes=TEXTBOOK)
    own, test, weights = epoch(subject.module, subject.train)
    torch.manual_seed(0)
    program = command.loaded(text)
    model = program.VAE()
    ours = epoch(model, lambda *rest: program.train(model, *rest))
    assert ours[0] == pytest.approx(own, rel=1e-5)
    # The bank's program tests all images, and then the first batch with other noise.
    allowed = 0.01 if "first-batch" in subject.name else 1e-5
    assert ours[1] == pytest.approx(test, rel=allowed)
    assert torch.allclose(ours[2], weights, atol=1e-4, rtol=0)


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_one_line_of_the_program(page, bug):
    changes = list(page._changes(bug))
    assert [line[0] for line in changes] in (["-", "+"], ["-"], ["+"])
    shown = {line[0]: line[2:] for line in changes}
    lines = ([line.strip() for line in text.splitlines()] for text in (PROGRAM, bug.program))
    for sign, own, other in zip("+-", lines, (bug.program, PROGRAM), strict=True):
        if sign in shown:
            assert own.count(shown[sign]) == 1
            assert shown[sign] not in [line.strip() for line in other.splitlines()]


def test_the_zoo_has_thirty_bugs_of_the_bank_and_each_looks_like_something():
    assert len(ZOO) >= 30
    assert all(bug.mutant.id == bug.id and bug.looks.endswith(".") for bug in ZOO.values())


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("bug", LEVELS)
def test_the_kit_finds_a_bug_in_the_program(bug, tmp_path):
    (tmp_path / "my_model.py").write_text(bug.program)
    assert verify(load(str(tmp_path / "my_model.py"))).verdict == "violated"


def test_every_program_is_stored_with_every_seed():
    due = {(name, seed) for name in (RIGHT, *ZOO) for seed in range(command.SEEDS)}
    assert len(STORED) == len(due)
    assert {(row["bug"], row["seed"]) for row in STORED} == due
    assert not any("+changes" in row["commit"] for row in STORED)
    for row in STORED:
        assert not row["error"]
        assert len(row["test"]) == len(row["kl"]) == command.EPOCHS
        assert row["images"] == [command.TRAINED, command.TESTED]


def test_the_right_program_reports_the_right_loss():
    for row in STORED:
        if row["bug"] == RIGHT:
            truth = [sum(pair) for pair in zip(row["reconstruction"], row["kl"], strict=True)]
            assert row["test"] == pytest.approx(truth, rel=0.01)


def test_the_pictures_are_small():
    files = list(command.IMAGES.iterdir())
    names = {f"{name}_{what}.png" for name in (RIGHT, *ZOO) for what in ("digits", "samples")}
    assert {file.name for file in files} == names
    assert sum(file.stat().st_size for file in files) < 3e6


@pytest.fixture
def page(monkeypatch):
    """The module of the page."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    spec = importlib.util.spec_from_file_location("zoo_page", ROOT / "docs" / "zoo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("language", ["ENGLISH", "CHINESE"])
def test_a_page_shows_every_bug_with_a_claim_that_notices_it(page, language):
    words, shown = getattr(page, language), page.substitutions()
    anchor, key = words.anchor, words.anchor.replace("-", "_")
    parts = rf"\({anchor}-([\w-]+)\)=\n(.*?)(?=\n\({anchor}-|\Z)"
    sections = dict(re.findall(parts, shown[key], re.DOTALL))
    assert sections.keys() == ZOO.keys() == words.bugs.keys()
    for name, section in sections.items():
        assert f"[{words.bugs[name][0]}](#{anchor}-{name})" in shown[f"{key}_table"]
        assert (page.text(ZOO[name].mutant.explanation[1:]) in section) == (language == "ENGLISH")
        claims = re.findall(r"\[`([\w-]+/[\w-]+)`\]", section)
        assert len(claims) == 1
        assert claims[0] in kill_matrix()[name]


def test_both_pages_have_all_parts(page):
    names = page.substitutions().keys()
    english, chinese = (
        set(re.findall(r"{{ (\w+) }}", (ROOT / "docs" / file).read_text()))
        for file in ("zoo.md", "zh/zoo.md")
    )
    assert english | chinese == names
    assert {name.replace("zoo_zh", "zoo") for name in chinese} == english


def final(name, key):
    """Return the mean over the seeds of what the trainings of a program end with."""
    return statistics.mean(row[key][-1] for row in STORED if row["bug"] == name)


def test_reported_losses_in_other_units_are_said_to_be(page):
    pixels, first = 784, 128
    terms = {name: (final(name, "reconstruction"), final(name, "kl")) for name in ZOO}
    scaled = {
        "nll-mean-over-everything": lambda nll, kl: (nll / pixels + kl) / command.TESTED,
        "nll-mean-over-pixels": lambda nll, kl: nll / pixels + kl,
        "train-first-batch-tested": lambda nll, kl: (nll + kl) * first / command.TESTED,
    }
    assert page.ENGLISH.units.keys() == page.CHINESE.units.keys() == scaled.keys()
    for name, of in scaled.items():
        assert final(name, "test") == pytest.approx(of(*terms[name]), rel=0.02, abs=5e-5)
    shown = page.substitutions()
    assert shown["zoo_units"] == str(len(scaled))
    for words, table in ((page.ENGLISH, "zoo_table"), (page.CHINESE, "zoo_zh_table")):
        assert all(f"<br>{unit} |" in shown[table] for unit in words.units.values())


def test_every_bug_has_a_symptom(page):
    symptoms = page.SYMPTOMS
    pictured = [name for key, names in symptoms.items() if key != "tiny" for name in names]
    assert sorted(pictured) == sorted(ZOO)
    least = final(RIGHT, "test") / 10
    assert set(symptoms["tiny"]) == {name for name in ZOO if final(name, "test") < least}
    shown = page.substitutions()
    for words, key in ((page.ENGLISH, "zoo_symptoms"), (page.CHINESE, "zoo_zh_symptoms")):
        assert words.symptoms.keys() == symptoms.keys()
        assert shown[key].count(f"](#{words.anchor}-") == sum(map(len, symptoms.values()))


@pytest.mark.parametrize(("language", "file"), [("ENGLISH", "zoo.md"), ("CHINESE", "zh/zoo.md")])
def test_a_page_names_its_curves_and_its_pictures_their_bugs(page, language, file):
    words, shown = getattr(page, language), page.substitutions()
    said = " ".join((ROOT / "docs" / file).read_text().split())
    assert all(f"*{name}*" in said for name in words.curves)
    key = words.anchor.replace("-", "_")
    for name, (title, _) in words.bugs.items():
        pictures = re.findall(
            rf"!\[(.*?)\]\([./]*images/zoo/{name}_", shown[f"{key}_table"] + shown[key]
        )
        assert len(pictures) == 3
        assert all(alt.startswith(f"{title}{words.colon}") for alt in pictures)


def test_the_numbers_of_the_page_are_those_of_the_file(page, monkeypatch, tmp_path):
    rows = [{**row, "test": [4.0, row["seed"]]} for row in STORED]
    (tmp_path / "zoo.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr(page, "RESULTS", tmp_path / "zoo.jsonl")
    shown, seeds = page.substitutions(), list(range(command.SEEDS))
    assert len(re.findall(rf"\| {page._value(seeds)}(<br>| \|)", shown["zoo_table"])) == 1 + len(
        ZOO
    )
    label = f"{page.ENGLISH.curves[2]} {page._number(sum(seeds) / len(seeds))}<"
    assert shown["zoo"].count(label) == len(ZOO)
    assert shown["zoo_better"] == shown["zoo_units"] == "0"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([128.86, 129.06], "129.0 ± 0.1"),
        ([0.0001, 0.0001], "0.0001 ± 0.0000"),
        ([0.25, 0.26], "0.255 ± 0.007"),
        ([-3e22, -5e22], "(−4.0 ± 1.4) × 10²²"),
        ([12345.0, 12345.0], "12,345.0 ± 0.0"),
    ],
)
def test_a_mean_and_its_deviation(page, values, text):
    assert page._value(values).replace("\N{NO-BREAK SPACE}", " ") == text


def test_labels_do_not_overlap_and_stay_in_the_picture(page):
    for ends in ([1e6, 1e5, 100.0], [-1e6, -5.0, 100.0], [100.0, 100.0, 100.0]):
        curves = {str(i): ("name", [end]) for i, end in enumerate(ends)}
        places = sorted(
            float(y) for y in re.findall(r' y="([\d.]+)"', " ".join(page._labels(curves)))
        )
        assert places[0] > 10
        assert places[-1] <= page.HEIGHT
        assert all(b - a >= page.LINE for a, b in itertools.pairwise(places))


@pytest.mark.usefixtures("single_precision", "user")
def test_the_command_resumes(small, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "RESULTS", tmp_path / "zoo.jsonl")
    monkeypatch.setattr(command, "IMAGES", tmp_path / "images")
    for name, value in {"EPOCHS": 1, "TRAINED": 200, "TESTED": 50, "ZOO": {}}.items():
        monkeypatch.setattr(command, name, value)
    for seeds in (1, 2):
        monkeypatch.setattr(command, "SEEDS", seeds)
        command.measure(*small)
    first, second = (json.loads(line) for line in command.RESULTS.read_text().splitlines())
    assert (first["bug"], first["seed"], second["seed"]) == (RIGHT, 0, 1)
    assert first["test"] != second["test"]
    assert len(list(command.IMAGES.iterdir())) == 2
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.usefixtures("single_precision", "user")
def test_a_training_that_stops_is_a_result():
    text = PROGRAM.replace("return nll + kl", "return nll + kl / 0 * (kl - kl)")
    found, _ = command.result(text, 0, torch.rand(256, 784), torch.rand(20, 784))
    assert "between 0 and 1" in found["error"]
    assert found["test"] == []
