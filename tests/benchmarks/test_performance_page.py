"""The performance page shows all result files that there are."""

import dataclasses
import importlib.util
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import audit, scaling
from benchmarks.standings import CONTESTANTS
from tests.benchmarks.races import results
from vae_ref.support import provenance

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def page(monkeypatch, tmp_path):
    """The module of the page, with an empty directory of results."""
    spec = importlib.util.spec_from_file_location("performance_page", DOCS / "performance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(module, "PICTURES", tmp_path / "pictures")
    return module


def race(device="cpu", **changed):
    found = provenance.record(threads=2) | {"device": device, "gpu": "a GPU", "vectors": "AVX2"}
    rows = [dataclasses.asdict(result) for result in results(**changed)]
    return {"environment": found, "repetitions": 5, "results": rows}


def write(folder, name, content):
    (folder / f"{name}.json").write_text(json.dumps(content))


def test_without_results_the_page_names_the_commands(page):
    found = page.substitutions()
    for name, command in {
        "race": "python -m benchmarks.race",
        "scaling": "python -m benchmarks.scaling",
        "suite": "pytest benchmarks",
        "audit": "python -m benchmarks.audit",
        "gpu": "python -m benchmarks.race --device cuda",
        "planted": "python -m benchmarks.planted",
        "history": "vae-ref-gate record --last 40",
        "power": "python -m benchmarks.gate_power measure",
    }.items():
        assert f"Not measured; `{command}` would." in found[f"performance_{name}"]


def test_the_cost_of_an_audit_is_shown(page, tmp_path):
    row = {key: 1.0 for pair in audit.TARGETS for key in pair} | {"step parameters": 98_000_000}
    row["audit seconds"] = 1.25
    found = provenance.record(threads=2)
    write(tmp_path, "audit_here", {"environment": found, "repetitions": [row, row, row]})
    table = page.substitutions()["performance_audit"]
    assert "| audit seconds / names seconds, at most 1.5 | 1.25 (1.25–1.25) |" in table
    assert "Of 3 repetitions. The network has 98,000,000 parameters." in table
    assert table.count("at most") == len(audit.TARGETS)


def test_a_race_is_shown(page, tmp_path):
    write(tmp_path, "race_here", race())
    found = page.substitutions()
    table = found["performance_race"]
    assert "| epoch 6, s | 12.00 (12.00–12.00) | 1.80 (1.80–1.80) |" in table
    assert "| time / vae_ref | 10.00 | 1.50 | 1.33 | 1.00 | 0.92 |" in table
    assert table.count("✓ met") == 4
    assert "race_here.json" in table
    ET.parse(tmp_path / "pictures" / "race_here.svg")
    assert "Not measured" in found["performance_gpu"]


def test_the_latest_race_is_first(page, tmp_path):
    for name, date in ("a", "2026-01-01"), ("b", "2026-02-01"):
        content = race()
        content["environment"]["date"] = date
        write(tmp_path, f"race_{name}", content)
    table = page.substitutions()["performance_race"]
    assert table.index("race_b.json") < table.index("race_a.json")


def test_what_a_race_does_not_say_of_its_machine_is_left_out(page, tmp_path):
    content = race()
    known = {"device": "cpu", "cores": 2, "threads": 2, "torch": "2.14", "python": "3.11"}
    content["environment"] = known | {"vae_ref": "0.1.0", "date": "2026-01-01"}
    write(tmp_path, "race_here", content)
    assert (
        "*2 cores, 2 threads; torch 2.14, Python 3.11, vae_ref 0.1.0, commit unknown, "
        "2026-01-01; load before: unknown. From `benchmarks/results/race_here.json`.*"
    ) in page.substitutions()["performance_race"]


def test_a_race_on_a_gpu_is_in_its_own_section(page, tmp_path):
    write(tmp_path, "race_gpu", race("cuda"))
    found = page.substitutions()
    assert "Not measured" in found["performance_race"]
    assert "*a GPU, " in found["performance_gpu"]
    assert found["performance_gpu"].count("Not measured") == 3


def test_a_void_loss_is_marked(page, tmp_path):
    write(tmp_path, "race_here", race(losses={"scan": 90.0}))
    table = page.substitutions()["performance_race"]
    assert "90.00 (90.00–90.00), **void**" in table
    assert "✗ void" in table


def curves(device="cpu"):
    values = scaling.curves(device)
    values |= {"threads": (1, 2)} if "threads" in values else {}
    points = {
        name: [{"value": v, "seconds": v / 100, "steps": 1, "examples": 1} for v in some]
        for name, some in values.items()
    }
    found = provenance.record(threads=2) | {"device": device, "gpu": "a GPU", "cuda": "13.0"}
    return {
        "environment": found,
        "curves": points,
        "memory": [300.0, 310.0, 311.0, 311.0],
        "memory_examples": 100,
        "examples": 1000,
    }


def test_scaling_is_shown(page, tmp_path):
    write(tmp_path, "scaling_here", curves())
    found = page.substitutions()["performance_scaling"]
    assert "| hidden width | 50 | 800 | 0.500 | 8.000 | 1.00 |" in found
    assert "| threads | 1 | 2 | 0.010 | 0.020 | – |" in found
    assert "310 after the first epoch and 311 after epoch 3" in found
    ET.parse(tmp_path / "pictures" / "scaling_here.svg")


def test_the_history_names_the_commits_that_changed_a_time(page, tmp_path):
    on = provenance.record(threads=1)
    lines = [
        {
            "commit": f"{number:040}",
            "date": f"2026-11-{number + 10}",
            "subject": f"Change | {number}",
            "reference": "0" * 40,
            "on": on,
            "counts": {"step": {"operations": 7}},
            "times": {"step": [math.log(2.0 if number > 4 else 1.0) + 1e-3 * n for n in range(3)]},
            "absent": {},
        }
        for number in range(10)
    ]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = page.substitutions()["performance_history"]
    assert "10 commits" in shown
    assert "A time changed 1 times:" in shown
    assert "| step | 1.001 | 2.002 | +100.0% |" in shown
    assert "Change ∣ 5" in shown
    drawn = (tmp_path / "pictures" / "history.html").read_text()
    assert "step/time" in drawn
    assert "operations" in drawn


def test_what_a_visit_to_a_gpu_measured_is_shown(page, tmp_path):
    found = provenance.record(threads=2) | {"device": "cuda", "gpu": "a GPU", "cuda": "13.0"}
    content = {
        "environment": found,
        "equal": {
            "eager": {"loss_apart": 0.0, "weights_apart": 0.0},
            "graph": {"loss_apart": 1e-5, "weights_apart": 2e-4},
        },
        "ladder": {"failed": "out of memory\nand more"},
        "twenty": {"seconds": 1.5, "inside": False},
        "twenty_seeds": {"seconds": 3.0, "inside": 19, "seeds": 20},
        "together": [{"seeds": 64, "seconds": 0.25}],
    }
    write(tmp_path, "gpu_card", content)
    shown = page.substitutions()["performance_gpu"]
    for row in (
        "| `ladder` failed | out of memory |",
        "difference | loss 1.0e-05 nats, weights 2.0e-04 |",
        "| 20 epochs with evaluation | 1.5 s; loss **outside** its interval |",
        "| 20 seeds, 20 epochs, side by side | 3 s; 19 losses inside the interval |",
        "| an epoch of 64 seeds side by side | 250 ms |",
    ):
        assert row in shown
    write(tmp_path, "gpu_card", content | {"environment": found | {"device": "cpu"}})
    assert "python -m benchmarks.gpu" in page.substitutions()["performance_gpu"]


def test_scaling_on_a_gpu_is_in_its_own_section(page, tmp_path):
    write(tmp_path, "scaling_gpu", curves("cuda"))
    found = page.substitutions()
    assert "Not measured" in found["performance_scaling"]
    table = found["performance_gpu"]
    assert "| seeds together | 1 | 64 | 0.010 | 0.640 | 1.00 |" in table
    assert "| threads |" not in table
    assert "The process held 300 MiB of the GPU's memory before it trained" in table
    assert "*a GPU, " in table
    assert " with CUDA 13.0" in table
    ET.parse(tmp_path / "pictures" / "scaling_gpu.svg")


def test_the_suite_is_shown(page, tmp_path):
    found = provenance.record(threads=2)
    members = [
        {
            "group": "KL on cpu",
            "params": {"contestant": whose},
            "extra_info": found | loss,
            "stats": {"median": seconds, "min": seconds / 2, "rounds": 7},
        }
        for whose, seconds, loss in (("vae_ref", 2e-5, {}), ("naive", 3e-3, {"loss": 104.125}))
    ]
    write(tmp_path, "suite_here", {"machine_info": found, "benchmarks": members})
    lines = page.substitutions()["performance_suite"].splitlines()
    assert "| KL | vae_ref | 20 µs | 10 µs | 7 |  |" in lines
    assert "|  | naive | 3 ms | 1.5 ms | 7 | 104.12 |" in lines


def test_every_contestant_is_described(page):
    found = page.substitutions()["performance_contestants"]
    for name in CONTESTANTS:
        assert f"benchmarks/contestants/{name}.py" in found


def test_the_page_uses_every_substitution(page):
    text = (DOCS / "performance.md").read_text()
    assert {f"{{{{ {name} }}}}" for name in page.substitutions()} <= set(text.splitlines())
