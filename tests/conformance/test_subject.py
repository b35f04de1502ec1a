"""What a subject declares, and functions of other libraries as functions of tensors."""

import dataclasses
import typing

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from vae_ref.conformance import Conventions, Subject, from_jax, from_numpy
from vae_ref.conformance.foreign import NoGradientError
from vae_ref.conformance.subject import DeclarationError, from_spread, to_spread

NAMES = [field.name for field in dataclasses.fields(Conventions)]
SPREADS = ["logvar", "log_sigma", "sigma", "variance", "distribution"]

# Conventions, from text.

GOOD = [
    *(("spread", name, name) for name in SPREADS),
    *(
        ("likelihood", name, name)
        for name in (
            "bernoulli",
            "bernoulli-logits",
            "continuous-bernoulli",
            "continuous-bernoulli-logits",
            "gaussian",
            "laplace",
        )
    ),
    ("kl_reduction", "mean", "mean"),
    ("kl_reduction", "sum", "sum"),
    ("nll_reduction", "mean", "mean"),
    ("beta", "4", 4.0),
    ("beta", "1e-3", 1e-3),
    ("beta", " 2.5 ", 2.5),
    ("variance", "0.1", 0.1),
    ("evaluation", "mean", "mean"),
    ("seeded", "false", False),
    ("seeded", "False", False),
    ("seeded", "TRUE", True),
    ("dtype", "float32", "float32"),
    ("latent_shape", "4,8,8", (4, 8, 8)),
    ("latent_shape", "(4, 8, 8)", (4, 8, 8)),
    ("latent_shape", "4x8x8", (4, 8, 8)),
    ("latent_shape", "20", (20,)),
    ("latent_shape", "(20,)", (20,)),
    ("pixel_shape", "1,28,28", (1, 28, 28)),
]


@pytest.mark.parametrize(("key", "text", "value"), GOOD)
def test_a_convention_is_read_from_text(key, text, value):
    conventions = Conventions().declaring({key: text})
    found = getattr(conventions, key)
    assert found == value
    assert type(found) is type(value)
    assert conventions == Conventions(**{key: value})


def test_every_convention_is_tried():
    assert {key for key, *_ in GOOD} == set(NAMES)
    assert {key for key, *_ in BAD} == set(NAMES)


BAD = [
    ("spread", "log_variance"),
    ("spread", ""),
    ("spread", "LOGVAR"),
    ("likelihood", "poisson"),
    ("likelihood", "None"),
    ("kl_reduction", "average"),
    ("nll_reduction", "1"),
    ("beta", "four"),
    ("beta", ""),
    ("beta", "nan"),
    ("beta", "inf"),
    ("beta", "-1"),
    ("variance", "0"),
    ("variance", "-0.1"),
    ("variance", "nan"),
    ("evaluation", "no"),
    ("seeded", "0"),
    ("seeded", "yes"),
    ("seeded", ""),
    ("dtype", "float16"),
    ("latent_shape", "0"),
    ("latent_shape", "4,-1"),
    ("latent_shape", "a"),
    ("latent_shape", "2.5"),
    ("latent_shape", ""),
    ("latent_shape", ","),
    ("latent_shape", "²"),
    ("pixel_shape", "()"),
    ("pixel_shape", "28 28"),
    ("pixel_shape", "100000001"),
    ("latent_shape", "1,1,1,1,1,1,1,1,1"),
]


@pytest.mark.parametrize(("key", "text"), BAD)
def test_a_value_that_is_none_is_answered_in_one_line(key, text):
    with pytest.raises(DeclarationError) as error:
        Conventions().declaring({key: text})
    message = str(error.value)
    assert message.startswith(f"{key} must be ")
    assert repr(text) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("latent_shape", "9" * 5000),
        ("pixel_shape", "4," * 5000),
        ("beta", "9" * 5000),
        ("beta", "x" * 5000),
        ("variance", "1e999"),
        ("seeded", "true\n" * 100),
        ("k" * 5000, "1"),
    ],
)
def test_a_long_value_is_answered_shortly(key, text):
    with pytest.raises(DeclarationError) as error:
        Conventions().declaring({key: text})
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("spread", SPREADS),
        ("likelihood", ["bernoulli-logits", "laplace"]),
        ("kl_reduction", ["sum", "mean"]),
        ("evaluation", ["sample", "mean"]),
        ("seeded", ["true", "false"]),
        ("dtype", ["float64", "float32"]),
        ("variance", ["number"]),
        ("latent_shape", ["4,8,8"]),
    ],
)
def test_the_message_lists_the_choices(key, choices):
    with pytest.raises(DeclarationError) as error:
        Conventions().declaring({key: "?"})
    assert all(choice in str(error.value) for choice in choices)


