"""The questions: for every quantity ordinary numbers, edges, no example, and what is refused."""

import math
import random
import struct
from dataclasses import dataclass

__all__ = ["CASES", "Array", "Case"]

EXAMPLES, LATENTS, PIXELS, SAMPLES = 3, 2, 5, 4
"""Different from each other, so that no axis is taken for another."""

_GRAIN = 64
_NAN = math.nan


@dataclass(frozen=True)
class Array:
    """Numbers in a shape, the last axis being the fastest."""

    shape: tuple[int, ...]
    numbers: tuple[float, ...]

    @property
    def rows(self) -> list[tuple[float, ...]]:
        """The numbers of each example."""
        width = self.shape[-1]
        return [self.numbers[i * width : (i + 1) * width] for i in range(self.shape[0])]


@dataclass(frozen=True)
class Case:
    """A question.

    Attributes:
        quantity: What is asked for.
        comment: What is special about the numbers.
        inputs: The numbers, by name.
        refuse: The rule that they break, if they have to be refused.
    """

    quantity: str
    comment: str
    inputs: dict[str, Array]
    refuse: str = ""


def single(number: float) -> float:
    """Return the nearest number of single precision, which every precision represents."""
    found: float = struct.unpack("f", struct.pack("f", number))[0]
    return found


def table(*rows: tuple[float, ...]) -> Array:
    return Array((len(rows), len(rows[0])), tuple(single(n) for row in rows for n in row))


def drawn(name: str, low: float, high: float, *shape: int) -> Array:
    """Draw multiples of 1/64, seeded by a name."""
    rng = random.Random(name)
    count = math.prod(shape)
    return Array(
        shape,
        tuple(rng.randint(int(low * _GRAIN), int(high * _GRAIN)) / _GRAIN for _ in range(count)),
    )


_RANGES = {
    "mu": (-2, 2),
    "mu_p": (-2, 2),
    "z": (-3, 3),
    "eps": (-2.5, 2.5),
    "mean": (-1, 2),
    "logvar": (-3, 2),
    "logvar_p": (-2, 2),
    "logits": (-4, 4),
    "p": (1 / 64, 63 / 64),
    "x": (0, 1),
    "log_w": (-9, 1),
}
"""What ordinary numbers of an input are."""


def ordinary(seed: str, names: tuple[str, ...], n: int = EXAMPLES) -> dict[str, Array]:
    """Draw ordinary numbers for inputs."""
    widths = {"log_w": SAMPLES} | dict.fromkeys(("logits", "p", "x", "mean"), PIXELS)
    if "mean" in names:
        widths |= {"logvar": PIXELS}
    return {
        name: drawn(f"{seed} {name}", *_RANGES[name], n, widths.get(name, LATENTS))
        for name in names
    }


_TINY = 1e-8
_FAR = ((80, -80), (-20, 20), (0, 0))
_MEANS = ((_TINY, -30), (30, -_TINY), (0, 0))
_LOGITS = ((800, -800, 20, -20, 0), (_TINY, -_TINY, 88, -88, 1), (0, 3, -3, 0.25, -0.5))
_WHITE = ((0, 1, 1, 0, 1), (0, 1, 0, 1, 1), (0.5, 0.25, 0.75, 0, 1))
_P = ((2**-20, 1 - 2**-20, 0.5, 0.25, 0.75), (_TINY, 0.5, 1 - 2**-24, 2**-24, 1e-9))
_NAMES = {
    "kl-to-standard-normal": ("mu", "logvar"),
    "kl-between-gaussians": ("mu", "logvar", "mu_p", "logvar_p"),
    "log-density": ("z", "mu", "logvar"),
    "entropy": ("logvar",),
    "reparameterization": ("mu", "logvar", "eps"),
    "bernoulli-from-logits": ("logits", "x"),
    "bernoulli-from-probabilities": ("p", "x"),
    "gaussian": ("mean", "logvar", "x"),
    "continuous-bernoulli": ("logits", "x"),
    "continuous-bernoulli-normaliser": ("logits",),
    "negative-elbo": ("logits", "x", "mu", "logvar"),
    "importance-weighted-bound": ("log_w",),
}

