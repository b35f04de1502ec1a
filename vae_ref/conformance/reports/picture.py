"""A picture of a report: what it shows, and the reason if there is none."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Picture", "Width"]

Width = Literal["third", "half", "whole"]


@dataclass(frozen=True)
class Picture:
    """A picture, or the reason why there is none.

    Attributes:
        title: What it shows.
        caption: What to see in it; of a picture that is missing, why.
        svg: The picture; empty if it is missing.
        width: The share of the page's width that it takes.
    """

    title: str
    caption: str
    svg: str
    width: Width
