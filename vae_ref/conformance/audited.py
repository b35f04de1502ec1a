"""Audit the VAE of a training step, and judge it: two lines in a loop of one's own."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vae_ref.conformance.auditing import audit as auditing
from vae_ref.conformance.auditing.anatomy import NoVAEError
from vae_ref.conformance.auditing.recorder import suspended
from vae_ref.conformance.records import Report
from vae_ref.conformance.reports.files import write
from vae_ref.conformance.reports.page import padded
from vae_ref.conformance.reports.terminal import as_text
from vae_ref.conformance.runner import probe_of, verify
from vae_ref.support.messages import spoken, translated

__all__ = ["Audit", "audit", "audit_step"]


class Audit(auditing.Audit):
    """What a step was found to compute, and the report on it.

    Attributes:
        reason: Why it cannot be judged, or not in full; empty if it can.
        found: The parts of its VAE by name, in words, with their source lines.
        subject: Its pieces as a subject of claims; None if there is no VAE to judge.
        diagram: The parts and the flow of data between them; None if there is no VAE.
    """

    @cached_property
    def report(self) -> Report:
        """The report on all claims that apply, which are checked when it is first asked for.

        Raises:
            NoVAEError: If there is nothing to judge.
        """
        if self.subject is None:
            raise NoVAEError(self.reason)
        with suspended():
            return verify(self.subject)

    def write_html(self, file: str | Path) -> None:
        """Write the report as one HTML page, with a drawing of the VAE that was found.

        Args:
            file: The file to create or replace.

        Raises:
            OSError: If it cannot be written.
        """
        from vae_ref.conformance.reports.charts import pictures
        from vae_ref.conformance.reports.html import as_html

        with suspended():
            report = verify(self.reported) if self.subject is None else self.report
            drawn = pictures(probe_of(self.reported)) if self.subject else ()
        write(Path(file), as_html(report, drawn))

    def __str__(self) -> str:
        """Say what was found, and what became of the claims, in the language of the terminal."""
        rows = self.found | ({"not judged": self.reason} if self.reason else {})
        report = None if self.subject is None else self.report
        with spoken():
            lines = [
                f"{padded(translated(n), 20)}  {translated(text)}" for n, text in rows.items()
            ]
            if report is not None:
                facts = {k: v for k, v in report.facts.items() if k not in self.found}
                lines += ["", as_text(replace(report, facts=facts))]
        return "\n".join(lines)


@contextlib.contextmanager
def audit(name: str = "the step") -> Iterator[Audit]:
    """Audit the VAE of a training step: put it around the forward pass and the loss.

    What the block does is recorded, and goes on undisturbed. Its loss is the tensor whose
    ``backward`` is called in the block, or else the last scalar that could be differentiated.

    Args:
        name: The name for the report.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Linear(4, 2)
        >>> with audit() as found:
        ...     loss = net(torch.ones(3, 4)).square().sum()
        >>> print(found.reason)
        no noise enters this loss: it is that of an autoencoder, or the step samples elsewhere; \
call the step in training mode
    """
    result = Audit(name)
    with auditing.observed(result):
        yield result


def audit_step(step: Callable[..., Any], *arguments: Any, name: str = "the step") -> Audit:
    """Audit a function that returns the loss of a batch: call it, and find its VAE.

    It is called again with every example given twice, if it takes a batch: the KL must keep its
    weight beside the reconstruction.

    Args:
        step: Returns the loss, or a tuple, a dict or an object with it.
        *arguments: What it is called with.
        name: The name for the report.
    """
    result = Audit(name)
    auditing.run_step(result, step, *arguments)
    return result
