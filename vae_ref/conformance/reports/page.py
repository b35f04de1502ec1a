"""Lines on a terminal: wrapped at its width, with words and code in one piece."""

import re
from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from vae_ref.conformance.reports.wording import printable
from vae_ref.support.messages import say, translated

__all__ = ["Page", "padded", "wrapped"]

_COLUMN = 26
"""The longest name that has a column of its own; after a longer one, the text has its own line."""

_HAN = "\u2e80-\u2fff\u3040-\u9fff\uf900-\ufaff"
_BEGIN, _END = "（《“‘「〔", "，。；：、？！）》”’」〕…—"
_UNIT = re.compile(rf"\s|[{_BEGIN}]*(?:[{_HAN}]|[^\s{_HAN}{_BEGIN}{_END}]+)[{_END}]*|.")
"""What is never divided: a word, or a Chinese character with the punctuation that it keeps."""


def padded(text: str, width: int) -> str:
    """Return a text with spaces up to a width; a Chinese character is two columns wide."""
    return set_cell_size(text, max(width, cell_len(text)))


def wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Wrap a text; what is longer than a line has one of its own.

    Args:
        text: The text; every white space in it is a space.
        width: The columns of a line.
        first: What the first line begins with.
        rest: What all other lines begin with.

    Example:
        >>> wrapped("The sum of terms.", 12, rest="  ")
        ['The sum of', '  terms.']
        >>> wrapped("对各项求和（不是平均）。", 12)
        ['对各项求和', '（不是平', '均）。']
    """
    lines, line, is_empty, spaces = list[str](), first, True, ""
    for unit in _UNIT.findall(text.expandtabs()):
        if unit.isspace():
            spaces += " "
        elif is_empty or cell_len(line + spaces + unit) <= width:
            line += spaces + unit
            is_empty, spaces = False, ""
        else:
            lines.append(line)
            line, spaces = rest + unit, ""
    return [*lines, line] if not is_empty else lines


class Page:
    """Prints lines on a console, wrapped, every text as it is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.width = max(console.width, 40)

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line without wrapping it."""
        encoding = self._console.encoding
        text = printable(text).encode(encoding, "backslashreplace").decode(encoding)
        self._console.print(Text(text, style), soft_wrap=True, highlight=False)

    def paragraph(self, text: str, label: str = "", indent: int = 0, style: str = "") -> None:
        """Print a wrapped text; its other lines are indented like its first."""
        first, rest = " " * indent, " " * (indent + cell_len(label))
        for line in wrapped(f"{label}{printable(text)}", self.width, first, rest):
            self.line(line, style)

    def section(self, title: str, items: Iterable[tuple[str, str]]) -> None:
        """Print pairs under a title, or nothing if there are none."""
        pairs = [(translated(name), translated(text)) for name, text in items]
        if not pairs:
            return
        self.line(say(title), "bold")
        longest = max(cell_len(name) for name, _ in pairs)
        for name, text in pairs:
            if longest <= _COLUMN:
                self.paragraph(text, label=f"{padded(printable(name), longest)}  ", indent=2)
            else:
                self.paragraph(say("{name}:", name=name), indent=2)
                self.paragraph(text, indent=6)
        self.line()