_EDGES: dict[str, list[tuple[str, dict[str, Array]]]] = {
    "kl-to-standard-normal": [
        ("at the prior", {"mu": table((0, 0)), "logvar": table((0, 0))}),
        ("sigma far from 1, mu next to 0", {"mu": table(*_MEANS), "logvar": table(*_FAR)}),
        ("sigma is 1", {"mu": table((1, 2), (-0.5, 0.25)), "logvar": table((0, 0), (0, 0))}),
        ("mu is 0", {"mu": table((0, 0), (0, 0)), "logvar": table((1, -1), (-0.5, 2))}),
        ("next to the prior", {"mu": table((_TINY, 0.001)), "logvar": table((0.001, -_TINY))}),
    ],
    "kl-between-gaussians": [
        (
            "both the same",
            {n: table((0.5, -1), (2, 3)) for n in ("mu", "logvar", "mu_p", "logvar_p")},
        ),
        (
            "sigma far from 1",
            {
                "mu": table(*_MEANS),
                "logvar": table((40, -40), (-20, 20), (0, 0)),
                "mu_p": table((0, 1), (2, 3), (_TINY, 0)),
                "logvar_p": table((-20, 20), (20, -20), (10, -10)),
            },
        ),
    ],
    "log-density": [
        (
            "far from the mean, and sigma far from 1",
            {
                "z": table((0, 3), (5, -4), (_TINY, 0)),
                "mu": table((_TINY, 0), (1, 2), (0, 0)),
                "logvar": table((80, -4), (-3, 20), (0, 0)),
            },
        )
    ],
    "entropy": [("sigma far from 1", {"logvar": table(*_FAR)})],
    "reparameterization": [
        (
            "sigma far from 1, and no noise",
            {
                "mu": table(*_MEANS),
                "logvar": table(*_FAR),
                "eps": table((1, -1), (0, 0), (-2, _TINY)),
            },
        )
    ],
    "bernoulli-from-logits": [
        ("logits to 800", {"logits": table(*_LOGITS), "x": table(*_WHITE)}),
        (
            "on the wrong side",
            {"logits": table((-800, 800, -30, 30, 88)), "x": table((1, 0, 1, 0, 0))},
        ),
    ],
    "bernoulli-from-probabilities": [
        ("next to 0 and 1", {"p": table(*_P), "x": table(*_WHITE[1:])}),
    ],
    "gaussian": [
        (
            "variances far from 1",
            {
                "mean": table((0, 1, -1, 0.5, _TINY)),
                "logvar": table((20, -4, 0, -8, 3)),
                "x": table((3, 1.5, -1, 0.25, 0)),
            },
        )
    ],
    "continuous-bernoulli": [
        (
            "logits to 800, and next to 0",
            {"logits": table(*_LOGITS), "x": table(*_WHITE)},
        )
    ],
    "continuous-bernoulli-normaliser": [("to 800, and next to 0", {"logits": table(*_LOGITS)})],
    "negative-elbo": [
        (
            "edges of both terms",
            {
                "logits": table(*_LOGITS),
                "x": table(*_WHITE),
                "mu": table(*_MEANS),
                "logvar": table((8, -80), (-20, 4), (0, 0)),
            },
        )
    ],
    "importance-weighted-bound": [
        ("one sample", {"log_w": table((-1.5,), (0,), (-800,))}),
        (
            "weights whose exponentials overflow or vanish",
            {"log_w": table((-800, -801, -900, -800), (800, 790, 0, -800), (0, 0, 0, 0))},
        ),
    ],
}

_IN_UNIT = "every pixel lies in [0, 1]"
_SHAPES = "the shapes are equal"


def _refused(quantity: str) -> list[Case]:
    """Return what a quantity has to refuse."""
    names = _NAMES[quantity]
    found = []
    if quantity == "importance-weighted-bound":
        empty = {"log_w": Array((EXAMPLES, 0), ())}
        return [Case(quantity, "no sample", empty, "there is at least one sample")]
    good = ordinary(f"{quantity} refused", names)
    if "mu" in names and len(names) > 1:
        wrong = good | {"mu": drawn("wide", -1, 1, EXAMPLES, LATENTS + 1)}
        found.append(Case(quantity, "a latent too many in mu", wrong, _SHAPES))
    if "x" in names:
        wrong = good | {"x": drawn("wide x", 0, 1, EXAMPLES, PIXELS + 1)}
        found.append(Case(quantity, "a pixel too many in x", wrong, _SHAPES))
        rule = "every pixel is a number" if quantity == "gaussian" else _IN_UNIT
        bad = [_NAN] if quantity == "gaussian" else [1.5, -0.25, 255.0, _NAN]
        for number in bad:
            numbers = (number, *good["x"].numbers[1:])
            wrong = good | {"x": Array(good["x"].shape, numbers)}
            found.append(Case(quantity, f"a pixel of {number:g}", wrong, rule))
    if "p" in names:
        for number in (1.25, -0.25):
            wrong = good | {"p": Array(good["p"].shape, (number, *good["p"].numbers[1:]))}
            found.append(Case(quantity, f"a probability of {number:g}", wrong, "p lies in [0, 1]"))
    return found


def _cases(quantity: str) -> list[Case]:
    names = _NAMES[quantity]
    few = [
        Case(quantity, "ordinary numbers", ordinary(f"{quantity} 0", names)),
        Case(quantity, "other ordinary numbers", ordinary(f"{quantity} 1", names)),
        Case(quantity, "a batch of one", ordinary(f"{quantity} 2", names, 1)),
        Case(quantity, "a batch of none", ordinary(f"{quantity} 3", names, 0)),
    ]
    edges = [Case(quantity, comment, inputs) for comment, inputs in _EDGES[quantity]]
    return [*few, *edges, *_refused(quantity)]


CASES: dict[str, list[Case]] = {quantity: _cases(quantity) for quantity in _NAMES}
"""All questions, by quantity."""
