"""The references of the likelihoods, and what the kit knows of the families, against SciPy."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from vae_ref.bridge.kinds.families import ALL, reference
from vae_ref.checks import InputError
from vae_ref.conformance import verify
from vae_ref.conformance.answers.densities import slopes
from vae_ref.conformance.answers.families import CLASSES, FAMILIES
from vae_ref.conformance.kinds import LikelihoodFamily
from vae_ref.conformance.mutants.kinds.families import specimen
from vae_ref.conformance.probe.families import Form
from vae_ref.conformance.probe.probe import Probe
from vae_ref.kinds import classes, counts, discretised_logistic, families, student

pytestmark = pytest.mark.usefixtures("user")


def logistic(x, mean, scale):
    half = 1 / 510
    above = np.where(x > 1 - half, 1, special.expit((x + half - mean) / scale))
    below = np.where(x < half, 0, special.expit((x - half - mean) / scale))
    return np.log(above - below)


def mixture(x, logits, mean, scale):
    each = special.log_softmax(logits, -1) + logistic(x[..., None], mean, scale)
    return special.logsumexp(each, -1)


def zero_inflated(x, mean, theta, gate):
    count = np.log1p(-gate) + stats.nbinom.logpmf(x, theta, theta / (theta + mean))
    return np.where(x == 0, np.logaddexp(np.log(gate), count), count)


SCIPY = {
    "gaussian": stats.norm.logpdf,
    "laplace": stats.laplace.logpdf,
    "student-t": lambda x, mean, scale, degrees: stats.t.logpdf(x, degrees, mean, scale),
    "discretised-logistic": logistic,
    "logistic-mixture": mixture,
    "poisson": stats.poisson.logpmf,
    "negative-binomial": lambda x, mean, theta: stats.nbinom.logpmf(
        x, theta, theta / (theta + mean)
    ),
    "zero-inflated-negative-binomial": zero_inflated,
    "categorical": lambda x, logits: np.log(
        np.take_along_axis(special.softmax(logits, -1), x.astype(int)[..., None], -1)[..., 0]
    ),
    "multinomial": lambda x, logits: stats.multinomial.logpmf(
        x, x.sum(-1), special.softmax(logits, -1)
    ),
}
"""Name of a family -> the log density, of the parameters that the kit draws."""

TAKEN = {
    "gaussian": lambda mean, sigma: (mean, sigma.log()),
    "laplace": lambda mean, scale: (mean, scale.log()),
    "student-t": lambda mean, scale, degrees: (mean, scale.log(), degrees),
    "discretised-logistic": lambda mean, scale: (mean, scale.log()),
    "logistic-mixture": lambda logits, mean, scale: (logits, mean, scale.log()),
    "zero-inflated-negative-binomial": lambda mean, theta, gate: (mean, theta, torch.logit(gate)),
}
"""Name of a family -> what its reference takes, where that is not the parameters."""


def drawn(name, seed=0):
    form = Form(family=FAMILIES[name], takes=())
    probe = Probe(specimen(), seed)
    parameters = form.draw(probe, "test", 6, 5)
    return form, form.data(probe, "test", parameters), parameters


@pytest.mark.parametrize("name", FAMILIES)
def test_what_the_kit_holds_scores_to_is_what_scipy_says(name):
    form, x, parameters = drawn(name)
    exact = SCIPY[name](x.numpy(), *form.arrays(parameters)).reshape(6, -1).sum(1)
    np.testing.assert_allclose(form.nll(x, parameters), -exact, rtol=1e-11)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_slopes_are_those_of_differences(name):
    form, x, parameters = drawn(name)
    given, step = form.arrays(parameters), 1e-6
    found = slopes(form.density, x.numpy(), given, whole=form.family.whole)
    for index, parameter in enumerate(given):
        for place in [(0, 0), (2, 1), (5, 3)]:
            at = (*place, 1)[: parameter.ndim]
            values = []
            for sign in (1, -1):
                moved = parameter.copy()
                moved[at] += sign * step
                own = [moved if i == index else v for i, v in enumerate(given)]
                values.append(SCIPY[name](x.numpy(), *own).sum())
            assert found[index][at] == pytest.approx(
                (values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-6
            )


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "multinomial"])
def test_the_distribution_function_and_the_mean_are_those_of_the_density(name):
    form, _, parameters = drawn(name)
    given = [value[:1, :1] for value in form.arrays(parameters)]
    if form.family.support == "real":
        flat = [float(v[0, 0]) for v in given]
        x = flat[0] + 0.7
        assert form.cdf(np.full((1, 1), x), *given).item() == pytest.approx(
            integrate.quad(lambda t: np.exp(SCIPY[name](t, *flat)), -np.inf, x)[0], abs=1e-7
        )
        assert form.mean(*given).item() == flat[0]
        return
    last = {"unit levels": 256, "counts": 600, "classes": CLASSES}[form.family.support]
    x = np.arange(float(last))[:, None] / (255 if last == 256 else 1)
    p = np.exp(SCIPY[name](x, *(np.repeat(v, last, 0) for v in given)))[:, 0]
    below = form.cdf(x, *(np.repeat(v, last, 0) for v in given))[:, 0]
    np.testing.assert_allclose(below, np.cumsum(p), atol=1e-11)
    mean = form.mean(*given)
    np.testing.assert_allclose(mean.ravel(), p if last == CLASSES else [p @ x[:, 0]], rtol=1e-9)


def test_the_distribution_function_of_a_multinomial_count_is_binomial():
    form, x, parameters = drawn("multinomial")
    total = np.full((6, 1), 9.0)
    p = special.softmax(form.arrays(parameters)[0], -1)
    found = form.cdf(x.numpy(), *form.arrays(parameters), total)
    np.testing.assert_allclose(found, stats.binom.cdf(x.numpy(), 9, p), rtol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_reference_is_what_scipy_says(name):
    form, x, parameters = drawn(name, 1)
    taken = TAKEN.get(name, lambda *given: given)(*parameters.values())
    data = x.long() if name == "categorical" else x
    exact = SCIPY[name](x.numpy(), *form.arrays(parameters)).reshape(6, -1).sum(1)
    np.testing.assert_allclose(ALL[name]["score"](data, *taken), -exact, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_references_of_all_families_hold(name, dtype):
    torch.manual_seed(0)
    found = verify(reference(dtype, name))
    allowed = {"families/units"} if FAMILIES[name].support != "real" else set()
    allowed |= {"families/mean"} if FAMILIES[name].support == "unit levels" else set()
    allowed |= {"families/pixels-add-up", "families/draws-apart"} & (
        {r.claim.id for r in found.results} if name == "multinomial" else set()
    )
    left = {r.claim.id: r.message for r in found.results if r.status != "pass"}
    assert left.keys() == allowed, left


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_inferred_whatever_it_takes(name):
    made = specimen(family=name)
    found = verify(replace(made, family=None, takes=None, axis=None, level_range=None))
    assert found.facts["likelihood"].startswith(f"{name}, which takes {', '.join(made.takes)}")


@pytest.mark.parametrize("distance", [0.01, 0.3, 3.0])
def test_a_level_far_from_the_mean_keeps_its_digits(distance):
    """Where the difference of two sigmoids is zero in double precision."""
    x, scale = 128 / 255, 0.002
    mean = x - distance
    with mpmath.workdps(2000):
        half = mpmath.mpf(1) / 510
        d, b = mpmath.mpf(x) - mpmath.mpf(mean), mpmath.mpf(scale)
        above, below = (1 / (1 + mpmath.exp(-t / b)) for t in (d + half, d - half))
        exact = float(mpmath.log(above - below))
    given = (torch.tensor(v, dtype=torch.float64) for v in (x, mean, np.log(scale)))
    assert discretised_logistic.log_level(*given).item() == pytest.approx(exact, rel=1e-10)


def test_all_levels_of_the_mixture_add_up_to_one():
    x = torch.linspace(0, 1, 256, dtype=torch.float64)[:, None]
    logits, mean, s = (torch.randn(1, 1, 3, dtype=torch.float64) for _ in range(3))
    given = (value.expand(256, 1, 3) for value in (logits, mean.sigmoid(), s - 4))
    assert torch.exp(-discretised_logistic.mixture_nll(x, *given)).sum().item() == pytest.approx(
        1, abs=1e-12
    )


def test_limits_of_the_families():
    """With many degrees of freedom t is normal; with a large theta, counts are Poisson's."""
    x, zero = torch.linspace(-3, 3, 7, dtype=torch.float64)[None], torch.zeros(1, 7).double()
    many = torch.full((1, 7), 1e9, dtype=torch.float64)
    t = student.student_nll(x, zero, zero, many)
    assert t.item() == pytest.approx(families.gaussian_nll(x, zero, zero).item(), rel=1e-6)
    k, rate = torch.arange(7.0, dtype=torch.float64), torch.tensor(2.5, dtype=torch.float64)
    found = counts.log_negative_binomial(k, rate, torch.tensor(1e7, dtype=torch.float64))
    assert torch.allclose(found, counts.log_poisson(k, rate), atol=1e-5)
    never = torch.tensor(-60.0, dtype=torch.float64)
    excess = counts.log_zero_inflated(k, rate, rate, never)
    assert torch.allclose(excess, counts.log_negative_binomial(k, rate, rate))


