"""Make vae_ref/conformance/kill_matrix.json: which claims notice which bug of the bank, and how.

python -m tests.conformance.kill_matrix [-n PROCESSES]
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

import vae_ref.conformance
from vae_ref.conformance.diagnosis.explain import FAILED
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.runner import check, probe_of, select

FILE = Path(vae_ref.conformance.__file__).parent / "diagnosis" / "kill_matrix.json"


def kills(bug: str) -> dict[str, str]:
    probe = probe_of(BANK[bug].subject())
    results = [check(claim, probe) for claim in select(None, BANK[bug].level)]
    return {result.claim.id: result.symptom for result in results if result.status in FAILED}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=1, metavar="PROCESSES")
    return parser


def processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, get_context("spawn"), torch.set_num_threads, (1,))


def main() -> None:
    claims = [claim.id for claim in select(None, "trained")]
    with processes(arguments().parse_args().n) as pool:
        matrix = dict(zip(BANK, pool.map(kills, BANK), strict=True))
    FILE.write_text(json.dumps({"claims": claims, "mutants": matrix}, indent=1) + "\n")


if __name__ == "__main__":
    main()
