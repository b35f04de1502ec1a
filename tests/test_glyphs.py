import math

import pytest
import torch

from vae_ref import InputError, glyphs
from vae_ref.data.glyphs import FACTORS, SIDE


@pytest.fixture(scope="module")
def drawn():
    return glyphs(4000)


def test_images_are_bytes_of_mnists_size(drawn):
    assert drawn.images.shape == (4000, 784)
    assert drawn.images.dtype == torch.uint8
    assert drawn.size == (28, 28)
    assert drawn.images.amax(1).min() > 80, "an empty picture"
    assert drawn.images.float().mean() / 255 == pytest.approx(0.13, abs=0.03)  # MNIST has 0.131


def test_they_are_a_function_of_the_seed():
    assert glyphs(50, seed=3).images.equal(glyphs(50, seed=3).images)
    assert not glyphs(50, seed=3).images.equal(glyphs(50, seed=4).images)


@pytest.mark.parametrize("count", [0, 1, 7, 2000])
def test_a_smaller_set_is_the_beginning_of_a_larger_one(count, drawn):
    few = glyphs(count)
    assert few.images.equal(drawn.images[:count])
    assert few.labels.equal(drawn.labels[:count])
    for name in FACTORS:
        assert few.factors[name].equal(drawn.factors[name][:count])


def test_digits_and_factors_fill_their_ranges(drawn):
    counts = torch.bincount(drawn.labels, minlength=10)
    assert ((counts - 400).abs() < 6 * math.sqrt(360)).all()
    assert drawn.factors.keys() == FACTORS.keys()
    for name, (low, high) in FACTORS.items():
        values = drawn.factors[name]
        assert low <= values.min() < low + 0.01 * (high - low)
        if name == "stroke":
            assert values.unique().tolist() == [0, 1, 2, 3]
        else:
            assert high - 0.01 * (high - low) < values.max() <= high


def _moments(drawn):
    """Centre, spread and brightness of each image."""
    x = drawn.images.double().view(-1, SIDE, SIDE) / 255
    mass = x.sum((1, 2))
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    cx = (x.sum(1) * axis).sum(1) / mass
    cy = (x.sum(2) * axis).sum(1) / mass
    dx, dy = axis - cx[:, None], axis - cy[:, None]
    tilt = torch.einsum("nyx,nx,ny->n", x, dx, dy) / mass
    height = (x.sum(2) * dy**2).sum(1) / mass
    return {"mass": mass, "x": cx, "y": cy, "tilt": tilt, "height": height}


@pytest.mark.parametrize(
    ("factor", "moment", "sign"),
    [
        ("shift_x", "x", 1),
        ("shift_y", "y", 1),
        ("scale", "height", 1),
        ("stroke", "mass", 1),
        ("shear", "tilt", -1),  # leaning right: y grows downwards
        ("rotation", "tilt", 1),  # anticlockwise: leaning left
    ],
)
def test_each_factor_does_what_its_name_says(drawn, factor, moment, sign):
    ones = drawn.labels == 1  # upright and without symmetry to hide behind
    values = drawn.factors[factor][ones].double()
    measured = _moments(drawn)[moment][ones]
    correlation = torch.corrcoef(torch.stack([values, measured]))[0, 1].item()
    assert sign * correlation > 0.4


def test_blur_takes_away_sharp_edges(drawn):
    x = drawn.images.double().view(-1, SIDE, SIDE)
    edges = x.diff(dim=1).abs().amax((1, 2))
    correlation = torch.corrcoef(torch.stack([drawn.factors["blur"].double(), edges]))[0, 1]
    assert correlation < -0.5


@pytest.mark.parametrize(("factor", "moment"), [("shift_x", "x"), ("shift_y", "y")])
def test_shifts_are_in_pixels(drawn, factor, moment):
    slope = _slope(drawn.factors[factor].double(), _moments(drawn)[moment])
    assert slope == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("factor", "sign"), [("rotation", 1), ("shear", -1)])
def test_angles_are_in_radians(drawn, factor, sign):
    """The axis of an upright 1 leans by its rotation, and against its shear."""
    moments, ones = _moments(drawn), drawn.labels == 1
    lean = (moments["tilt"] / moments["height"])[ones]
    slope = _slope(drawn.factors[factor][ones].double(), lean)
    assert sign * slope == pytest.approx(1, abs=0.15)


def _slope(a, b):
    return (torch.cov(torch.stack([a, b]))[0, 1] / a.var()).item()


def test_a_negative_count():
    with pytest.raises(InputError, match="^count must not be negative; got -1"):
        glyphs(-1)
