"""A picture in a report, or the reason why it is missing."""

from dataclasses import dataclass

__all__ = ["Picture"]


@dataclass(frozen=True)
class Picture:
    """A picture, or the reason why it is missing.

    Attributes:
        title: What the picture shows.
        caption: What can be seen in the picture; why it is missing, if it is.
        svg: The picture; empty if it is missing.
    """

    title: str
    caption: str
    svg: str
