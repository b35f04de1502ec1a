"""A picture in a report, or the reason why it is missing."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Picture", "Width"]

Width = Literal["third", "half", "whole"]


@dataclass(frozen=True)
class Picture:
    """A picture, or the reason why it is missing.

    Attributes:
        title: What the picture shows.
        caption: What can be seen in the picture; why it is missing, if it is.
        svg: The picture; empty if it is missing.
        width: The share of the page's width that the picture takes.
    """

    title: str
    caption: str
    svg: str
    width: Width
