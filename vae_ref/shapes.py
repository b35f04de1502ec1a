"""The vocabulary of tensor shapes.

A name stands for the same axis everywhere: ``batch`` for independent examples, ``pixels`` for
the numbers of one image, ``latent`` for the coordinates of a code. ``*batch`` may be any number
of axes, none included, so that every function also takes one bare example. The annotations are
documentation; the test suite has them checked at run time.
"""

from jaxtyping import Float, Int, UInt8
from torch import Tensor

__all__ = [
    "Codes",
    "ImageBytes",
    "Images",
    "Labels",
    "Noise",
    "Order",
    "Outputs",
    "PerDraw",
    "PerExample",
    "Pixels",
    "Scalar",
]

Pixels = Float[Tensor, "*batch pixels"]
Codes = Float[Tensor, "*batch latent"]
PerExample = Float[Tensor, "*batch"]
Scalar = Float[Tensor, ""]

# With leading axes of their own, the following hold several draws for each example.
Noise = Float[Tensor, "... latent"]
Outputs = Float[Tensor, "... pixels"]
PerDraw = Float[Tensor, "..."]

# As images come: flat, or with axes for channels, height and width.
Images = Float[Tensor, "..."]

ImageBytes = UInt8[Tensor, "examples pixels"]
Labels = Int[Tensor, "examples"]
Order = Int[Tensor, "examples"]
