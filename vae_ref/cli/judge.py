"""Judge a target: what the command does itself with ``--in-process``, and otherwise a child.

The child sends, in this order: ``begin``, with what a report says before any claim and how many
claims there are; for every claim ``checking``, which names the claim and says how long to wait,
and ``result``; then ``concluding``; at the end ``report`` and the pictures. Or ``refused``: what
the user has to mend.
"""

import contextlib
import importlib
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_ref.names import CourseName, LevelName
from vae_ref.support.errors import InputError, UserError

if TYPE_CHECKING:
    import subprocess

    from vae_ref.conformance.records import Claim, Note, Report, Result
    from vae_ref.conformance.reports.picture import Picture
    from vae_ref.conformance.subject import Subject

__all__ = ["CHILD", "Request", "judge", "main"]

_EXPECTED_BYTES = 1 << 20
_CONCLUDING = 120.0
"""The seconds of CPU time in which failures are explained and pictures drawn."""

CHILD = "from vae_ref.cli.judge import main; main()"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be judged, and how; all of it is data.

    Attributes:
        target: What to load; without it, the reference.
        batch: How the input of a step is made.
        command: A command that answers over its standard streams, in the place of a target.
        isolated: Whether the target answers in a process of its own, and is never loaded here.
        declarations: Pairs ``KEY=VALUE``, the conventions that differ.
        only: A pattern of claim ids.
        seed: The seed of everything that is random.
        level: The level of the run.
        edition: The edition of the claims; None for the newest.
        train: The images to train on.
        checkpoint: Trained weights.
        data: A torchvision root.
        expect_failures: A file of known failures.
        pictures: Whether to draw pictures.
        memory: The most GiB of data that a child may hold.
        earlier: The results of claims that children judged before, as data.
    """

    target: str | None
    declarations: list[str] = field(default_factory=list)
    only: str | None = None
    seed: int = 0
    level: LevelName = "standard"
    edition: int | None = None
    train: CourseName | None = None
    checkpoint: str | None = None
    data: str = "data"
    expect_failures: str | None = None
    pictures: bool = False
    memory: float = 8.0
    earlier: list[dict[str, Any]] = field(default_factory=list)
    batch: str | None = None
    command: str | None = None
    isolated: bool = False

    @property
    def name(self) -> str:
        """What to call it before it is loaded."""
        return self.target or self.command or "the reference"

    @property
    def declared(self) -> dict[str, str]:
        """The declarations by their names.

        Raises:
            InputError: If one is no pair.
        """
        pairs = [text.partition("=") for text in self.declarations]
        if wrong := [key for key, equals, _ in pairs if not equals]:
            remedy = "For example --declare beta=4."
            raise InputError("--declare", "be KEY=VALUE", wrong[0], remedy)
        return {key: value for key, _, value in pairs}


def judge(
    request: Request,
    *,
    begin: "Callable[[Report, int], None]" = lambda report, count: None,
    checking: "Callable[[Claim, float], None]" = lambda claim, seconds: None,
    progress: "Callable[[Result], None]" = lambda result: None,
    concluding: Callable[[], None] = lambda: None,
    ahead: bool = False,
    running: "subprocess.Popen[bytes] | None" = None,
) -> "tuple[Report, list[Picture]]":
    """Load the target, check the claims, explain what fails.

    Args:
        request: What is to be judged.
        begin: Called once the target is loaded, with the report so far and the number of claims.
        checking: Called before every try of a claim, with its seconds of CPU time.
        progress: Called with every result.
        concluding: Called before failures are explained and pictures drawn.
        ahead: Whether a second process may train meanwhile.
        running: The process of an isolated target, if it was started before.

    Raises:
        UserError: If the target, or what comes with it, cannot be loaded.
    """
    from vae_ref.conformance.records import EDITION
    from vae_ref.conformance.runner import (
        as_expected,
        conclude,
        probe_of,
        require_known,
        results,
        select,
    )
    from vae_ref.conformance.trainings.trained import trained_ahead
    from vae_ref.conformance.transfer import result_from

    start = time.perf_counter()
    expected = _expected(Path(request.expect_failures)) if request.expect_failures else {}
    edition = EDITION if request.edition is None else request.edition
    select(request.only, request.level, edition)  # before the target is loaded
    require_known(expected)
    subject = _subject(request, running)
    chosen = select(request.only, request.level, edition, parts=subject.parts)
    with contextlib.ExitStack() as ending:
        if subject.elsewhere:  # before the report is written
            ending.callback(subject.elsewhere.end)
        ready = request.checkpoint is not None
        probe = probe_of(subject, request.seed, ready=ready, edition=edition)
        claims = {claim.id: claim for claim in chosen}
        found = [
            replace(result, claim=claims[result.claim.id])
            for result in map(result_from, request.earlier)
        ]
        done = {result.claim.id for result in found}
        notes: list[Note] = []
        empty = conclude(probe, request.level, [], [], edition=edition, seconds=0.0)
        begin(empty, len(chosen))
        left = [claim for claim in chosen if claim.id not in done]
        if request.isolated:
            from vae_ref.conformance.vigil import watched

            found = [
                as_expected(result, expected) for result in watched(probe, left, notes, progress)
            ]
            left = []
        with trained_ahead(probe, left if ahead else []):
            for result in results(probe, left, notes, expected, begins=checking):
                found.append(result)
                progress(result)
        concluding()
        took = time.perf_counter() - start
        report = conclude(probe, request.level, found, notes, edition=edition, seconds=took)
        if not request.pictures:
            return report, []
        from vae_ref.conformance.reports.charts import pictures

        return report, pictures(probe_of(subject, request.seed))


def main() -> None:
    """Judge as a child of the command; see the module's first lines."""
    from vae_ref.conformance.supervisor import Messenger, limit_memory

    messenger = Messenger(int(sys.argv[1]))
    request = Request(**json.load(sys.stdin))
    sys.argv[1:] = []
    limit_memory(request.memory)
    from vae_ref.conformance.guards import kind_and_message, patience
    from vae_ref.conformance.transfer import plain
    from vae_ref.support.denormals import denormals_flushed

    def checking(claim: "Claim", seconds: float) -> None:
        messenger.send("checking", claim=plain(claim), patience=patience(seconds))

    try:
        with denormals_flushed():
            report, pictures = judge(
                request,
                begin=lambda report, count: messenger.send(
                    "begin", report=plain(report), count=count
                ),
                checking=checking,
                progress=lambda result: messenger.send("result", result=plain(result)),
                concluding=lambda: messenger.send("concluding", patience=patience(_CONCLUDING)),
                ahead=True,
            )
        messenger.send("report", report=plain(report), pictures=plain(pictures))
    except (UserError, OSError) as error:
        messenger.send("refused", message=str(error))
    except Exception as error:
        messenger.send("fault", message=kind_and_message(error))


