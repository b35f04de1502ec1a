"""The kernel's answers are mpmath's, bit for bit; the reference is as accurate as is said."""

import json
import math

import mpmath
import numpy as np
import pytest
import torch

from benchmarks.every_float import __main__ as command
from benchmarks.every_float import exact, judging
from benchmarks.every_float.contestants import CONTESTANTS, REFERENCE
from benchmarks.every_float.exact import FUNCTIONS, Tally, answers, count
from vae_ref.support.atomic import replacing

ORDERS = {"value": 0, "derivative": 1}
PRECISION = 700  #: bits, for sums of numbers whose exponents differ by 450
COUNT = 2**16  #: inputs by which the contestants are judged
STRIDE = 65_537  #: odd, so that all patterns of low bits occur

TRUTHS = {
    "kl_by_logvar": (lambda x: _expm1_minus(x) / 2, lambda x: mpmath.expm1(x) / 2),
    "kl_by_mu": (lambda x: x * x / 2, lambda x: x),
    "bernoulli_0_by_logit": (
        lambda x: mpmath.log1p(mpmath.exp(x)) if x < 200 else x + mpmath.exp(-x),
        lambda x: 1 / (1 + mpmath.exp(-x)),
    ),
    "bernoulli_1_by_logit": (
        lambda x: mpmath.log1p(mpmath.exp(-x)) if x > -200 else mpmath.exp(x) - x,
        lambda x: -1 / (1 + mpmath.exp(x)),
    ),
    "bernoulli_0_by_probability": (lambda x: -mpmath.log1p(-x), lambda x: 1 / (1 - x)),
    "bernoulli_1_by_probability": (lambda x: -mpmath.log(x), lambda x: -1 / x),
    "log_normaliser": (
        lambda x: mpmath.log(mpmath.expm1(x) / x) if x else mpmath.mpf(0),
        lambda x: -1 / mpmath.expm1(-x) - 1 / x if x else mpmath.mpf(0.5),
    ),
    "sigma_by_logvar": (lambda x: mpmath.exp(x / 2), lambda x: mpmath.exp(x / 2) / 2),
}

EDGES = [
    *(sign * 2.0**-n for sign in (1, -1) for n in (149, 148, 126, 125, 75, 74, 73, 60, 30, 26)),
    *(sign * k * 2.0**-n for sign in (1, -1) for k in (1, 3, 5) for n in (24, 23, 22, 20, 10)),
    *(sign * k * 2.0**-149 for sign in (1, -1) for k in (3, 5, 7, 9, 0x7FFFFF)),
    *(sign * x for sign in (1, -1) for x in (0.0, 0.5, 1.0, 2.0, 16.6, 36.7, 50.0, 88.7, 88.73)),
    *(sign * x for sign in (1, -1) for x in (89.4, 89.42, 100, 103.9, 104, 177.4, 178.8, 200)),
    *(-(2.0**24) - 2 * k for k in (0, 1, 2, 3, 4_194_303)),
    *(sign * x for sign in (1, -1) for x in (2.0**25, 1e9, 2.6e19, 1e30, 2.0**127, 3.4028235e38)),
    *(1 - 2.0**-24, 1 - 2.0**-23),
]

#: What is promised of the reference: at most so many ulp, value and derivative; None: no promise.
LIMITS = {
    "kl_by_logvar": (0.501, 0.501),
    "kl_by_mu": (0.501, 1.0),
    "bernoulli_0_by_logit": (None, None),
    "bernoulli_1_by_logit": (2, None),
    "bernoulli_0_by_probability": (1, None),
    "bernoulli_1_by_probability": (1, None),
    "log_normaliser": (1.5, 2),
    "sigma_by_logvar": (1, 1),
}


def _expm1_minus(x):
    """For exp(x) below 2**-140, any number between 0 and this one rounds to the same."""
    return max(mpmath.expm1(x), mpmath.mpf(2) ** -140 - 1) - x


@pytest.fixture(autouse=True, scope="module")
def compiled():
    try:
        exact.library()
    except exact.NoCompilerError as error:
        pytest.skip(f"the kernel does not compile: {error}")


def nearest(y):
    """Round to a float, ties to even."""
    if not mpmath.isfinite(y) or not y:
        return np.float32(y)
    exponent = mpmath.frexp(y)[1]
    if exponent > 128:
        return np.float32(math.copysign(math.inf, y))
    unit = mpmath.ldexp(1, max(exponent, -125) - 24)
    rounded = mpmath.nint(y / unit) * unit
    return np.float32(mpmath.sign(y) * mpmath.inf if abs(rounded) >= 2**128 else rounded)


