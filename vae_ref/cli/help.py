"""Help texts: wrapped at the terminal's width, and in the language of the user."""

import re
from collections.abc import Sequence
from typing import Any

import typer
from rich.cells import cell_len
from typer.core import TyperCommand, TyperGroup

from vae_ref.conformance.reports.page import padded, wrapped
from vae_ref.support.messages import say, translated

__all__ = ["Command", "Group", "paragraphs"]

_MARGIN = 2
_WIDEST = 24
"""The longest name of an option that shares its line with the text."""


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a help text, whose lines are wherever its source has them."""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


class _Formatter(typer.Context.formatter_class):  # type: ignore[misc, valid-type]
    """Writes paragraphs and lists, in which a Chinese character is two columns wide."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, prefix or say("Usage: "))

    def write_heading(self, heading: str) -> None:
        self.write(say("{name}:", name=translated(heading)) + "\n")

    def write_text(self, text: str) -> None:
        indent = " " * self.current_indent
        self.write("\n".join(self._wrapped(text, self.width, indent)) + "\n")

    def write_dl(self, rows: Sequence[tuple[str, str]], *_: Any, **__: Any) -> None:
        longest = max(cell_len(name) for name, _ in rows if cell_len(name) <= _WIDEST)
        margin = " " * (_MARGIN + longest + 2)
        for name, text in rows:
            lines = self._wrapped(text, self.width, margin)
            if cell_len(name) <= longest:
                lines[0] = f"{' ' * _MARGIN}{padded(name, longest)}  {lines[0].lstrip()}"
            else:
                lines.insert(0, f"{' ' * _MARGIN}{name}")
            self.write("\n".join(lines) + "\n")

    def _wrapped(self, text: str, width: int, margin: str) -> list[str]:
        """Translate the paragraphs of a text, and what typer appends to it in brackets."""
        lines: list[str] = []
        text, extra = re.fullmatch(r"(.*?)(?:  \[(.*)\])?", text, re.DOTALL).groups()  # type: ignore[union-attr]
        for paragraph in paragraphs(text):
            said = translated(paragraph)
            if extra and paragraph == paragraphs(text)[-1]:
                said += f"  [{'; '.join(map(_remark, extra.split('; ')))}]"
            lines += [*([""] if lines else []), *wrapped(said, width, margin, margin)]
        return lines


def _remark(text: str) -> str:
    """Translate what typer says of an option; a default that is a sentence is in brackets."""
    return translated(re.sub(r"^default: \((.*)\)$", r"default: \1", text))


class _Context(typer.Context):
    formatter_class = _Formatter


class Command(TyperCommand):
    """A command."""

    context_class = _Context


class Group(TyperGroup):
    """The command that has the others."""

    context_class = _Context

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the names of the commands with the first paragraph of each."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, paragraphs(c.help or "")[0]) for name, c in self.commands.items()]
            )
