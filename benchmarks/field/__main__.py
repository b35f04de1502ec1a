"""Hold the packages of the table against the claims, each in an environment of its own.

    python -m benchmarks.field [NAME ...] [--environments DIR] [--confirm]

It makes an environment for each package, with uv if that is installed and with venv and pip if
not, installs this checkout and the package, judges its subjects, and runs the scripts that confirm
what was found. It writes benchmarks/results/field/NAME.json; docs/field-report.md shows these
files. With --confirm, it runs the scripts alone.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.field.table import RESULTS, SUBJECTS, Finding, Package, Subject, packages, result
from vae_ref.conformance.records import BAD
from vae_ref.support import provenance
from vae_ref.support.atomic import replacing

ROOT = Path(__file__).parents[2]
SECONDS = 1200  # of one subject
VERSIONS = """
import importlib.metadata as m, json, sys
print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))
"""
INSTALLED = "import sysconfig; print(sysconfig.get_path('purelib'))"


def main() -> int:
    known = {package.name: package for package in packages()}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="packages; all by default")
    parser.add_argument("--environments", type=Path, metavar="DIR", help="keep them there")
    parser.add_argument("--confirm", action="store_true", help="judge nothing anew")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(known):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.environments or Path(temporary)).resolve()
        failed = []
        for name in arguments.names or known:
            try:
                make = reconfirmed if arguments.confirm else judged
                _store(known[name], make(known[name], folder / name))
            except (subprocess.SubprocessError, ValueError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed.append(name)
    return 1 if failed else 0


def judged(package: Package, environment: Path) -> dict[str, Any]:
    """Install a package, and return what the kit says of it."""
    python = installed(package, environment)
    made = provenance.record(threads=provenance.cores())
    subjects = [of_subject(subject, environment) for subject in package.subjects]
    names = [re.split(r"\W", name.replace("-", "_"))[0] for name in package.requires]
    return {
        "package": package.name,
        "versions": _versions(python, dict.fromkeys([package.name, *names, "torch", "vae_ref"])),
        "python": made["python"],
        "commit": made.get("commit"),
        "date": made["date"],
        "subjects": subjects,
        "findings": [confirmed(finding, python) for finding in package.findings],
    }


def reconfirmed(package: Package, environment: Path) -> dict[str, Any]:
    """Run the scripts of the findings once more, and keep all else that is stored."""
    if (found := result(package)) is None:
        raise ValueError("it was not judged yet")
    python = environment / "bin" / "python"
    if not python.exists():
        python = installed(package, environment)
    return found | {"findings": [confirmed(one, python) for one in package.findings]}


def installed(package: Package, environment: Path) -> Path:
    """Make an environment with this checkout and the package, and return its interpreter."""
    python = environment / "bin" / "python"
    uv = shutil.which("uv")
    if not python.exists():
        _run(*([uv, "venv", "--quiet"] if uv else [sys.executable, "-m", "venv"]), environment)
    pip = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    _run(*pip, "--quiet", ROOT, package.name, *package.requires)
    anew = ["--reinstall-package", "vae_ref"] if uv else ["--force-reinstall"]
    _run(*pip, "--quiet", "--no-deps", *anew, ROOT)  # its version does not change with its files
    return python


def of_subject(subject: Subject, environment: Path) -> dict[str, Any]:
    """Judge a subject, and return what is stored of the report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [environment / "bin" / "vae-ref", "run" if subject.run else "verify"]
        options = ["--json", report, *(["--batch", subject.batch] if subject.batch else [])]
        options += [word for text in subject.declare for word in ("--declare", text)]
        shown = _run(*command, *options, subject.target, cwd=SUBJECTS, may_fail=True)
        print(f"{subject.target}: {summary(shown.stdout) or shown.stderr.strip()}", flush=True)
        found = {"name": subject.name, "target": subject.target}
        if not report.exists():
            raise ValueError(f"{subject.target} could not be judged: {shown.stderr.strip()}")
        text = _without_places(report.read_text(), environment)
        return (
            found
            | {"summary": _without_places(summary(shown.stdout), environment)}
            | kept(json.loads(text))
        )


def _without_places(text: str, environment: Path) -> str:
    """Name files as they are called in any environment."""
    library = environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for folder in (library / "site-packages", SUBJECTS):
        text = text.replace(f"{folder}/", "")
    return text


def summary(shown: str) -> str:
    """Return the verdict that a run ends with, without its seed and its time."""
    last = " ".join(shown.strip().split("\n\n")[-1].split())
    return last.rpartition(" (")[0]


def kept(report: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a report that is stored."""
    return {
        "verdict": report["verdict"],
        "declared": report["declared"],
        "claims": {claim["id"]: claim["status"] for claim in report["claims"]},
        "why": {
            claim["id"]: claim["message"]
            for claim in report["claims"]
            if claim["status"] in ("not-applicable", "inconclusive")
        },
        "violated": [
            {key: claim[key] for key in STORED}
            for claim in report["claims"]
            if claim["status"] in BAD
        ],
    }


STORED = ("id", "status", "message", "explained_by", "counterexample", "diagnosis")


def confirmed(finding: Finding, python: Path) -> dict[str, Any]:
    """Find the line of a finding, and run the script that confirms it without the kit."""
    library = Path(_run(python, "-c", INSTALLED).stdout.strip())
    lines = (library / finding.file).read_text().splitlines()
    numbers = [number for number, line in enumerate(lines, 1) if finding.code in line]
    if len(numbers) != 1:
        raise ValueError(f"{finding.code!r} is in {len(numbers)} lines of {finding.file}")
    printed = _run(python, "-c", finding.script).stdout.strip()
    return {"title": finding.title, "place": f"{finding.file}:{numbers[0]}", "printed": printed}


def _versions(python: Path, names: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = json.loads(_run(python, "-c", VERSIONS, *names).stdout)
    return found


def _run(*words: Any, cwd: Path | None = None, may_fail: bool = False) -> Any:
    """Run a command, without this checkout among what it may import."""
    surroundings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd or tempfile.gettempdir(),
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    if done.returncode and not may_fail:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ValueError(f"{' '.join(map(str, words))[:200]} ended with {done.returncode}: {last}")
    return done


def _store(package: Package, content: dict[str, Any]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    with replacing(RESULTS / f"{package.name}.json") as file:
        file.write((json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
