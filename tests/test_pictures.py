import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image
from torchvision.utils import make_grid

from vae_ref import VAE, Autoencoder, Gaussian
from vae_ref.running import pictures
from vae_ref.running.history import Record

ZOOM, TILE = 2, 2 * (28 + 1)


def read(path):
    with Image.open(path) as image:
        return np.array(image.convert("L"))


def tiles(path, rows, columns):
    """Cut a grid back into its tiles of 28 x 28 pixels."""
    image = read(path)
    assert image.shape == (rows * TILE + ZOOM, columns * TILE + ZOOM)
    return [
        [
            image[r * TILE + ZOOM :, c * TILE + ZOOM :][: 28 * ZOOM : ZOOM, : 28 * ZOOM : ZOOM]
            for c in range(columns)
        ]
        for r in range(rows)
    ]


def shown(x):
    """What a picture of these pixels holds."""
    return (x.detach().clamp(0, 1) * 255).round().byte().reshape(28, 28).numpy()


@pytest.mark.parametrize("model", [VAE(), Autoencoder()], ids=["vae", "autoencoder"])
def test_reconstruction_has_originals_above_their_copies(small, tmp_path, model):
    model = model.double()
    pictures.reconstruction(tmp_path / "r.png", model, small[1])
    above, below = tiles(tmp_path / "r.png", 2, 10)
    for digit in range(10):
        first = (small[1].labels == digit).nonzero()[0]
        x = small[1].batch(first, torch.float64)
        assert (above[digit] == shown(x)).all()
        assert (below[digit] == shown(model.decode(model.embed(x)))).all()


def test_samples_are_decoded_noise_in_reading_order(tmp_path):
    model, eps = VAE(), torch.randn(64, 20)
    pictures.samples(tmp_path / "s.png", model, eps, (28, 28))
    grid = tiles(tmp_path / "s.png", 8, 8)
    for n in (0, 1, 8, 63):
        assert (grid[n // 8][n % 8] == shown(model.decode(eps[n]))).all()


def test_a_picture_for_a_notebook_is_the_one_that_is_written(tmp_path):
    model, eps = VAE(), torch.randn(5, 20)
    pictures.samples(tmp_path / "s.png", model, eps, (28, 28))
    shown = pictures.tiles(model.decode(eps), (28, 28), columns=8)
    assert (np.array(shown) == read(tmp_path / "s.png")).all()
    assert shown.size == (5 * TILE + ZOOM, TILE + ZOOM)


@pytest.mark.parametrize("count", [2, 5, 8, 11])
def test_a_grid_is_that_of_torchvision(tmp_path, count):
    model, eps = VAE(), torch.randn(count, 20)
    pictures.samples(tmp_path / "s.png", model, eps, (28, 28))
    images = model.decode(eps).detach().view(-1, 1, 28, 28)
    grid = make_grid(images, nrow=8, padding=1, pad_value=0.25)
    expected = (grid[0] * 255).round().byte().numpy().repeat(ZOOM, 0).repeat(ZOOM, 1)
    assert (read(tmp_path / "s.png") == expected).all()


def test_interpolation_goes_from_one_original_to_another(small, tmp_path):
    model = VAE()
    for parameter in model.parameters():  # so that the way from one code to another is long
        torch.nn.init.normal_(parameter, std=0.1)
    pictures.interpolation(tmp_path / "i.png", model, small[1], steps=4)
    rows = tiles(tmp_path / "i.png", 10, 6)
    x = [
        small[1].batch((small[1].labels == digit).nonzero()[0], torch.float64)
        for digit in range(10)
    ]
    for digit, row in enumerate(rows):
        start, end = x[digit], x[(digit + 1) % 10]
        assert (row[0] == shown(start)).all()
        assert (row[-1] == shown(end)).all()
        third = model.embed(start) * 2 / 3 + model.embed(end) / 3
        difference = row[2].astype(int) - shown(model.decode(third))
        assert abs(difference).max() <= 1


def test_manifold_has_the_first_coordinate_to_the_right_and_the_second_up(tmp_path):
    model = VAE(latent_dim=2)
    # decode to the quantiles: the first in the left half of an image, the second in the right
    model.decode = lambda z: torch.special.ndtr(z).repeat_interleave(14, -1).repeat(1, 28)
    pictures.manifold(tmp_path / "m.png", model, (28, 28), side=4)
    image = read(tmp_path / "m.png")
    assert image.shape == (4 * 56, 4 * 56)
    quantiles = [32, 96, 159, 223]  # (1, 3, 5, 7) / 8 of 255
    assert image[0, 0::56].tolist() == quantiles
    assert image[0::56, 55].tolist() == quantiles[::-1]


def test_means_a_little_outside_the_range_are_shown_at_its_edge(tmp_path):
    model = VAE(likelihood=Gaussian())
    torch.nn.init.constant_(model.decoder[2].bias, 7.0)
    pictures.samples(tmp_path / "s.png", model, torch.randn(8, 20), (28, 28))
    assert (tiles(tmp_path / "s.png", 1, 8)[0][0] == 255).all()


def test_curves_and_scatter_are_drawn(small, tmp_path, monkeypatch):
    drawn_lines, drawn_dots = [], []
    plot, scatter = Axes.plot, Axes.scatter

    def recorded_plot(axes, x, y, *style, **options):
        drawn_lines.append((x, y))
        return plot(axes, x, y, *style, **options)

    def recorded_scatter(axes, x, y, **options):
        drawn_dots.extend([x, y])
        return scatter(axes, x, y, **options)

    monkeypatch.setattr(Axes, "plot", recorded_plot)
    monkeypatch.setattr(Axes, "scatter", recorded_scatter)
    numbers = {"test_reconstruction": 80.0, "test_kl": 25.0, "seconds": 2.0}
    history = [
        Record(epoch=e, train_loss=110 / e, test_loss=105 / e, examples_per_second=3e4, **numbers)
        for e in (1, 2, 3)
    ]
    pictures.curves(tmp_path / "c.png", history)
    assert drawn_lines == [
        ([1, 2, 3], [110.0, 55.0, 110 / 3]),
        ([1, 2, 3], [105.0, 52.5, 35.0]),
        ([1, 2, 3], [80.0] * 3),
        ([1, 2, 3], [25.0] * 3),
    ]
    model = VAE(latent_dim=2)
    pictures.posterior(tmp_path / "p.png", model, small[1])
    codes = model.embed(small[1].batch(torch.arange(200), torch.float64))
    torch.testing.assert_close(torch.stack(drawn_dots, -1), codes.detach())
    for name in ("c.png", "p.png"):
        image = read(tmp_path / name)
        assert image.shape[0] > 300
        assert image.std() > 10, "an empty picture"


def test_images_need_not_be_square(tmp_path):
    pictures.samples(tmp_path / "s.png", VAE(12, 8, 2), torch.randn(8, 2), (3, 4))
    assert read(tmp_path / "s.png").shape == (2 * 4 + 2, 8 * 2 * 5 + 2)
