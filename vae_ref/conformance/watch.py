"""Watch a training script: audit the loss of one of its first steps, and what the loop does.

The script is run as ``__main__``, as it is. What leads to each of its first ``backward`` calls is
recorded; the first that has a VAE is judged, and the one after it tells whether noise repeats.
"""

import contextlib
import json
import os
import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from vae_ref.conformance.auditing.audit import Audit, roots_seen
from vae_ref.conformance.auditing.findings import Roots
from vae_ref.conformance.auditing.recorder import Recorder, recording
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.records import Claim, Report, Result
from vae_ref.conformance.runner import verify
from vae_ref.conformance.transfer import plain

__all__ = ["Watch", "watched"]

_MOST = 12  # steps that are looked at


class _Enough(BaseException):
    """The script has been watched for long enough; not an `Exception`, so that it ends."""


class Watch:
    """What was seen of a script.

    Attributes:
        audit: The audit of a step; of the first, if none has a VAE.
        repeated: Whether the next step drew the same noise; None if there was none.
        forgotten: The parameters that the loss depends on and no optimiser holds.
        steps: How many times a loss was differentiated.
        stepped: Whether an optimiser made a step.
    """

    def __init__(self, name: str, *, go_on: bool = False) -> None:
        self.name, self.go_on = name, go_on
        self.audit: Audit | None = None
        self.repeated: bool | None = None
        self.forgotten: tuple[str, ...] = ()
        self.steps = 0
        self._held: set[int] = set()
        self.stepped = False

    def differentiates(self, recorder: Recorder, loss: Any, roots: Roots) -> None:
        """Take note that a loss is about to be differentiated."""
        self.steps += 1
        if self.steps == 1 or not isinstance(loss, Tensor):  # the script has only begun
            recorder.restart()
            return
        if self.audit is not None and self.audit.subject is not None:
            self._compare(recorder)
            self._finish(recorder, roots)
            return
        found = Audit(self.name)
        found.examine(recorder, loss, roots)
        if self.audit is None or found.subject is not None:
            self.audit = found
        recorder.restart()
        if self.steps > _MOST:
            self._finish(recorder, roots)

    def _compare(self, recorder: Recorder) -> None:
        assert self.audit is not None  # noqa: S101 - it was asked before
        anatomy = self.audit.anatomy
        assert anatomy is not None  # noqa: S101 - it has a subject
        noise = {n for latent in anatomy.latents for n in latent.noise}
        before = [o for o in anatomy.graph.operations if noise & set(o.outputs)]
        pairs = [
            (old.double(), new.double())
            for o in before
            for other in recorder.graph.operations
            if (o.name, o.place) == (other.name, other.place)
            for old, new in zip(o.drawn.values(), other.drawn.values(), strict=False)
            if old.shape == new.shape and old.numel() > 1
        ]
        self.repeated = any(torch.equal(a, b) for a, b in pairs) if pairs else None

    def _finish(self, recorder: Recorder, roots: Roots) -> None:
        recorder.active = False
        recorder.restart()
        if self.stepped and self.audit and self.audit.anatomy:
            used = {id(t) for t in self.audit.parameters}
            named = [(n, p) for root in roots for n, p in root.named_parameters()]
            self.forgotten = tuple(
                name for name, p in named if id(p) in used and id(p) not in self._held
            )
        if not self.go_on:
            raise _Enough

    def steps_with(self, optimiser: Optimizer) -> None:
        """Take note of the parameters that an optimiser holds."""
        self.stepped = True
        self._held |= {id(p) for group in optimiser.param_groups for p in group["params"]}


@contextlib.contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Watch what the block does, until enough was seen."""
    original = torch.autograd.backward
    with roots_seen() as roots, recording() as recorder:

        def backward(tensors: Any, *arguments: Any, **options: Any) -> None:
            if recorder.active:
                watch.differentiates(recorder, tensors, roots)
            original(tensors, *arguments, **options)

        hook = register_optimizer_step_pre_hook(lambda o, args, kwargs: watch.steps_with(o))
        torch.autograd.backward = backward
        try:
            yield
        except _Enough:
            pass
        finally:
            recorder.active = False
            torch.autograd.backward = original
            hook.remove()


def run_script(script: str, arguments: list[str], watch: Watch) -> None:
    """Run a script as ``__main__``, and watch it."""
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).resolve().parent))
    with watched(watch):
        runpy.run_path(script, run_name="__main__")


def main() -> None:
    """Run as a child of the command: ``DESCRIPTOR GO_ON SCRIPT ARGUMENTS...``."""
    descriptor, go_on, script, *arguments = sys.argv[1:]
    watch, problem = Watch(script, go_on=bool(int(go_on))), ""
    try:
        run_script(script, arguments, watch)
    except SystemExit as end:
        problem = f"the script ended with status {end.code}" if end.code else ""
    message: dict[str, Any] = {"steps": watch.steps, "problem": problem, "report": None}
    if watch.audit is not None:
        message["report"] = plain(report_of(watch))
    with os.fdopen(int(descriptor), "w") as pipe:
        json.dump(message, pipe)


def report_of(watch: Watch) -> Report:
    """Judge what was watched: the step by all claims, and the loop by two."""
    found = watch.audit
    assert found is not None  # noqa: S101 - the caller asked
    report = verify(found.reported)
    claims = {claim.id: claim for claim in all_claims()}
    extra = []
    if watch.repeated is not None:
        message = "two steps, one after the other, drew the same noise" if watch.repeated else ""
        extra.append(_result(claims["training/fresh-noise"], message))
    if found.subject is not None and watch.stepped:
        names = ", ".join(watch.forgotten[:6])
        message = f"no optimiser holds {names}" if names else ""
        extra.append(_result(claims["training/every-weight-learns"], message))
    return replace(
        report, results=(*report.results, *extra), in_level=report.in_level + len(extra)
    )


def _result(claim: Claim, message: str) -> Result:
    return Result(claim=claim, status="fail" if message else "pass", message=message)
