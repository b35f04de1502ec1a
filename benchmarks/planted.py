"""Plant regressions into a small program, and see whether the gate names the line of each.

    python -m benchmarks.planted

Each is a line that is exchanged. The gate counts the program with and without it, and traces it if
no count rises. A regression is named if the first or the heaviest line that the gate names, or the
caller that it names, is the line that does the work: the exchanged one, unless `at` is another.
"""

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_ref.gate import counters, paired
from vae_ref.gate.causes import Cause, causes, slower_line
from vae_ref.gate.paired import Settings
from vae_ref.gate.revisions import Revision
from vae_ref.gate.verdict import compared
from vae_ref.support import provenance
from vae_ref.support.atomic import replacing

RESULTS = Path(__file__).parent / "results" / "planted.json"

PROGRAM = '''"""A VAE of drawn numbers, one step of its training, and an evaluation."""

import functools
import json
import math

import torch
from torch import nn
from torch.nn import functional as F

CONFIG = {"rate": 1e-3, "names": [f"layer {n}" for n in range(2000)]}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(196, 64)
        self.mu, self.logvar = nn.Linear(64, 8), nn.Linear(64, 8)
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 196))
        self.prior = nn.Parameter(torch.zeros(8))

    def encode(self, x):
        h = torch.relu(self.hidden(x))
        return self.mu(h), self.logvar(h)

    def decode(self, z):
        return self.decoder(z)

    def divergence(self, mu, logvar):
        shift = mu - self.prior.expand(len(mu), -1)
        return 0.5 * (shift.square() + logvar.exp() - logvar - 1).sum(1)

    def loss(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
        outputs = self.decode(z)
        nll = F.binary_cross_entropy_with_logits(outputs, x, reduction="none").sum(1)
        kl = self.divergence(mu, logvar)
        return (nll + kl + normaliser()).mean()


@functools.cache
def normaliser():
    return torch.lgamma(torch.arange(1.0, 5000.0)).diff().mean() * 0


def rate(step):
    return CONFIG["rate"] * min(1.0, (step + 1) / 100)


class Program:
    def __init__(self):
        self.net = Net()
        self.average = [p.detach().clone() for p in self.net.parameters()]
        self.optimizer = torch.optim.Adam(self.net.parameters(), foreach=True)
        self.losses, self.steps = [], 0

    def step(self, x):
        loss = self.net.loss(x)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.param_groups[0]["lr"] = rate(self.steps)
        self.optimizer.step()
        self.losses = [*self.losses[-1:], loss.detach()]
        self.steps += 1
        with torch.no_grad():
            for a, p in zip(self.average, self.net.parameters()):
                a.lerp_(p, 0.01)

    def evaluate(self, x):
        with torch.no_grad():
            parts = [self.net.loss(batch) for batch in x.split(32)]
            return torch.stack(parts).mean()


def workload():
    program, x = Program(), torch.rand(128, 196)

    def call():
        program.step(x)
        return program.evaluate(x)

    return call
'''


@dataclass(frozen=True)
class Planted:
    """A regression.

    Args:
        what: What was done.
        old: What stands in one line of the program.
        new: What stands there instead.
        at: What the line has that does the work, if it is another.
        by: What shows it: ``count`` or ``time``.
    """

    what: str
    old: str
    new: str
    at: str = ""
    by: str = "count"


