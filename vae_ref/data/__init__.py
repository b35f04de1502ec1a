"""Image sets, kept as bytes: MNIST and Fashion-MNIST from files, glyphs drawn on the fly."""

from vae_ref.data.idx import fashion_mnist, mnist
from vae_ref.data.images import DataError, ImageSet

__all__ = ["DataError", "ImageSet", "fashion_mnist", "mnist"]
