"""What an import brings along, and that public names are documented.

What may import what are the contracts in pyproject.toml, which `lint-imports` checks.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vae_ref

PACKAGE = Path(vae_ref.__file__).parent


HEAVY = {
    "import vae_ref, vae_ref.conformance.pytest_plugin": {
        *("torch", "jaxtyping", "torchvision", "scipy", "matplotlib", "PIL", "rich", "typer"),
        *("safetensors", "hypothesis"),
    },
    "import vae_ref.cli.app": {"torch"},
    "from vae_ref.conformance import verify": {"scipy.stats", "mpmath", "jax", "matplotlib"},
    "import vae_ref.running.directory, vae_ref.running.training": {"torchvision"},
}
"""Imports, one after the other, and what they are not to bring along: it takes seconds.

Pytest imports the package on every start; torchvision is for downloads.
"""


@pytest.mark.slow
def test_imports_are_light():
    code = "import sys\n" + "\n".join(
        f"{what}\nprint({what!r}, *{names} & sys.modules.keys())" for what, names in HEAVY.items()
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == list(HEAVY)


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