def test_counts_are_drawn_by_the_inverse_distribution_function():
    u = torch.linspace(0.0005, 0.9995, 400, dtype=torch.float64)
    rate, theta = torch.tensor(3.5, dtype=torch.float64), torch.tensor(1.5, dtype=torch.float64)
    found = counts.draw_count(lambda x: counts.log_poisson(x, rate), u)
    assert torch.equal(found, torch.from_numpy(stats.poisson.ppf(u, 3.5)))
    found = counts.draw_count(lambda x: counts.log_negative_binomial(x, rate, theta), u)
    assert torch.equal(found, torch.from_numpy(stats.nbinom.ppf(u, 1.5, 1.5 / 5)))
    most = counts.draw_count(lambda x: counts.log_poisson(x, rate), torch.ones(1))
    assert 10 < most.item() < 40


def test_real_numbers_are_drawn_by_the_inverse_distribution_function():
    u = torch.linspace(0.001, 0.999, 99, dtype=torch.float64)
    mean, s = torch.tensor(0.4, dtype=torch.float64), torch.tensor(-0.7, dtype=torch.float64)
    found = families.draw_laplace(mean, s, u)
    assert torch.allclose(found, torch.from_numpy(stats.laplace.ppf(u, 0.4, np.exp(-0.7))))
    found = discretised_logistic.draw_logistic(mean, s - 2, u) * 255
    exact = stats.logistic.ppf(u, 0.4, np.exp(-2.7)).clip(0, 1) * 255
    assert np.abs(found.numpy() - exact).max() <= 0.5 + 1e-9


