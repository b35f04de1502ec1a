"""Quote a value in a message, whatever it is."""

__all__ = ["excerpt"]


def excerpt(value: object, length: int = 100) -> str:
    r"""Return the text of a value on one line, of a long one its beginning and its end.

    Example:
        >>> excerpt((28, 28)), excerpt("two\nlines")
        ('(28, 28)', 'two\\nlines')
    """
    try:
        text = str(value)
    except ValueError:  # Python writes no more than 4,300 digits
        text = f"a number of {int(value).bit_length():,} bits"  # type: ignore[call-overload]
    if len(text) > length:
        begin, end = text[: length * 3 // 5], text[-length // 5 :]
        return f"{_line(begin)}...{_line(end)} ({len(text):,} characters)"
    return _line(text)


def _line(text: str) -> str:
    """Write control characters and what cannot be printed as Python does in a literal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