def _subject(request: Request, running: "subprocess.Popen[bytes] | None") -> "Subject":
    """Return the subject on its course, with its weights."""
    subject = _loaded(request, running)
    if request.train or request.checkpoint:
        subject = _on_course(subject, request.train or "mnist", Path(request.data))
    if request.checkpoint:
        from vae_ref.bridge.weights import load_weights

        load_weights(subject, Path(request.checkpoint))
    return subject


def _loaded(request: Request, running: "subprocess.Popen[bytes] | None") -> "Subject":
    from vae_ref.conformance.loading.recognition import load

    declared = request.declared
    if request.command is not None:
        from vae_ref.conformance.loading.process import subject_of_process

        subject = subject_of_process(request.command)
        return replace(subject, conventions=subject.conventions.declaring(declared))
    if request.target is not None and request.isolated:
        from vae_ref.conformance.loading.isolated import isolated
        from vae_ref.conformance.loading.spawning import close_memory

        _import_all(pictures=request.pictures)
        close_memory()
        return isolated(request.target, declared, memory=request.memory, running=running)
    if request.target is not None:
        return load(request.target, declared, batch=request.batch)
    if declared:
        raise InputError("--declare", "come with a TARGET", request.declarations[0], "Name one.")
    from vae_ref.bridge.reference import reference

    return reference(seed=request.seed)


def _import_all(*, pictures: bool) -> None:
    """Import now what is otherwise imported where it is used: files may be others later."""
    from vae_ref.conformance.diagnosis.explain import kill_matrix

    kill_matrix()
    reports = "vae_ref.conformance.reports"
    names = [
        "vae_ref.conformance.vigil",
        f"{reports}.files",
        f"{reports}.terminal",
    ]
    drawing = [f"{reports}.charts", f"{reports}.html", "latex2mathml.converter"]
    for name in [*names, *(drawing if pictures else [])]:
        importlib.import_module(name)


def _on_course(subject: "Subject", name: CourseName, data: Path) -> "Subject":
    from vae_ref.bridge.courses import glyphs_course, mnist_course
    from vae_ref.data import DataError

    if subject.module is None:
        raise InputError("TARGET", "have a module to train", subject.name, "Leave out --train.")
    if name == "glyphs":
        return replace(subject, course=glyphs_course)
    try:
        course = mnist_course(data)
    except DataError as error:
        raise DataError(
            f"{error} Name a torchvision root with --data or VAE_REF_DATA, or use --train glyphs."
        ) from error
    return replace(subject, course=lambda: course)


def _expected(file: Path) -> dict[str, str]:
    """Read known failures: one line for each claim, with its id, a colon and a reason."""
    expected: dict[str, str] = {}
    with file.open("rb") as stream:
        content = stream.read(_EXPECTED_BYTES + 1)
    if len(content) > _EXPECTED_BYTES:
        raise InputError(str(file), "have at most 1 MiB", "more", "Name a file of claim ids.")
    try:
        whole = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        rule, remedy = "be text in UTF-8", "One line for each claim: its id, a colon, a reason."
        raise InputError(str(file), rule, "other bytes", remedy) from None
    if found := re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", whole):
        value = f"{found[0]!r} in line {whole.count(chr(10), 0, found.start()) + 1}"
        raise InputError(str(file), "be text without control characters", value, "Remove them.")
    # A comment begins with # and a space; #12 is an issue.
    for line in whole.splitlines():
        text = re.sub(r"(^|\s)#(\s.*)?$", "", line).strip()
        identifier, colon, reason = (part.strip() for part in text.partition(":"))
        if text and not (colon and reason):
            raise InputError(str(file), "give a reason after a colon", text, "Say why it fails.")
        if identifier in expected:
            raise InputError(str(file), "name a claim once", identifier, "Remove a line.")
        if text:
            expected[identifier] = reason
    return expected