def test_classes_are_drawn_with_their_probabilities():
    logits = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
    u = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 0.99], dtype=torch.float64)
    assert classes.draw_categorical(logits.expand(6, 3), u).tolist() == [0, 0, 1, 1, 2, 2]
    assert classes.draw_multinomial(logits, u).tolist() == [2, 2, 2]


def test_errors_name_the_argument():
    x, one = torch.zeros(2, 3), torch.ones(2, 3)
    with pytest.raises(InputError, match="^mean must have the shape of x"):
        families.gaussian_nll(x, one[0], one)
    with pytest.raises(InputError, match="^x must be finite"):
        families.laplace_nll(x / 0, one, one)
    with pytest.raises(InputError, match="^degrees must be positive"):
        student.student_nll(x, one, one, 0 * one)
    with pytest.raises(InputError, match="^rate must be positive"):
        counts.log_poisson(x, -one)
    with pytest.raises(InputError, match=r"^x must lie in \[0, 1\]"):
        discretised_logistic.logistic_nll(x + 255, one, one)
    with pytest.raises(InputError, match="^x and logits must have the same shape"):
        classes.multinomial_nll(x, one[0])


def results(**rest):
    found = verify(LikelihoodFamily(name="mine", **rest))
    return {r.claim.id.partition("/")[2]: r for r in found.results}


def squared(x, mean):
    return ((x - mean) ** 2).sum(1)


@pytest.mark.parametrize(
    ("meant", "status"), [(None, "not-applicable"), (True, "pass"), (False, "fail")]
)
def test_a_constant_is_left_out_on_purpose_or_not(meant, status):
    found = results(score=squared, up_to_constant=meant)
    assert found["total-mass"].status == status
    assert found["value"].status == "pass"


def test_the_missing_power_of_the_scale_is_said():
    def score(x, mean, log_sigma):
        return (0.5 * (x - mean) ** 2 / log_sigma.exp() + log_sigma).sum(1)

    found = results(score=score, family="gaussian", takes=("mean", "log_sigma"))
    assert "sigma^-0.5" in found["total-mass"].message
    assert found["value"].explained_by == "families/total-mass"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"family": "beta"}, "there is no family called 'beta'"),
        ({"family": "gaussian", "takes": ("mean", "width")}, "takes no 'width'"),
        ({"score": lambda x, mean: mean.sum()}, "agrees with no family"),
    ],
)
def test_what_cannot_be_judged_says_why(wrong, message):
    found = results(**({"score": squared} | wrong))
    assert found["value"].status == "not-applicable"
    assert message in found["value"].message


def test_a_score_that_never_answers_is_an_error():
    def score(x, mean, sigma):
        raise ValueError("no")

    found = results(score=score, family="gaussian", takes=("mean", "sigma"))
    assert found["value"].status == "error"


def test_the_scale_that_a_program_has_fixed_is_reported():
    found = verify(LikelihoodFamily(name="mine", score=squared))
    assert found.facts["scale of the likelihood"] == "sigma = 0.707107, fixed"
