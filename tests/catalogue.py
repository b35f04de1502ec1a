"""The sentences that can be said in another language, and the catalogue's upkeep.

`python -m tests.catalogue` adds to every catalogue the sentences that it lacks, without
translations, and removes those that nothing says any more.
"""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import typer
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

import vae_ref
from vae_ref.cli.app import app
from vae_ref.cli.help import paragraphs
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.records import TEXTBOOK, Diagnosis, Kind, Level, Result, Verdict
from vae_ref.conformance.reports import terminal, wording

EXAMPLE = ("expected", "got", "index", "tolerance")
_HEADER = """# The sentences of vae_ref in another language; see tests/catalogue.py.
msgid ""
msgstr "Language: {language}\\nContent-Type: text/plain; charset=utf-8\\n"

"""
_FIXED = 6
"""The fixed characters of a template: almost any text is one of the template {0}, {1}."""

PACKAGE = Path(vae_ref.__file__).parent
FOLDER = PACKAGE / "support"


@functools.cache
def required() -> dict[str, str]:
    """Return the sentences that a catalogue has to have, with where each is said."""
    said = {claim.statement: claim.id for claim in all_claims() if claim.part in TEXTBOOK}
    said |= {bug.explanation: bug.id for bug in BANK.values() if bug.part in TEXTBOOK}
    said |= dict.fromkeys(_help(), "help")
    words = [*wording.STATUS.values(), *(title for title, _ in terminal._OPEN), *_labels()]
    words += [word for names in (Kind, Level, Verdict) for word in get_args(names)]
    said |= dict.fromkeys(words, "word")
    keywords = {"say": None, "section": None}
    found = extract_from_dir(PACKAGE, [("**.py", "python")], keywords=keywords)
    return said | {text: file for file, _, text, _, _ in found}


def stale(catalogue: Catalog) -> list[str]:
    """Return what nothing says: no sentence, no text and no template of the sources."""
    sources = [*PACKAGE.rglob("*.py"), *Path(typer.__file__).parent.rglob("*.py")]
    texts = {text for file in sources for text in _texts(file)}
    said = {*required(), *texts, *(claim.tolerance for claim in all_claims())}
    said |= {claim.statement for claim in all_claims()}
    said |= {bug.explanation for bug in BANK.values()}
    templates = {
        text for text in texts if "{0}" in text and len(re.sub(r"\{\d\}", "", text)) >= _FIXED
    }
    return [
        message.id
        for message in catalogue
        if message.id and message.id not in said and not _is_template(message.id, templates)
    ]


def _is_template(text: str, templates: set[str]) -> bool:
    """Whether a text is a template of the sources, or one with some of its places filled."""
    return any(
        _pattern(text).fullmatch(template) or _pattern(template).fullmatch(text)
        for template in templates
    )


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile("(.*?)".join(map(re.escape, re.split(r"\{\d\}", template))), re.DOTALL)


def catalogues() -> list[Path]:
    return sorted(FOLDER.glob("*.po"))


def read(file: Path) -> Catalog:
    with file.open("rb") as stream:
        return read_po(stream, locale=file.stem)


def _labels() -> set[str]:
    """Return the labels of a report on a failure that has everything."""
    texts = dict.fromkeys(("bug", "explanation", "yours", "right"), "?")
    failure = Result(
        claim=all_claims()[0],
        status="fail",
        message="?",
        counterexample=dict.fromkeys(EXAMPLE, 1),
        explained_by="?",
        diagnosis=Diagnosis(score=1.0, links=("?",), **texts),
    )
    return {*EXAMPLE, *(label for label, _ in wording.rows(failure))} - set(terminal._LEFT_OUT)


def _help() -> Iterator[str]:
    group = typer.main.get_command(app)
    for command in (group, *group.commands.values()):
        context = typer.Context(command)
        for text in (command.help, *(p.help for p in command.get_params(context))):
            yield from paragraphs(text) if text else ()
        for parameter in command.params:
            if isinstance(parameter.show_default, str):
                yield parameter.show_default


def _texts(file: Path) -> Iterator[str]:
    """Yield the literals of a file; in an f-string, {0} stands for the first value, and so on."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
            yield re.sub(r"\{[^{}]*\}", _counter(), node.value)
            yield from paragraphs(node.value)
        elif isinstance(node, ast.JoinedStr):
            number = _counter()
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else number(None)
                for part in node.values
            )


def _counter():
    numbers = iter(range(100))
    return lambda _: f"{{{next(numbers)}}}"


def write(file: Path, catalogue: Catalog) -> None:
    with file.open("wb") as stream:
        stream.write(_HEADER.format(language=file.stem).encode())
        write_po(stream, catalogue, width=100, omit_header=True)


def main() -> None:
    for file in catalogues():
        old, new = read(file), Catalog(file.stem)
        gone = stale(old)
        known = {m.id: m.auto_comments for m in old if m.id and m.id not in gone}
        for text, places in (known | {t: [place] for t, place in required().items()}).items():
            new.add(text, old[text].string if text in old else "", auto_comments=places)
        write(file, new)


if __name__ == "__main__":
    main()
