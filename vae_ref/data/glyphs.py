r"""Draw the ten digits with a font that comes with Pillow, so nothing has to be downloaded.

Seven factors change the digit of an image: two for the shift, and one each for rotation, scale,
shear, stroke and blur. The labels contain them, so it is known exactly how the data are generated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref.data import ImageSet
from vae_ref.plan import Plan
from vae_ref.support.errors import InputError

__all__ = ["FACTORS", "glyphs"]

SIDE = 28
_DIGIT_HEIGHT = 20.0  # pixels, as in MNIST

#: Name of a factor -> the interval from which it is drawn uniformly.
FACTORS = {
    "shift_x": (-3.0, 3.0),  # pixels to the right
    "shift_y": (-3.0, 3.0),  # pixels down
    "rotation": (-0.3, 0.3),  # radians, anticlockwise
    "scale": (0.75, 1.1),
    "shear": (-0.3, 0.3),  # pixels to the right per pixel upwards
    "stroke": (0.0, 4.0),  # sixths of a pixel added to the outline, rounded down
    "blur": (0.3, 0.9),  # standard deviation in pixels
}


def glyphs(count: int = 60_000, *, seed: int = 0) -> ImageSet:
    r"""Draw digits at 28 x 28 pixels, with their generating factors as labels.

    Args:
        count: The number of images. A smaller set is the beginning of a larger one with the same
            seed.
        seed: The seed of the images. (On a processor with other instructions, one pixel in a
            hundred thousand differs by one level, because of rounding.)

    Returns:
        An ``ImageSet`` whose labels are the digits, with the factors by name.

    Raises:
        InputError: If ``count`` is negative.

    Example:
        >>> data = glyphs(100, seed=0)
        >>> data.images.shape, data.images.dtype, sorted(data.factors)[:3]
        (torch.Size([100, 784]), torch.uint8, ['blur', 'rotation', 'scale'])
    """
    if count < 0:
        raise InputError("count", "not be negative", count, "Ask for 0 or more images.")
    with torch.device("cpu"):  # whose generator it is, whatever torch's default device
        return _glyphs(count, Plan(seed).generator("glyphs"))


def _glyphs(count: int, generator: torch.Generator) -> ImageSet:
    drawn = torch.rand(count, 1 + len(FACTORS), generator=generator, dtype=torch.float32)
    labels = (drawn[:, 0] * 10).long()
    factors = {
        name: low + (high - low) * drawn[:, column]
        for column, (name, (low, high)) in enumerate(FACTORS.items(), start=1)
    }
    factors["stroke"] = factors["stroke"].floor()

    images = torch.empty(count, SIDE * SIDE, dtype=torch.uint8)
    strokes = range(int(FACTORS["stroke"][1]))
    for digit in range(10):
        for stroke in strokes:
            chosen = ((labels == digit) & (factors["stroke"] == stroke)).nonzero()[:, 0]
            template = _template(str(digit), stroke)
            for index in chosen.split(1024) if len(chosen) else ():  # keeps the memory small
                rows = {name: values[index] for name, values in factors.items()}
                images[index] = _render(template, rows)
    return ImageSet(images, labels, (SIDE, SIDE), factors)


def _template(digit: str, stroke: int) -> Tensor:
    """Draw one digit upright and centred, at twice the size of an image."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    zoom = 4  # drawn even larger, then averaged, for smooth edges
    font = ImageFont.load_default(1.3 * _DIGIT_HEIGHT * zoom)  # a digit is 1 / 1.3 em high
    canvas = Image.new("L", (SIDE * zoom, SIDE * zoom))
    draw = ImageDraw.Draw(canvas)
    left, top, right, bottom = draw.textbbox((0, 0), digit, font=font)
    corner = ((canvas.width - left - right) / 2, (canvas.height - top - bottom) / 2)
    draw.text(corner, digit, fill=255, font=font, stroke_width=stroke * zoom / 6)
    return F.avg_pool2d(torch.from_numpy(np.array(canvas)).float()[None] / 255, zoom // 2)[0]


def _render(template: Tensor, factors: dict[str, Tensor]) -> Tensor:
    """Apply an affine map and a blur to the template, different ones for every image."""
    count = len(factors["scale"])
    # The map takes a pixel of the image back to the template: it undoes the shift, then rotation
    # and scale, then the shear. Coordinates run from -1 to 1 over the image, y downwards.
    cos, sin = factors["rotation"].cos(), factors["rotation"].sin()
    back = torch.stack([cos, -sin, sin, cos], -1).view(count, 2, 2)
    unshear = torch.eye(2, dtype=torch.float32).repeat(count, 1, 1)
    unshear[:, 0, 1] = factors["shear"]
    linear = unshear @ back / factors["scale"].view(count, 1, 1)
    shift = torch.stack([factors["shift_x"], factors["shift_y"]], -1)[:, :, None] * (2 / SIDE)
    theta = torch.cat([linear, -linear @ shift], -1)
    grid = F.affine_grid(theta, [count, 1, SIDE, SIDE], align_corners=False)
    # All images are looked up in the template at once, as one tall picture. The template's pixels
    # are half as wide as the image's, so interpolation smooths over just one pixel of the image.
    grid = grid.view(1, count * SIDE, SIDE, 2)
    tall = F.grid_sample(template[None, None], grid, align_corners=False)
    images = _blur(tall.view(count, SIDE, SIDE), factors["blur"])
    return images.mul(255).round().clamp(0, 255).to(torch.uint8).flatten(1)


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Convolve each image with its own Gaussian, one axis after the other."""
    reach = 3
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]).square())
    kernel = kernel / kernel.sum(-1, keepdim=True)
    for _ in range(2):
        padded = F.pad(images, (reach, reach))
        windows = padded.unfold(-1, 2 * reach + 1, 1)  # (count, SIDE, SIDE, kernel)
        images = torch.einsum("nhwk,nk->nhw", windows, kernel).mT
    return images
