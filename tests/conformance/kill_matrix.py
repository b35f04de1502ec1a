"""Make vae_ref/conformance/kill_matrix.json: which claims notice which bug of the bank, and how.

python -m tests.conformance.kill_matrix
"""

import json
from pathlib import Path

import vae_ref.conformance
from vae_ref.conformance.diagnosis.explain import FAILED
from vae_ref.conformance.mutants import BANK, Mutant
from vae_ref.conformance.runner import check, probe_of, select

FILE = Path(vae_ref.conformance.__file__).parent / "diagnosis" / "kill_matrix.json"


def kills(mutant: Mutant) -> dict[str, str]:
    probe = probe_of(mutant.subject())
    results = [check(claim, probe) for claim in select(None, mutant.level)]
    return {result.claim.id: result.symptom for result in results if result.status in FAILED}


def main() -> None:
    claims = [claim.id for claim in select(None, "trained")]
    matrix = {identifier: kills(mutant) for identifier, mutant in BANK.items()}
    FILE.write_text(json.dumps({"claims": claims, "mutants": matrix}, indent=1) + "\n")


if __name__ == "__main__":
    main()
