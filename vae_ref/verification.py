"""The commands ``vae-ref verify`` and ``vae-ref claims``."""

import json
import re
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from vae_ref.checks import InputError
from vae_ref.conformance.bench import Bench
from vae_ref.conformance.recognition import TargetError, load
from vae_ref.conformance.records import Report, Result
from vae_ref.conformance.registry import all_claims
from vae_ref.conformance.report import as_json, as_junit, write
from vae_ref.conformance.runner import UnknownClaimError, select, verify
from vae_ref.conformance.subject import DeclarationError, Subject
from vae_ref.courses import CourseName, glyphs_course, mnist_course
from vae_ref.data import DataError
from vae_ref.weights import load_weights

__all__ = ["MISUSE", "claims_command", "verify_command"]

_SEED_DIGITS, _EXPECTED_BYTES = 100, 1 << 20

MISUSE = (TargetError, UnknownClaimError, DeclarationError)
"""What the user has to put right; the command ends with status 2."""


def _file(name: str, what: str) -> Any:
    return typer.Option(f"--{name}", metavar="FILE", help=f"Write the report there as {what}.")


def verify_command(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]",
            help="module, module:name, file.py or file.py:name; without it, the reference.",
            show_default=False,
        ),
    ] = None,
    *,
    only: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Claims to check, such as 'kl/*'.")
    ] = None,
    seed: Annotated[
        str, typer.Option(metavar="N|fresh", help="Of all draws; fresh draws one and prints it.")
    ] = "0",
    declare: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A convention that differs, such as beta=4."),
    ] = None,
    expect_failures: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Known failures, one a line: claim id, colon, reason."),
    ] = None,
    level: Annotated[
        Literal["standard", "trained"] | None,
        typer.Option(help="trained also trains it.", show_default="trained for the reference"),
    ] = None,
    train: Annotated[
        CourseName | None,
        typer.Option(
            help="Train on these images and hold the result against the reference's seeds. "
            "glyphs need no download; mnist takes minutes.",
            show_default="glyphs for the reference",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Trained weights, a state dict of torch or safetensors: they are scored, on "
            "mnist unless --train says otherwise, and nothing is trained.",
        ),
    ] = None,
    data: Annotated[
        Path,
        typer.Option(envvar="VAE_REF_DATA", metavar="DIR", help="A torchvision root with MNIST."),
    ] = Path("data"),
    measures: Annotated[
        bool, typer.Option("--measures", help="Print all that was measured, with intervals.")
    ] = False,
    json_file: Annotated[Path | None, _file("json", "JSON")] = None,
    junit: Annotated[Path | None, _file("junit", "JUnit XML")] = None,
    html: Annotated[Path | None, _file("html", "one HTML page, with pictures")] = None,
) -> None:
    """Hold a VAE against every claim, and name its bug.

    A file in the textbook's form needs no adapter: a class VAE with encode, reparameterize,
    decode and forward, and a function loss_function(recon_x, x, mu, logvar). Anything else is a
    vae_ref.conformance.Subject. Ends with status 0 if every claim that applies holds, 1 if one
    does not or could not be decided, 2 if the target cannot be loaded.

    Try: vae-ref verify my_model.py --html report.html
    """
    from vae_ref.conformance.terminal import show

    chosen = _seed(seed)
    subject = _subject(target, declare or [], chosen)
    if train or checkpoint:
        subject = _on_course(subject, train or "mnist", data)
    if checkpoint:
        load_weights(subject, checkpoint)
    expected = _expected(expect_failures) if expect_failures else {}
    waiting = Console(file=sys.stderr)  # the stream itself: what is printed later is the subject's
    with waiting.status("verifying") as status:

        def progress(result: Result) -> None:
            status.update(f"verified {result.claim.id}")

        report = verify(
            subject,
            only=only,
            seed=chosen,
            level=level or ("standard" if target and not (train or checkpoint) else "trained"),
            expected_failures=expected,
            ready=checkpoint is not None,
            progress=progress,
        )
    show(report, Console(), measures=measures)
    if json_file:
        write(json_file, json.dumps(as_json(report), indent=1, allow_nan=False) + "\n")
    if junit:
        write(junit, as_junit(report))
    if html:
        from vae_ref.conformance.html import as_html

        write(html, as_html(report, Bench(subject, chosen)))
    sys.exit(_status(report))


def claims_command(
    only: Annotated[
        str | None, typer.Argument(metavar="[GLOB]", help="Claims to show, such as 'kl/*'.")
    ] = None,
) -> None:
    """List the claims; one claim alone is shown in full."""
    chosen = select(only, "trained")
    if len(chosen) == 1:
        claim = chosen[0]
        for name in ("id", "statement", "formula", "source", "kind", "tolerance", "level"):
            print(f"{name:10} {getattr(claim, name)}")
        for name in ("needs", "kills", "builds_on"):
            print(f"{name:10} {', '.join(getattr(claim, name))}")
        print(f"{'limit':10} {claim.seconds:g} s")
        return
    for claim in chosen:
        print(f"{claim.id:45} {claim.kind:12} {claim.statement}")
    print(f"{len(chosen)} of {len(all_claims())} claims")


def _status(report: Report) -> int:
    return int(report.verdict == "violated" or "inconclusive" in report.counts)


def _subject(target: str | None, declarations: list[str], seed: int) -> Subject:
    pairs = [text.partition("=") for text in declarations]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise InputError("--declare", "be KEY=VALUE", wrong[0], "For example --declare beta=4.")
    declared = {key: value for key, _, value in pairs}
    if target is not None:
        return load(target, declared)
    if declared:
        raise InputError("--declare", "come with a TARGET", declarations[0], "Name one.")
    from vae_ref.reference import reference

    return reference(seed=seed)


def _on_course(subject: Subject, name: CourseName, data: Path) -> Subject:
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


def _seed(text: str) -> int:
    if text == "fresh":
        return secrets.randbelow(2**31)
    if not text.isdecimal():
        raise InputError("--seed", "be a number or fresh", text, "Use 0, 1, 2, ...")
    if len(text) > _SEED_DIGITS:
        raise InputError("--seed", f"have at most {_SEED_DIGITS} digits", text, "Use 0, 1, 2, ...")
    return int(text)


def _expected(file: Path) -> dict[str, str]:
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
