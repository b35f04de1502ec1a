"""A bug of the bank, or the right specimen, behind the process protocol.

python -m tests.conformance.piped [BUG]           answers as docs/process.md says
python -m tests.conformance.piped --tally         judges all bugs that way
"""

import base64
import json
import multiprocessing
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from vae_ref.conformance.loading.process import FUNCTIONS, subject_of_process
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.mutants.specimen import specimen
from vae_ref.conformance.runner import verify

SERVED = ("kl", "reparameterize", "nll", "loss", "importance_weighted")
SLOTS = ("kl", "sample", "nll", "loss", "bound")


def serve(bug: str) -> None:
    """Answer requests with the functions of a bug, and the slopes that torch finds."""
    subject = BANK[bug].subject() if bug else specimen()
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "stop":
            return
        reply = _start() if request["do"] == "start" else _answer(subject, request)
        sys.__stdout__.write(json.dumps(reply) + "\n")
        sys.__stdout__.flush()


def _start() -> dict:
    return {
        "name": "specimen",
        "language": "Python",
        "gradients": True,
        "accepts": ["base64", "dtype", "training"],
        "supports": list(SERVED),
        "conventions": {"likelihood": "bernoulli", "dtype": "float64"},
    }


def _answer(subject, request) -> dict:
    names = FUNCTIONS[request["function"]]
    given = [_tensor(request["inputs"][name]).requires_grad_() for name in names]
    if "seed" in request:
        torch.manual_seed(request["seed"])
    if subject.module is not None:
        subject.module.train(request.get("training", True))
    try:
        value = getattr(subject, request["function"])(*given)
        if "cotangent" not in request:
            return {"id": request["id"], "value": _array(value)}
        cotangent = _tensor(request["cotangent"]).view(value.shape)
        slopes = [torch.zeros_like(g) for g in given]
        if value.requires_grad:
            found = torch.autograd.grad(value, given, cotangent.to(value), allow_unused=True)
            slopes = [s if f is None else f for s, f in zip(slopes, found, strict=True)]
        arrays = dict(zip(names, map(_array, slopes), strict=True))
        return {"id": request["id"], "slopes": arrays}
    except Exception as error:
        return {"id": request["id"], "error": repr(error)}


def _tensor(array) -> torch.Tensor:
    numbers = np.frombuffer(base64.b64decode(array["base64"]), "<f8")
    whole = torch.from_numpy(np.resize(numbers, array["shape"]))  # one row, if all are equal
    return whole.to(getattr(torch, array.get("dtype", "float64")))


def _array(tensor) -> dict:
    numbers = tensor.detach().double().numpy().astype("<f8").tobytes()
    return {"shape": list(tensor.shape), "base64": base64.b64encode(numbers).decode()}


def command(bug: str = "") -> str:
    return f"{sys.executable} -W ignore -m tests.conformance.piped {bug}"


def through_a_pipe(bug: str, only: str | None = None):
    """Verify a bug behind a pipe."""
    subject = subject_of_process(command(bug))
    try:
        return verify(subject, only=only)
    finally:
        subject.elsewhere.end()


def judged(bug: str) -> tuple[str, str, list[str]]:
    """Say what becomes of a bug behind a pipe, the names that it gets, and which claims fail."""
    torch.set_num_threads(1)
    report = through_a_pipe(bug)
    names = {f.diagnosis.bug for f in report.failures if f.diagnosis}
    how = "named" if bug in names else "noticed" if report.failures else "missed"
    return how, ", ".join(sorted(names)), [f.claim.id for f in report.failures]


def tally() -> None:
    """Count how many bugs are noticed and named behind a pipe."""
    counts: Counter[str] = Counter()
    bugs = [mutant.id for mutant in BANK.values() if mutant.slot in SLOTS]
    spawn = multiprocessing.get_context("spawn")  # a fork does not copy torch's threads
    with ProcessPoolExecutor(mp_context=spawn) as pool:
        for bug, (how, names, failures) in zip(bugs, pool.map(judged, bugs), strict=True):
            counts[how] += 1
            if how != "named":
                print(bug, how, names, failures, flush=True)
    print(dict(counts))


if __name__ == "__main__":
    if sys.argv[1:] == ["--tally"]:
        tally()
    else:
        serve(*sys.argv[1:] or [""])
