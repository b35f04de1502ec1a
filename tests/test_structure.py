"""What an import brings along, and that public names are documented.

What may import what are the contracts in pyproject.toml, which `lint-imports` checks.
"""

import ast
import subprocess
import sys
from pathlib import Path

import vae_ref

PACKAGE = Path(vae_ref.__file__).parent


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
