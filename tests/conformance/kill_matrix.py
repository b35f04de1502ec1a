"""Make conformance/diagnosis/kill_matrix.json: which claims notice which bug of the bank, and how.

python -m tests.conformance.kill_matrix [-n PROCESSES] [--all | CLAIM or BUG ...]

makes what is missing, which is quick for a new claim or bug; what has changed, by its id; or all.
"""

import argparse
import json
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

import vae_ref.conformance
from vae_ref.conformance.diagnosis.explain import FAILED
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.runner import check, probe_of, select

FILE = Path(vae_ref.conformance.__file__).parent / "diagnosis" / "kill_matrix.json"


def kills(bug: str, claims: Collection[str] | None = None) -> dict[str, str]:
    probe = probe_of(BANK[bug].subject())
    own = select(None, BANK[bug].level, parts=probe.subject.parts)
    chosen = [c for c in own if claims is None or c.id in claims]
    results = [check(claim, probe) for claim in chosen]
    return {result.claim.id: result.symptom for result in results if result.status in FAILED}


def updated(bug: str, known: dict[str, str] | None, claims: Collection[str]) -> dict[str, str]:
    """Return what kills a bug: all claims are checked if nothing is known, else some again."""
    if known is None:
        return kills(bug)
    found = kills(bug, claims) if claims else {}
    kept = {claim: symptom for claim, symptom in known.items() if claim not in claims}
    return {c.id: (kept | found)[c.id] for c in select(None, "trained") if c.id in kept | found}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=1, metavar="PROCESSES")
    return parser


def processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, get_context("spawn"), torch.set_num_threads, (1,))


def main() -> None:
    parser = arguments()
    parser.add_argument("--all", action="store_true", help="make all of it again")
    parser.add_argument("changed", nargs="*", metavar="ID", help="a claim or a bug that changed")
    chosen = parser.parse_args()
    claims = [claim.id for claim in select(None, "trained")]
    if unknown := set(chosen.changed) - set(claims) - BANK.keys():
        parser.error(f"no claim and no bug has the id {', '.join(sorted(unknown))}")
    before = json.loads(FILE.read_text())
    again = (set(claims) - set(before["claims"])) | (set(claims) & set(chosen.changed))
    known = [
        None if chosen.all or bug in chosen.changed else before["mutants"].get(bug) for bug in BANK
    ]
    with processes(chosen.n) as pool:
        found = pool.map(updated, BANK, known, [again] * len(BANK))
        matrix = {}
        for bug, killed in zip(BANK, found, strict=True):
            matrix[bug] = killed
            print(f"{len(matrix)} of {len(BANK)}  {bug}: {len(killed)} claims", flush=True)
    FILE.write_text(json.dumps({"claims": claims, "mutants": matrix}, indent=1) + "\n")


if __name__ == "__main__":
    main()
