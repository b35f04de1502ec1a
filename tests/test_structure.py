"""The layout of the package, kept by its imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vae_ref

PACKAGE = Path(vae_ref.__file__).parent

# What each module may import from the package: the layers of DESIGN, from the mathematics up.
LAYERS = {
    "shapes": set(),
    "excerpt": set(),
    "checks": {"excerpt"},
    "atomic": set(),
    "elementwise": set(),
    "gaussian": {"checks", "elementwise", "shapes"},
    "likelihood": {"checks", "elementwise", "shapes"},
    "objective": {"checks", "gaussian", "likelihood", "shapes"},
    "model": {"checks", "gaussian", "likelihood", "objective", "shapes"},
    "exact": {"gaussian", "likelihood", "model", "objective", "shapes"},
    "pca": {"checks", "exact", "shapes"},
    "quadrature": {"checks", "exact", "gaussian", "model", "shapes"},
    "plan": {"shapes"},
    "data": {"checks", "shapes"},
    "drawing": {"checks", "data", "plan"},
    "checkpoint": {"atomic", "excerpt"},
    "history": {"atomic", "checkpoint", "checks", "excerpt"},
    "recipe": {"checks", "likelihood", "model", "plan"},
    "engines.platform": set(),
    "engines.product": set(),
    "engines.step": {"engines.product"},
    "engines.eager": {"checks", "data", "model", "plan"},
    "engines.analytic": {
        "checks",
        "data",
        "engines.platform",
        "engines.step",
        "likelihood",
        "model",
        "plan",
    },
    "engines.graph": {"engines.analytic"},
    "engines.native": {"checks", "engines.analytic", "engines.step", "model"},
    "engines": {
        "checks",
        "data",
        "engines",
        "engines.analytic",
        "engines.graph",
        "engines.native",
        "model",
        "plan",
    },
    "run": {
        "checkpoint",
        "checks",
        "engines",
        "engines.platform",
        "excerpt",
        "model",
        "plan",
        "recipe",
    },
    "training": {
        "checks",
        "data",
        "engines",
        "engines.platform",
        "history",
        "model",
        "objective",
        "plan",
        "run",
        "shapes",
    },
    "pictures": {"atomic", "data", "history", "model", "shapes"},
    "display": {"history"},
    "directory": {
        "checkpoint",
        "checks",
        "data",
        "engines",
        "history",
        "pictures",
        "recipe",
        "run",
    },
}
ABOVE = {"__init__", "__main__", "cli", "courses", "reference", "verification", "weights"}


# The kit that judges imports nothing of what it judges.
KIT = "conformance"
CATALOGUES = ("conformance.claims.", "conformance.mutants.")


def modules() -> dict[str, Path]:
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" and parts[1:] else parts)] = path
    return names


def imported(path: Path) -> set[str]:
    """Name the modules of the package that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: a relative import"
            head, _, rest = (node.module or "").partition(".")
            if head == "vae_ref":
                found |= {rest} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("vae_ref") for alias in node.names)
    return found


def kit() -> list[str]:
    return [name for name in modules() if name.partition(".")[0] == KIT]


def test_every_module_has_its_place():
    assert modules().keys() - set(kit()) == LAYERS.keys() | ABOVE


@pytest.mark.parametrize("name", kit())
def test_the_kit_imports_nothing_that_it_judges(name):
    assert {module.partition(".")[0] for module in imported(modules()[name])} <= {
        KIT,
        "excerpt",
        "shapes",
    }


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_that_is_judged_imports_the_kit(name):
    assert not any(module.startswith(KIT) for module in imported(modules()[name]))


@pytest.mark.parametrize("name", LAYERS)
def test_a_module_imports_its_own_layer_and_no_other(name):
    assert imported(modules()[name]) == LAYERS[name]


@pytest.mark.parametrize("name", [*LAYERS, *ABOVE, *kit()])
def test_a_module_has_one_idea(name):
    """A catalogue of claims or bugs is as long as they are many."""
    lines = 500 if name.startswith(CATALOGUES) else 275
    assert len(modules()[name].read_text().splitlines()) <= lines


def test_import_is_light():
    """Pytest imports the package on every start; what is heavy is imported where it is used."""
    heavy = [
        "torch",
        "jaxtyping",
        "torchvision",
        "scipy",
        "matplotlib",
        "PIL",
        "rich",
        "typer",
        "safetensors",
        "hypothesis",
    ]
    code = f"import vae_ref, sys; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_training_waits_for_no_download():
    """torchvision takes a second to import, and only a download needs it."""
    code = "import vae_ref.directory, vae_ref.training, sys; print('torchvision' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_lazy_names_are_those_of_the_type_checker():
    source = (PACKAGE / "__init__.py").read_text()
    imports = {
        alias.name: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vae_ref.")
        for alias in node.names
    }
    assert imports == {name: f"vae_ref.{home}" for name, home in vae_ref._HOME.items()}
    assert imports.keys() == set(vae_ref.__all__) <= set(dir(vae_ref))


def test_all_that_is_public_is_documented():
    for name in vae_ref.__all__:
        assert getattr(vae_ref, name).__doc__, name
