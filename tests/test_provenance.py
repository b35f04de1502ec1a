"""Every result says what made it; results from before a field was recorded are read too."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vae_ref
from vae_ref.support import provenance

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
MACHINES = sorted([*RESULTS.glob("race_*.json"), *RESULTS.glob("scaling_*.json")])


def test_a_record_names_hardware_versions_threads_commit_and_date():
    found = provenance.record(threads=3)
    assert 1 <= found["cores"] <= os.cpu_count()
    assert found["vectors"] == torch.backends.cpu.get_cpu_capability()
    assert (found["device"], found["threads"]) == ("cpu", 3)
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()
    assert found["vae_ref"] == vae_ref.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])
    assert found.keys() <= {*provenance.FIELDS, "load"}
    assert json.loads(json.dumps(found)) == found


def test_the_processor_is_what_linux_says(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\n"
        "processor\t: 1\ncpu family\t: 27\nmodel name\t: another\n"
    )
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "cpuinfo")
    found = provenance.record(threads=1)
    assert (found["processor"], found["family"]) == ("AMD EPYC", 26)


def test_the_version_of_cuda_is_that_of_torch(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert provenance.record(threads=1)["cuda"] == "13.0"


def test_what_is_unknown_is_absent(monkeypatch, tmp_path):
    def missing(package):
        raise provenance.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "nowhere")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setattr(provenance.metadata, "version", missing)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.delitem(vae_ref.__dict__, "__version__", raising=False)
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = provenance.record(threads=1)
    absent = {"vae_ref", "jax", "processor", "family", "gpu", "commit", "load"}
    assert not found.keys() & absent
    assert None not in found.values()


def test_a_program_without_torch_does_not_import_it():
    code = "from vae_ref.support import provenance; import sys; provenance.record(threads=1)"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "False\n"


@pytest.fixture
def checkout(monkeypatch, tmp_path):
    """A repository in the place of ours, and a function that runs git in it."""

    def git(*words):
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        command = ["git", *identity, "-c", "commit.gpgsign=false", *words]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "race.json").write_text("1")
    (tmp_path / "code.py").write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return git


def test_the_commit_is_that_of_the_checkout(checkout, tmp_path):
    (tmp_path / "benchmarks" / "results" / "race.json").write_text("2")
    assert provenance.record(threads=1)["commit"] == checkout("rev-parse", "--short=12", "HEAD")


def test_code_that_is_not_committed_is_marked(checkout, tmp_path):
    (tmp_path / "code.py").write_text("2")
    head = checkout("rev-parse", "--short=12", "HEAD")
    assert provenance.record(threads=1)["commit"] == f"{head}+changes"


@pytest.mark.usefixtures("checkout")
def test_an_installed_package_does_not_take_the_commit_of_the_project_around_it(
    monkeypatch, tmp_path
):
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "site-packages")
    assert "commit" not in provenance.record(threads=1)


def test_records_are_merged_field_by_field():
    old = {"seed": 0, "torch": "2.14", "threads": 2, "load": [1.0]}
    new = old | {"torch": "2.15", "commit": "abc"}
    merged = {"torch": "2.14, 2.15", "threads": "2", "commit": "abc"}
    assert provenance.merge([new, old, new]) == merged


def test_a_machine_has_a_name_for_files():
    name = provenance.machine_name(provenance.record(threads=1))
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    gpu = {"device": "cuda", "gpu": "A B-1", "processor": "", "cores": 1}
    assert provenance.machine_name(gpu) == "a-b-1"


def test_processors_of_one_name_are_told_apart():
    found = {"device": "cpu", "processor": "AMD EPYC", "cores": 2, "vectors": "AVX2"}
    assert provenance.machine_name(found | {"family": 25}) == "amd-epyc-25-avx2-2-cores"
    assert provenance.machine_name(found) == "amd-epyc-avx2-2-cores"


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_result_files_are_named_by_their_machine(path):
    content = json.loads(path.read_text())
    name = provenance.machine_name(content["environment"]) + "_busy" * content.get("busy", False)
    assert path.stem.partition("_")[2] == name
