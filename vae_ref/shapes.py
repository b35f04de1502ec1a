"""Names for the shapes of tensors.

A name stands for the same axis everywhere: ``batch`` for independent examples, ``pixels`` for the
numbers of one image, ``latent`` for the coordinates of a code. ``*batch`` is any number of axes,
even none, so every function also takes a single example without a batch axis. The annotations are
documentation; the test suite checks them at run time.
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

# The following may have additional leading axes, for several draws per example.
Noise = Float[Tensor, "... latent"]
Outputs = Float[Tensor, "... pixels"]
PerDraw = Float[Tensor, "..."]

# Images, flat or with axes for channels, height and width.
Images = Float[Tensor, "..."]

ImageBytes = UInt8[Tensor, "examples pixels"]
Labels = Int[Tensor, "examples"]
Order = Int[Tensor, "examples"]