PLANTED = (
    Planted("a copy", "torch.relu(self.hidden(x))", "torch.relu(self.hidden(x.clone()))"),
    Planted("every example with every other", "(nll + kl +", "(nll[:, None] + kl +"),
    Planted("double precision", "self.divergence(mu, ", "self.divergence(mu.double(), "),
    Planted("a value for the host", "loss.detach()]", "loss.item()]"),
    Planted(
        "a loop over examples",
        "outputs = self.decode(z)",
        "outputs = torch.stack([self.decode(row) for row in z])",
    ),
    Planted("a sum in new memory", "a.lerp_(p, 0.01)", "a.copy_(0.99 * a + 0.01 * p)"),
    Planted("a cache that is gone", "@functools.cache", "", at="torch.lgamma"),
    Planted("an import", "import math\n", "import math, sqlite3\n"),
    Planted("a question to the device", "self.steps += 1", "self.steps += bool(loss.isfinite())"),
    Planted("a graph that is kept", "loss.backward()", "loss.backward(retain_graph=True)"),
    Planted("a tensor that is kept", "nll = F.", "nll = self.nll = F."),
    Planted(
        "an evaluation with gradients",
        "with torch.no_grad():\n            parts",
        "if True:\n            parts",
        at="parts = [self.net.loss",
    ),
    Planted("a layout that is changed", "self.encode(x)", "self.encode(x.t().contiguous().t())"),
    Planted("rows that are repeated", "expand(len(mu), -1)", "repeat(len(mu), 1)"),
    Planted(
        "a tensor that grows",
        "torch.stack(parts).mean()",
        "functools.reduce(lambda a, b: torch.cat([a, b.view(1)]), parts, x.new_zeros(0)).mean()",
    ),
    Planted(
        "an optimiser that goes through parameters",
        "foreach=True",
        "foreach=False",
        at="self.optimizer.step()",
    ),
    Planted(
        "a term that is computed twice",
        "kl = self.",
        "kl = 0 * self.divergence(mu, logvar) + self.",
    ),
    Planted(
        "a loss in many parts",
        'F.binary_cross_entropy_with_logits(outputs, x, reduction="none")',
        "-(x * F.logsigmoid(outputs) + (1 - x) * F.logsigmoid(-outputs))",
    ),
    Planted(
        "a pause",
        "self.steps += 1",
        "self.steps += not __import__('time').sleep(0.001)",
        by="time",
    ),
    Planted(
        "a log that is written at every step",
        'return CONFIG["rate"]',
        'return json.loads(json.dumps(CONFIG))["rate"]',
        by="time",
    ),
    Planted(
        "numbers that Python adds up",
        "min(1.0, (step + 1) / 100)",
        "min(1.0, sum(1 for _ in range(20_000 + step)) / 100)",
        by="time",
    ),
)


def named(planted: Planted, directory: Path) -> tuple[bool, list[Cause]]:
    """Plant a regression; return whether the gate names its line, and what it names."""
    assert PROGRAM.count(planted.old) == 1, planted.old
    texts = {"base": PROGRAM, "head": PROGRAM.replace(planted.old, planted.new)}
    for side, text in texts.items():
        (directory / side).mkdir()
        (directory / side / "program.py").write_text(text)
    workloads = directory / "workloads.py"
    workloads.write_text("def step():\n    import program\n    return program.workload()\n")
    settings = Settings(workloads={"step": f"{workloads}:step"})
    base, head = (Revision(side, directory / side) for side in texts)
    if planted.by == "time":
        found = slower_line(*paired.trace(base, head, "step", settings), (base.tree, head.tree))
    else:
        before, after = counters.count(["step"], settings, base, head)
        changes = compared(before.counts, after.counts)
        trees = base.tree, head.tree
        found = [
            cause
            for some in causes(changes, before.sites, after.sites, trees).values()
            for cause in some
        ]
    at = planted.at or planted.new.strip().splitlines()[-1]
    return any(at in cause.line or at in cause.caller for cause in found), found


def main() -> None:
    """Plant all of them, and write what was named."""
    rows: list[dict[str, Any]] = []
    for planted in PLANTED:
        with tempfile.TemporaryDirectory() as directory:
            right, found = named(planted, Path(directory))
        rows.append(
            {
                "what": planted.what,
                "line": planted.new.strip() or planted.old,
                "by": planted.by,
                "named": right,
                "causes": [dataclasses.asdict(cause) for cause in found],
            }
        )
        print("named" if right else "MISSED", planted.what, flush=True)
        for cause in found:
            print(f"    {cause.where}: {cause.action}, {cause.base:,} -> {cause.head:,}")
    print(f"{sum(row['named'] for row in rows)} of {len(rows)} are named")
    written = {"on": provenance.record(threads=1), "planted": rows}
    with replacing(RESULTS) as file:
        file.write(json.dumps(written, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
