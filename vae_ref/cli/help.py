"""Help texts that flow, and that are in the language of the user."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

from vae_ref.support.messages import say, translated

__all__ = ["Command", "Group", "paragraphs"]

_TITLES = (
    "ARGUMENTS_PANEL_TITLE",
    "OPTIONS_PANEL_TITLE",
    "COMMANDS_PANEL_TITLE",
    "DEFAULT_STRING",
    "ENVVAR_STRING",
    "REQUIRED_LONG_STRING",
)
"""What typer itself says in a help text."""


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a help text, whose lines are wherever its source has them."""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _said(text: str | None) -> str | None:
    return text and "\n\n".join(map(translated, paragraphs(text)))


class _Help:
    """Says the texts of a command, when its help is asked for."""

    def get_usage(self, ctx: Any) -> str:
        usage: str = super().get_usage(ctx)  # type: ignore[misc]
        return usage.replace("Usage: ", say("Usage: "), 1)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from typer import rich_utils

        for title in _TITLES:
            setattr(rich_utils, title, translated(getattr(rich_utils, title)))
        for command in (self, *getattr(self, "commands", {}).values()):
            command.help = _said(command.help)
        for parameter in self.get_params(ctx):  # type: ignore[attr-defined]
            parameter.help = _said(parameter.help)
            if isinstance(parameter.show_default, str):
                parameter.show_default = translated(parameter.show_default)
        super().format_help(ctx, formatter)  # type: ignore[misc]


class Command(_Help, TyperCommand):
    """A command."""


class Group(_Help, TyperGroup):
    """The command that has the others."""
