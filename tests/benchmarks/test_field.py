"""The field report says what the stored results say, and each finding was confirmed by hand."""

import ast
import importlib.util
import json
import sys
from pathlib import Path

import pytest

import vae_ref.conformance
from benchmarks.field import __main__ as command
from benchmarks.field.table import RESULTS, SUBJECTS, packages, result
from vae_ref.conformance import load, verify
from vae_ref.conformance.records import BAD

DOCS = Path(__file__).parents[2] / "docs"
PACKAGES = packages()
JUDGED = [package for package in PACKAGES if result(package)]
SUBJECTS_OF = [(package, subject) for package in PACKAGES for subject in package.subjects]
TENSORS = {"torch", "numpy", "pandas", "jax"}


def named(packages):
    return [pytest.param(package, id=package.name) for package in packages]


def syntax(target):
    return ast.parse((SUBJECTS / target.partition(":")[0]).read_text())


@pytest.mark.parametrize("package", named(PACKAGES))
def test_a_subject_imports_its_package_and_the_public_kit_alone(package):
    allowed = TENSORS | set(package.modules or [package.name.replace("-", "_")])
    for subject in package.subjects:
        for node in ast.walk(syntax(subject.target)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                root = name.partition(".")[0]
                if root == "vae_ref":
                    assert isinstance(node, ast.ImportFrom)
                    assert name == "vae_ref.conformance"
                    assert {a.name for a in node.names} <= set(vae_ref.conformance.__all__)
                else:
                    assert root in allowed | sys.stdlib_module_names, subject.target


def test_every_subject_is_there_and_every_file_is_used():
    for _, subject in SUBJECTS_OF:
        body = syntax(subject.target).body
        names = {
            target.id
            for node in body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        } | {node.name for node in body if isinstance(node, ast.FunctionDef)}
        assert subject.run or {subject.target.partition(":")[2], subject.batch} - {None} <= names
    files = {subject.target.partition(":")[0] for _, subject in SUBJECTS_OF}
    assert files == {file.name for file in SUBJECTS.glob("*.py")}


def test_at_least_twelve_packages_are_judged():
    assert len(JUDGED) >= 12
    assert {file.stem for file in RESULTS.glob("*.json")} == {p.name for p in JUDGED}


@pytest.mark.parametrize("package", named(JUDGED))
def test_a_result_is_that_of_the_table(package):
    found = result(package)
    assert {package.name, "torch", "vae_ref"} <= set(found["versions"])
    stored = [(subject["name"], subject["target"]) for subject in found["subjects"]]
    assert stored == [(subject.name, subject.target) for subject in package.subjects]
    for subject in found["subjects"]:
        bad = {claim for claim, status in subject["claims"].items() if status in BAD}
        assert bad == {violation["id"] for violation in subject["violated"]}
        assert (subject["verdict"] == "violated") is bool(bad)


@pytest.mark.parametrize("package", named(JUDGED))
def test_every_violation_was_confirmed_and_nothing_else(package):
    found = result(package)
    claimed = {(t, claim) for f in package.findings for t in f.targets for claim in f.claims}
    roots = {
        (subject["target"], violation["id"])
        for subject in found["subjects"]
        for violation in subject["violated"]
        if violation["explained_by"] is None
    }
    assert roots <= claimed
    for finding in package.findings:
        for claim in finding.claims:
            assert any((target, claim) in roots for target in finding.targets)
    assert [c["title"] for c in found["findings"]] == [f.title for f in package.findings]
    for finding, confirmed in zip(package.findings, found["findings"], strict=True):
        assert confirmed["place"].partition(":")[0] == finding.file
        assert confirmed["printed"]
        assert "vae_ref" not in finding.script


@pytest.mark.parametrize("package", named(JUDGED))
def test_no_result_names_a_place_of_the_machine_that_made_it(package):
    text = (RESULTS / f"{package.name}.json").read_text()
    assert not any(place in text for place in ("/tmp", "/root", "/home", "site-packages"))


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    spec = importlib.util.spec_from_file_location("field_page", DOCS / "field_report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_every_subject_and_every_finding(page):
    shown = page.substitutions()
    source = (DOCS / "field-report.md").read_text()
    assert all(f"{{{{ {name} }}}}" in source for name in shown)
    for package in JUDGED:
        found = result(package)
        assert f"### {package.name}\n" in shown["field_packages"]
        assert f"| {found['versions'][package.name]} |" in shown["field_overview"]
        for subject in package.subjects:
            assert f"(`{subject.target}`)" in shown["field_packages"]
        for finding, confirmed in zip(package.findings, found["findings"], strict=True):
            assert finding.reason in shown["field_findings"]
            assert f"`{confirmed['place']}`" in shown["field_findings"]
            assert confirmed["printed"] in shown["field_findings"]


@pytest.mark.parametrize(
    ("verdict", "declared", "word"),
    [
        ("partial", {}, "holds"),
        ("conformant", {"spread": "sigma"}, "holds"),
        ("partial", {"beta": 4.0}, "holds as declared"),
        ("violated", {"beta": 4.0}, "violated"),
        ("undecided", {}, "beyond"),
    ],
)
def test_a_verdict_in_words(page, verdict, declared, word):
    assert page._word({"verdict": verdict, "declared": declared}) == word


def test_a_finding_is_confirmed_in_the_package_that_is_installed(tmp_path, monkeypatch):
    """Its line is found, and its script is run, without the kit."""
    finding = next(f for package in PACKAGES for f in package.findings)
    monkeypatch.setattr(command, "INSTALLED", f"print({str(tmp_path)!r})")
    (tmp_path / "code.py").write_text("first\nsecond # here\n")
    fields = {**vars(finding), "file": "code.py", "code": "# here", "script": "print(1 + 1)"}
    found = command.confirmed(type(finding)(**fields), Path(sys.executable))
    assert found == {"title": finding.title, "place": "code.py:2", "printed": "2"}
    for wrong, rule in ({"code": "s"}, "in 2 lines"), ({"script": "1 / 0"}, "ZeroDivisionError"):
        with pytest.raises(ValueError, match=rule):
            command.confirmed(type(finding)(**fields | wrong), Path(sys.executable))


def test_places_of_the_environment_are_left_out(tmp_path):
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    text = f"see {tmp_path}/lib/{version}/site-packages/p/q.py:3 and {SUBJECTS}/s.py:1"
    assert command._without_places(text, tmp_path) == "see p/q.py:3 and s.py:1"


def test_an_unknown_name_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["field", "no-such-package"])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2
    assert "there is no no-such-package; there are torch," in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("subject", next(p.subjects for p in PACKAGES if p.name == "torch"))
def test_the_kit_still_answers_as_in_the_results(subject):
    """For what the test environment has."""
    stored = json.loads((RESULTS / "torch.json").read_text())["subjects"]
    due = next(one["claims"] for one in stored if one["target"] == subject.target)
    report = verify(load(f"{SUBJECTS}/{subject.target}"))
    assert {r.claim.id: r.status for r in report.results} == due
