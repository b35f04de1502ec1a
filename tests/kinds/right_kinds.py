"""Judge right VAEs of all other kinds with fresh seeds: none may be accused.

python -m tests.kinds.right_kinds [RUNS]
"""

import importlib
import itertools
import sys
from collections import Counter

import torch

from vae_ref.bridge.kinds import REFERENCES
from vae_ref.conformance import verify
from vae_ref.conformance.guards import global_state_kept

HOLDS = ("pass", "not-applicable")
RIGHT = [
    make
    for kind in REFERENCES
    for make in importlib.import_module(f"tests.kinds.subjects.{kind}").RIGHT
]


def main() -> None:
    """Judge references in both precisions, and variants, in turn, each with a fresh seed."""
    torch.set_num_threads(1)
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    references = [
        (f"{kind} in {dtype}", lambda make=make, dtype=dtype: make(dtype))
        for kind, make in REFERENCES.items()
        for dtype in (torch.float32, torch.float64)
    ]
    all_right = [*references, *((make.__name__, make) for make in RIGHT)]
    tally: Counter[str] = Counter()
    for seed, (name, make) in enumerate(itertools.islice(itertools.cycle(all_right), runs)):
        with global_state_kept():
            torch.set_default_dtype([torch.float32, torch.float64][seed // len(all_right) % 2])
            torch.manual_seed(seed)
            report = verify(make(), seed=seed)
        alarms = [r for r in report.results if r.status not in HOLDS]
        tally["accused" if alarms else "right"] += 1
        for r in alarms:
            print(f"{name} seed {seed}: {r.claim.id}: {r.status}: {r.message}", flush=True)
    print(*(f"{count:6} {how}" for how, count in sorted(tally.items())), sep="\n")


if __name__ == "__main__":
    main()