@pytest.mark.parametrize("key", ["bta", "", "Beta", "beta ", "declared", "declaring", "__class__"])
def test_an_unknown_convention_lists_those_that_there_are(key):
    with pytest.raises(DeclarationError, match="there is no convention called") as error:
        Conventions().declaring({"beta": "2", key: "1"})
    assert repr(key) in str(error.value)
    assert all(name in str(error.value) for name in NAMES)


def test_what_is_not_declared_stays():
    before = Conventions(spread="sigma", beta=4.0, pixel_shape=(7,))
    after = before.declaring({"beta": "2", "dtype": "float32"})
    assert after == dataclasses.replace(before, beta=2.0, dtype="float32")
    assert before.beta == 4
    assert before.declaring({}) == before


def test_declared_is_what_differs_from_the_textbook():
    assert Conventions().declared == {}
    assert Conventions(pixel_shape=(784,), latent_shape=(4, 2, 2)).declared == {}
    assert Conventions(beta=4.0, seeded=False, spread="sigma", variance=0.5).declared == {
        "spread": "sigma",
        "beta": 4.0,
        "variance": 0.5,
        "seeded": False,
    }
    assert Conventions(beta=1.0, spread="logvar").declared == {}


def test_has_reads_alternatives():
    subject = Subject(name="x", kl=lambda mu, logvar: mu, loss=None)
    assert subject.has("kl")
    assert not subject.has("loss")
    assert subject.has("kl|loss")
    assert subject.has("loss|kl")
    assert not subject.has("loss|nll|decode")
    with pytest.raises(AttributeError):
        subject.has("no_such_part")


def test_a_subject_may_be_empty():
    subject = Subject(name="nothing")
    parts = set(typing.get_type_hints(Subject)) - {
        "name",
        "parts",
        "seed",
        "conventions",
        "rounding",
        "found",
        "undecided",
    }
    assert not any(subject.has(part) for part in parts)


# Spreads.

mu = torch.tensor([[0.0, -3.0], [1.0, 2.5]], dtype=torch.float64)
logvar = torch.tensor([[0.0, -9.0], [30.0, 0.7]], dtype=torch.float64)


@pytest.mark.parametrize("spread", SPREADS)
def test_spreads_are_inverse_to_each_other(spread):
    answer = to_spread(spread, mu, logvar)
    back = from_spread(spread, answer[0] if spread == "distribution" else answer)
    torch.testing.assert_close(back, (mu, logvar), rtol=1e-14, atol=1e-14)


SECOND = {
    "logvar": logvar,
    "log_sigma": logvar / 2,
    "sigma": logvar.exp().sqrt(),
    "variance": logvar.exp(),
}


@pytest.mark.parametrize("spread", SECOND)
def test_the_second_head_is_what_it_is_declared_to_be(spread):
    first, second = to_spread(spread, mu, logvar)
    assert first is mu
    torch.testing.assert_close(second, SECOND[spread])
    torch.testing.assert_close(from_spread(spread, [mu, second])[1], logvar)


def test_a_distribution_stands_for_both():
    (normal,) = to_spread("distribution", mu, logvar)
    assert isinstance(normal, Normal)
    assert torch.equal(normal.mean, mu)
    torch.testing.assert_close(normal.stddev, (logvar / 2).exp())
    torch.testing.assert_close(from_spread("distribution", Independent(normal, 1))[1], logvar)


@pytest.mark.parametrize("spread", SPREADS)
def test_gradients_flow_through_a_spread(spread):
    leaves = [t.clone().requires_grad_() for t in (mu, logvar)]
    answer = to_spread(spread, *leaves)
    back = from_spread(spread, answer[0] if spread == "distribution" else answer)
    gradients = torch.autograd.grad((2 * back[0] + 3 * back[1]).sum(), leaves)
    torch.testing.assert_close(gradients, (2 + 0 * mu, 3 + 0 * mu))


