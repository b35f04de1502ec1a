"""Say the project's sentences in the language of whoever reads the terminal.

All sentences are written in English, where they belong. A catalogue beside this module, such as
``zh_CN.po``, has them in another language; what it lacks is said in English. Only the command
and a printed audit speak it: between the processes, in JSON and in JUnit everything is English in
every locale.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["in_english", "read", "say", "spoken", "translated"]

_spoken: Mapping[str, str] = {}
"""The catalogue of the language that is spoken now; empty if that is English."""


@contextmanager
def spoken(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Speak the language that the environment asks for, if there is a catalogue for it."""
    with _speaking(_catalogue(environment)):
        yield


@contextmanager
def in_english() -> Iterator[None]:
    """Speak English, for what machines read."""
    with _speaking({}):
        yield


def say(sentence: str, **values: Any) -> str:
    """Return a sentence in the language that is spoken, with values in their places.

    Example:
        >>> say("{part} holds", part="kl")
        'kl holds'
    """
    return _spoken.get(sentence, sentence).format(**values)


def translated(text: str) -> str:
    """Return a finished English text in the language that is spoken.

    The catalogue has the text itself or its template, such as ``there is no {0}``. A phrase in the
    place of a value is translated, too; a single word there is a name. What the catalogue lacks
    is returned as it is.
    """
    if not _spoken or text in _spoken:
        return _spoken.get(text, text)
    for parts, pattern, template in _templates(tuple(t for t in _spoken if "{0}" in t)):
        if all(part in text for part in parts) and (found := re.fullmatch(pattern, text, re.S)):
            values = (translated(v) if " " in v else v for v in found.groups())
            return _spoken[template].format(*values)
    return text


def read(file: Path) -> dict[str, str]:
    """Read the translations of a catalogue: pairs of msgid and msgstr, as gettext writes them."""
    catalogue: dict[str, str] = {}
    pair = {"msgid": "", "msgstr": ""}
    keyword = "msgid"
    for line in (*file.read_text("utf-8").splitlines(), 'msgid ""'):
        word, quote, rest = line.partition('"')
        if not quote or word.startswith("#"):
            continue
        if word.strip() == "msgid":
            if pair["msgid"] and pair["msgstr"]:
                catalogue[pair["msgid"]] = pair["msgstr"]
            pair = {"msgid": "", "msgstr": ""}
        keyword = word.strip() or keyword
        pair[keyword] += json.loads(quote + rest)
    return catalogue


@contextmanager
def _speaking(catalogue: Mapping[str, str]) -> Iterator[None]:
    global _spoken  # noqa: PLW0603 - one terminal, one language
    before, _spoken = _spoken, catalogue
    try:
        yield
    finally:
        _spoken = before


def _catalogue(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Follow gettext: LANGUAGE is a list, and the locale C, as scripts set it, is English."""
    variables = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((environment[name] for name in variables if environment.get(name)), "")
    if locale.partition(".")[0] in ("C", "POSIX"):
        return {}
    for language in (environment.get("LANGUAGE") or locale).split(":"):
        if language.startswith("en"):
            return {}
        if language and (file := _file(language)).is_file():
            return read(file)
    return {}


def _file(language: str) -> Path:
    from locale import normalize

    name = re.split("[.@]", normalize(language))[0]
    return Path(__file__).with_name(f"{Path(name).name}.po")


@cache
def _templates(templates: tuple[str, ...]) -> list[tuple[list[str], str, str]]:
    """Return their fixed parts and a pattern for each, from the most definite on."""
    known = []
    for template in templates:
        parts = re.split(r"\{\d\}", template)
        known.append((parts, "(.+?)".join(map(re.escape, parts)), template))
    return sorted(known, key=lambda entry: -len("".join(entry[0])))