def truth(function, order, x):
    """Return the answer with many digits; where it is infinite, as a limit."""
    try:
        return TRUTHS[function][order](mpmath.mpf(float(x)))
    except ZeroDivisionError:
        return mpmath.inf * (-1 if function == "bernoulli_1_by_probability" else 1)


def bits(x):
    return int(np.float32(x).view(np.uint32))


def inputs_of(function):
    if FUNCTIONS[function].inputs == 2**32:
        return [x for x in EDGES if np.isfinite(np.float32(x))]
    return [x for x in EDGES if 0 <= x <= 1 and not math.copysign(1, x) < 0]


def hardest(found, order, number):
    """Return where the answers are closest to the middle of two floats."""
    near = np.abs(found.near[order])
    with np.errstate(invalid="ignore", over="ignore"):
        unit = np.ldexp(1.0, np.maximum(np.frexp(near)[1], -125) - 24)
        distance = np.abs(near / unit % 1 - 0.5)
    distance[~np.isfinite(near) | ~np.isfinite(found.x)] = 1
    return np.argsort(distance)[:number]


@pytest.mark.parametrize(
    ("function", "order"),
    [  # by default every function and every order, and every pair with the slow tests
        pytest.param(
            function, order, id=f"{function}-{name}", marks=[pytest.mark.slow] * ((i + j) % 2)
        )
        for i, function in enumerate(FUNCTIONS)
        for j, (name, order) in enumerate(ORDERS.items())
    ],
)
def test_the_answers_are_mpmaths(function, order):
    """For random inputs, for those hardest to round of a million, and at the edges of formulas."""
    stride = FUNCTIONS[function].inputs // 2**20 | 1
    many = answers(function, 0, stride, FUNCTIONS[function].inputs // stride)
    finite = np.flatnonzero(np.isfinite(many.x))
    random = np.random.default_rng(0).choice(finite, 1000, replace=False)
    chosen = np.concatenate([random, hardest(many, order, 1000)])
    pairs = list(zip(many.x[chosen], many.right[order][chosen], strict=True))
    for x in inputs_of(function):
        one = answers(function, bits(x), 1, 1)
        pairs.append((np.float32(x), one.right[order][0]))
    with mpmath.workprec(PRECISION):
        wrong = [
            (float(x), y, r) for x, y in pairs if (r := nearest(truth(function, order, x))) != y
        ]
    assert not wrong
    assert many.hard > 0 or function not in ("kl_by_logvar", "log_normaliser")


@pytest.mark.parametrize(
    ("function", "below", "above"),
    [
        ("kl_by_logvar", (math.inf, -0.5), (math.inf, math.inf)),
        ("kl_by_mu", (math.inf, -math.inf), (math.inf, math.inf)),
        ("bernoulli_0_by_logit", (0, 0), (math.inf, 1)),
        ("bernoulli_1_by_logit", (math.inf, -1), (0, 0)),
        ("log_normaliser", (-math.inf, 0), (math.inf, 1)),
        ("sigma_by_logvar", (0, 0), (math.inf, math.inf)),
    ],
)
def test_at_infinity_the_answers_are_limits_and_nan_stays_nan(function, below, above):
    for x, limits in ((-math.inf, below), (math.inf, above), (math.nan, (math.nan, math.nan))):
        found = answers(function, bits(x), 1, 1)
        np.testing.assert_array_equal([r[0] for r in found.right], limits)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("function", ["kl_by_logvar", "bernoulli_1_by_logit", "log_normaliser"])
def test_errors_are_counted_in_ulp(function, order):
    """Answers that are off by up to two floats, counted again with mpmath."""
    found = answers(function, 77_777, 4_294_967 | 1, 999)
    steps = np.random.default_rng(1).integers(-2, 3, 999)
    steps[~(np.abs(found.x) < 400)] = 0  # mpmath does not see exp(-500) next to 1
    computed = found.right[order].copy()
    for direction in (-1, 1):
        for size in (1, 2):
            with np.errstate(over="ignore"):
                moved = np.nextafter(computed, np.float32(direction * math.inf))
            computed = np.where(steps * direction >= size, moved, computed)
    tally = Tally()
    count(found, computed, tally, order=order)
    errors, exceptional = [], 0
    with mpmath.workprec(PRECISION):
        for x, c, r in zip(found.x, computed, found.right[order], strict=True):
            if np.isfinite(c) and np.isfinite(r):
                y = truth(function, order, x)
                unit = mpmath.ldexp(1, max(mpmath.frexp(y)[1], -125) - 24)
                errors.append(abs(mpmath.mpf(float(c)) - y) / unit)
            else:
                exceptional += not np.array_equal(c, r, equal_nan=True)
        assert tally.over_1_ulp == sum(error > 1 for error in errors)
        assert tally.worst == pytest.approx(float(max(errors)), abs=1e-5)
    wrong = ~((computed == found.right[order]) | np.isnan(computed) & np.isnan(found.right[order]))
    assert (tally.inputs, tally.exceptional) == (999, exceptional)
    assert tally.not_rounded == wrong.sum() > 200
    assert 1.5 < tally.worst < 4.5  # a step across a power of two is two ulp of the other side


def test_infinity_instead_of_a_number_is_exceptional():
    found = answers("sigma_by_logvar", bits(1.0), 1, 4)
    computed = found.right[0].copy()
    computed[1:3] = math.inf, math.nan
    tally = Tally()
    count(found, computed, tally, order=0)
    assert (tally.exceptional, tally.not_rounded, tally.over_1_ulp) == (2, 2, 0)
    assert tally.content()["exceptional_at"] == float(found.x[1]).hex()


def test_answers_of_another_shape_are_not_counted():
    found = answers("kl_by_mu", 0, 1, 4)
    with pytest.raises(ValueError, match="4 inputs have answers of shape"):
        count(found, np.zeros(3, np.float32), Tally(), order=0)


@pytest.fixture
def single():
    """The precision and the threads of a worker."""
    before = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before[0])
    torch.set_num_threads(before[1])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_reference_is_as_accurate_as_is_said(function, single):
    stride = -(-FUNCTIONS[function].inputs // COUNT) | 1
    everybody, total = tuple(CONTESTANTS[function]), FUNCTIONS[function].inputs // stride
    found = judging.judge(judging.Block(function, everybody, 0, stride, total))
    assert tuple(found) == everybody
    assert next(iter(found)) == REFERENCE
    for order, limit in zip(ORDERS, LIMITS[function], strict=True):
        tally = found[REFERENCE][order]
        if limit is None:
            assert tally["worst"] > 1e6, "a promise could be made"
        else:
            assert tally["worst"] <= limit


class OneProcess:
    """Runs the blocks of a pool in this process."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    map = staticmethod(map)


@pytest.fixture
def short(monkeypatch, single, tmp_path):
    """A run of a few blocks of a few inputs, in this process."""
    monkeypatch.setattr(command, "ProcessPoolExecutor", OneProcess)
    monkeypatch.setattr(judging, "_BLOCK", 40)
    monkeypatch.setattr(judging, "_CHUNK", 16)
    return ["--stride", str(2**25 + 1), "--json", str(tmp_path / "found.json")]


def functions(path):
    return json.loads(path.read_text())["functions"]


def test_an_interrupted_run_goes_on_where_it_was(short, tmp_path, monkeypatch, capsys):
    assert command.main(short) == 0
    assert "Normal" in capsys.readouterr().out
    whole = functions(tmp_path / "found.json")
    judged = []

    def judge(block):
        if len(judged) == 7:
            raise KeyboardInterrupt
        judged.append(block)
        return judging.judge(block)

    monkeypatch.setattr(command, "judge", judge)
    (tmp_path / "found.json").unlink()
    assert command.main(short) == 130
    assert "Run the same again to go on." in capsys.readouterr().out
    assert json.loads((tmp_path / "found.partial").read_text())["blocks"] == 7
    judged.append(None)
    assert command.main(short) == 0
    assert len({block for block in judged if block}) == len(judged) - 1
    assert functions(tmp_path / "found.json") == whole
    assert not (tmp_path / "found.partial").exists()
    inputs = {c["value"]["inputs"] for f in whole.values() for c in f.values()}
    assert inputs == {128, 32}


def test_another_run_is_not_continued(short, tmp_path, monkeypatch, capsys):
    state = command.begin(2**25 + 3)
    with replacing(tmp_path / "found.partial") as file:
        file.write(json.dumps(state).encode())
    assert command.main(short) == 2
    assert "another stride. Go on as that run began, or begin anew" in capsys.readouterr().err
    assert command.main([*short, "--again"]) == 0


def test_without_a_compiler_the_command_says_so(monkeypatch, capsys):
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(command, "library", exact.library.__wrapped__)
    assert command.main([]) == 2
    assert "the kernel needs GCC as CC" in capsys.readouterr().err
