"""Mutate the kit itself, one place at a time, and list what nothing notices.

    python -m tests.conformance.mutate_kit [-n PROCESSES] [module ...]

Every comparison in the source of the claims and of what they rest on is turned round, and every
tolerance (a number in a comparison, in a scale or in a constant) is multiplied by 100. A mutated
claim is noticed if it answers otherwise than test_bank and test_near_misses demand: on the
specimen, on a bug that the kill matrix says it kills, or on a near miss; or by tests that are run
in a mutated copy, as for all that the claims rest on. (An emptied claim kills nothing, which
test_bank forbids.)
"""

import ast
import copy
import importlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from tests.conformance.kill_matrix import FILE, arguments, processes
from tests.conformance.test_near_misses import NEAR
from vae_ref.conformance import guards
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.diagnosis.explain import FAILED
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.mutants.specimen import specimen
from vae_ref.conformance.runner import check, probe_of

PACKAGE = "vae_ref.conformance"
SUPPORT = (
    "answers.comparison",
    "answers.statistics",
    "answers.intervals",
    "probe.terms",
    "probe.draws",
    "claims",
    "claims.registry",
    "guards",
    "runner",
)
TESTS = (
    "comparison",
    "statistics",
    "intervals",
    "oracles",
    "guards",
    "near_misses",
    "facts",
    "runner",
)
TESTS_OF_CLAIMS = ("facts", "batch_sizes", "audit")
CLAIMS = ("kl", "reparameterization", "likelihood", "objective", "importance", "model", "conduct")
HANGS = 600.0  #: seconds after which a mutated kit is taken to hang, which is noticed
TURNED = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.Gt, ast.GtE: ast.Lt, ast.Eq: ast.NotEq}
MATRIX = json.loads(FILE.read_text())["mutants"]


def places(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    """Yield a description and a mutated copy for every place that can be mutated."""
    nodes = list(ast.walk(tree))
    for index, node in enumerate(nodes):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in TURNED:
            mutated = copy.deepcopy(tree)
            other = list(ast.walk(mutated))[index]
            other.ops[0] = TURNED[type(other.ops[0])]()
            yield f"line {node.lineno}: {ast.unparse(node)} -> {ast.unparse(other)}", mutated
        for number in numbers(node):
            mutated = copy.deepcopy(tree)
            other = list(ast.walk(mutated))[nodes.index(number)]
            other.value *= 100
            yield f"line {number.lineno}: {ast.unparse(node)}: {number.value} x 100", mutated


def numbers(node: ast.AST) -> list[ast.Constant]:
    """Return the small numbers that a comparison, an allowance or a constant is made with."""
    scale = isinstance(node, ast.keyword) and node.arg == "scale"
    constant = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper()
    if isinstance(node, ast.Compare) or scale or constant:
        inner = [n for n in ast.walk(node) if isinstance(n, ast.Constant)]
        return [n for n in inner if isinstance(n.value, float) and 0 < abs(n.value) < 0.5]
    return []


def answers(original: ModuleType, mutated: ModuleType) -> Iterator[tuple[str, bool]]:
    """Yield, for what a mutation of a module may change, what is asked and if it is as it was."""
    for claim in all_claims():
        if claim.level != "standard" or claim.check.__module__ != original.__name__:
            continue
        claim = replace(claim, check=getattr(mutated, claim.check.__name__))
        yield f"{claim.id} on the specimen", check(claim, probe_of(specimen())).status == "pass"
        near = claim.id in NEAR and check(claim, probe_of(specimen(**NEAR[claim.id])))
        yield f"{claim.id} on a near miss", not near or near.status == "fail"
        for bug in (b for b, kills in MATRIX.items() if claim.id in kills):
            status = check(claim, probe_of(BANK[bug].subject())).status
            yield f"{claim.id} on {bug}", status in FAILED


def unregistered(source: ast.Module) -> ast.Module:
    """Drop the decorators: a mutated claim is not to be registered again."""
    source = copy.deepcopy(source)
    for node in source.body:
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []
    return source


def noticed_by_tests(file: Path, mutated: ast.Module, tests: tuple[str, ...]) -> bool:
    """Run tests in a copy of the repository in which one file is mutated."""
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as directory:
        copied = Path(directory) / "copy"
        shutil.copytree(root, copied, ignore=shutil.ignore_patterns(".*", "runs", "_build"))
        (copied / file.relative_to(root)).write_text(ast.unparse(mutated))
        paths = [f"tests/conformance/test_{test}.py" for test in tests]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-m", "", *paths]
        try:
            done = subprocess.run(
                command, cwd=copied, capture_output=True, check=False, timeout=HANGS
            )
        except subprocess.TimeoutExpired:
            return True
        return bool(done.returncode)


def noticed_by_claims(original: ModuleType, mutated: ast.Module) -> bool:
    module = ModuleType(f"mutated {original.__name__}")
    module.__file__ = original.__file__
    code = compile(ast.fix_missing_locations(unregistered(mutated)), original.__file__, "exec")
    exec(code, vars(module))
    return not all(as_it_was for _, as_it_was in answers(original, module))


def mutations(name: str) -> Iterator[tuple[str, ast.Module]]:
    return places(ast.parse(Path(module_of(name).__file__).read_text()))


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{name if name in SUPPORT else f'claims.{name}'}")


def survives(name: str, number: int) -> str:
    """Return what a mutation of a module is, if nothing notices it."""
    description, mutated = next(itertools.islice(mutations(name), number, None))
    module, support = module_of(name), name in SUPPORT
    noticed = (not support and noticed_by_claims(module, mutated)) or noticed_by_tests(
        Path(module.__file__), mutated, TESTS if support else TESTS_OF_CLAIMS
    )
    print("." if noticed else "S", end="", flush=True)
    return "" if noticed else f"{name}.py {description}"


def main() -> None:
    parser = arguments()
    parser.add_argument("modules", nargs="*", metavar="module", default=[*CLAIMS, *SUPPORT])
    chosen = parser.parse_args()
    jobs = [(name, number) for name in chosen.modules for number, _ in enumerate(mutations(name))]
    unmutated = Path(guards.__file__)
    tests = (*TESTS, *TESTS_OF_CLAIMS)
    assert not noticed_by_tests(unmutated, ast.parse(unmutated.read_text()), tests)
    with processes(chosen.n) as pool:
        left = list(filter(None, pool.map(survives, *zip(*jobs, strict=True))))
    print(f"\n{len(left)} of {len(jobs)} survive")
    print("\n".join(left))


if __name__ == "__main__":
    main()
