"""The commands vectors and grade: numbers that any implementation can be held against."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["grade_command", "vectors_command"]

_WRONG, _UNDECIDED = 1, 3


def vectors_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write them.")],
    blind: Annotated[
        bool, typer.Option("--blind", help="Write the questions without the answers.")
    ] = False,
) -> None:
    """Write golden vectors: inputs and right answers with 40 digits, as JSON with its schema.

    With --blind, only the questions are written, to questions.jsonl. Another implementation, in
    any language, answers them in answers.jsonl, and vae-ref grade DIR says what is wrong.
    """
    from vae_ref.conformance.vectors import documents
    from vae_ref.support.atomic import replacing

    folder.mkdir(parents=True, exist_ok=True)
    files = [documents.FOLDER / f"{name}.json" for name in documents.NAMES]
    for source in [*documents.WEIGHTS, *([] if blind else [*files, documents.SCHEMA])]:
        with replacing(folder / source.name) as file:
            file.write(source.read_bytes())
    if blind:
        from vae_ref.conformance.vectors import grading  # which imports torch

        count = grading.write_questions(folder)
        typer.echo(f"{count} questions in {folder / grading.QUESTIONS}")
        return
    cases = sum(len(documents.load(name)["cases"]) for name in documents.NAMES)
    typer.echo(f"{len(files)} files with {cases} cases, and their schema, in {folder}")


def grade_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where answers.jsonl is.")],
    single: Annotated[
        bool, typer.Option("--float32", help="The answers were computed in single precision.")
    ] = False,
) -> int:
    """Grade answers.jsonl, the answers to the questions that vectors --blind has written.

    The status is 0 if all answers are right or unsupported, 1 if one is wrong or missing, and 3 if
    there is no right one.
    """
    from rich.console import Console
    from rich.table import Table

    from vae_ref.conformance.vectors.grading import grade

    table = Table("quantity", "right", "wrong", "missing", "unsupported", box=None)
    grades = grade(folder, "float32" if single else "float64")
    for name, of in grades.items():
        counts = [str(of.counts[v]) for v in ("right", "wrong", "missing", "unsupported")]
        table.add_row(name, *counts)
    Console().print(table)
    for name, of in grades.items():
        for key, why in of.wrong.items():
            typer.echo(f"{key}: {why}")
        if of.like:
            typer.echo(f"{name}: these are the answers of {', '.join(of.like)}")
    if any(of.counts["wrong"] or of.counts["missing"] for of in grades.values()):
        return _WRONG
    return 0 if any(of.counts["right"] for of in grades.values()) else _UNDECIDED