@pytest.mark.parametrize(
    ("spread", "answer"),
    [
        ("logvar", None),
        ("logvar", mu[0, 0]),
        ("logvar", (mu,)),
        ("logvar", (mu, logvar, mu)),
        ("distribution", (mu, logvar)),
    ],
)
def test_what_is_no_pair_raises_what_the_kit_expects(spread, answer):
    """Of these an encoder's claims make a sentence; see ``Networks.encode``."""
    with pytest.raises((TypeError, ValueError, AttributeError)):
        from_spread(spread, answer)


# Other libraries.


def torch_kl(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)


def numpy_kl(mu, logvar):
    return 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(1)


def numpy_gradient(mu, logvar, cotangent):
    return cotangent[:, None] * mu, cotangent[:, None] * 0.5 * (np.exp(logvar) - 1)


def small():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 2, generator=generator).requires_grad_() for _ in range(2)]


def gradients(function, leaves):
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=leaves[0].dtype)
    return torch.autograd.grad((function(*leaves) * weights).sum(), leaves)


def test_numpy_agrees_with_torch():
    leaves = small()
    own = from_numpy(numpy_kl, numpy_gradient)
    assert own.differentiable
    torch.testing.assert_close(own(*leaves), torch_kl(*leaves))
    torch.testing.assert_close(gradients(own, leaves), gradients(torch_kl, leaves))
    assert torch.autograd.gradcheck(own, leaves)


def test_without_a_gradient_numpy_brings_none():
    leaves = small()
    own = from_numpy(numpy_kl)
    assert not own.differentiable
    torch.testing.assert_close(own(*leaves), torch_kl(*leaves))
    with pytest.raises(NoGradientError):
        own(*leaves).sum().backward()


@pytest.mark.parametrize("answer", [1.5, np.float64(1.5), np.array(1.5), [1.5], np.array([1.5])])
def test_numpy_may_return_a_number(answer):
    found = from_numpy(lambda mu: answer)(mu)
    assert found.item() == 1.5
    assert found.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numpy_keeps_the_precision(dtype):
    leaves = [t.detach().to(dtype).requires_grad_() for t in small()]
    own = from_numpy(numpy_kl, numpy_gradient)
    assert own(*leaves).dtype == dtype
    assert all(g.dtype == dtype for g in gradients(own, leaves))


def test_numpy_may_return_its_argument_or_a_view():
    leaf = small()[0].detach()
    before = leaf.clone()
    for function in (lambda t: t, lambda t: t.T, lambda t: t[::-1]):
        found = from_numpy(function)(leaf)
        found += 1
        assert torch.equal(leaf, before)


def test_a_wrong_number_of_gradients_raises():
    own = from_numpy(numpy_kl, lambda mu, logvar, cotangent: [mu])
    with pytest.raises(ValueError, match="shorter|argument"):
        own(*small()).sum().backward()


def test_jax_agrees_with_torch():
    jax = pytest.importorskip("jax")

    def kl(mu, logvar):
        return 0.5 * (mu**2 + jax.numpy.exp(logvar) - 1 - logvar).sum(1)

    leaves = [t.detach().float().requires_grad_() for t in small()]
    own = from_jax(jax.jit(kl))
    assert own.differentiable
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(own(*leaves), torch_kl(*leaves), **close)
    torch.testing.assert_close(gradients(own, leaves), gradients(torch_kl, leaves), **close)


def test_jax_is_given_doubles_too():
    """By default JAX computes in single precision, and says so in every warning it can."""
    jax = pytest.importorskip("jax")
    own = from_jax(lambda mu: (mu**2).sum())
    leaf = small()[0]
    value = own(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    assert gradient.dtype == leaf.dtype
    torch.testing.assert_close(gradient, 2 * leaf.detach(), rtol=1e-5, atol=1e-6)
    with jax.enable_x64(True):
        assert from_jax(lambda mu: (mu**2).sum())(leaf).dtype == torch.float64
