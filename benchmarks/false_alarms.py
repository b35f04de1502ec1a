"""Check the reference against all claims many times, each time with a fresh seed.

    python -m benchmarks.false_alarms [--runs 1000]

The budget of false alarms is 1e-6 per run, so nothing should fail. The command writes
benchmarks/results/false_alarms.json: the number of runs, what failed in them, and what made it.
The claims that train are left out: large margins decide them, not a level of significance.
"""

import argparse
import json
import secrets
import time
from collections import Counter
from pathlib import Path

import torch

from vae_ref.bridge.reference import reference
from vae_ref.conformance import verify
from vae_ref.conformance.claims import BUDGET
from vae_ref.support import provenance

RESULTS = Path(__file__).parent / "results" / "false_alarms.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="number of runs")
    runs = parser.parse_args().runs
    subject, start, statuses = reference(), time.perf_counter(), Counter()
    failures = []
    for run in range(runs):
        seed = secrets.randbelow(2**31)
        report = verify(subject, seed=seed)
        statuses.update(report.counts)
        failures += [
            {"seed": seed, "claim": result.claim.id, "message": result.message}
            for result in report.results
            if result.status != "pass"
        ]
        if (run + 1) % 50 == 0:
            print(f"{run + 1} runs, {len(failures)} failures", flush=True)
    result = {
        "runs": runs,
        "budget_per_run": BUDGET,
        "statuses": dict(statuses),
        "failures": failures,
        "seconds": round(time.perf_counter() - start, 1),
        **provenance.record(threads=torch.get_num_threads()),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["statuses"]), "failures:", len(failures))


if __name__ == "__main__":
    main()
