"""Copies of the package with a fault, which is code added at the end of a module."""

import shutil
from pathlib import Path

import vae_ref
from vae_ref.gate.revisions import Revision

#: Faults: the module, the code that is added to it, and the counts that must rise.
INJECTIONS = {
    "doubled-decoder": (
        "model",
        """
_once = LatentModel.decode_logits
LatentModel.decode_logits = lambda self, z: (_once(self, z) + _once(self, z)) / 2
""",
        {"flops", "operations", "bytes", "saved_tensors"},
    ),
    "float64-leak": (
        "gaussian",
        """
_single = kl_to_standard_normal
def kl_to_standard_normal(mu, logvar):
    return _single(mu.double(), logvar.double())
""",
        {"bytes", "saved_bytes"},
    ),
    "batch-by-batch-broadcast": (
        "objective",
        """
def _broadcast(self, beta=1.0):
    return (self.reconstruction[:, None] + beta * self.divergence).mean(1)
Terms.loss = _broadcast
""",
        {"bytes", "operations"},
    ),
    "item-per-step": (
        "objective",
        """
_silent = Terms.loss
def _logged(self, beta=1.0):
    loss = _silent(self, beta)
    loss.sum().item()
    return loss
Terms.loss = _logged
""",
        {"synchronisations"},
    ),
    "per-example-loop": (
        "objective",
        """
_batched = negative_elbo
def negative_elbo(x, outputs, mu, logvar, **options):
    rows = [_batched(*(t[i : i + 1] for t in (x, outputs, mu, logvar)), **options)
            for i in range(len(x))]
    return Terms(*(torch.cat(terms) for terms in zip(*rows)))
""",
        {"operations", "saved_tensors"},
    ),
    "import-at-start": ("shapes", "import sqlite3\n", {"imports"}),
}


def copy_of(directory: Path, module: str = "", addition: str = "") -> Revision:
    """Copy the package, and add code to one of its modules."""
    package = Path(vae_ref.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__", "conformance", "gate")
    shutil.copytree(package, directory / "vae_ref", ignore=ignored)
    if module:
        with (directory / "vae_ref" / f"{module}.py").open("a") as file:
            file.write(addition)
    return Revision(directory.name, directory)
