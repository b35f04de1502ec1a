"""A training step in JAX, evaluated by torch: the same numbers, and the same judgement."""

import equinox
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from jax.scipy.stats import norm

from vae_ref.conformance.audited import audit_step
from vae_ref.conformance.auditing.jaxpr import JaxError
from vae_ref.conformance.auditing.tracing import double_precision, in_torch, is_jax

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
B, X, L = 5, 12, 3


def array(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


W, V, IMAGES = array(4, 6), array(6, 3), array(2, 8, 8, 3)
KERNEL = array(3, 3, 3, 5)

FUNCTIONS = {
    "tanh": lambda w, x: jnp.tanh(x @ w).sum(),
    "relu": lambda w, x: jax.nn.relu(x @ w).sum(),
    "gelu": lambda w, x: jax.nn.gelu(x @ w, approximate=False).sum(),
    "elu": lambda w, x: jax.nn.elu(x @ w).sum(),
    "softplus": lambda w, x: jax.nn.softplus(x @ w).sum(),
    "sigmoid": lambda w, x: jax.nn.sigmoid(x @ w).prod(),
    "log_softmax": lambda w, x: jax.nn.log_softmax(x @ w)[:, 1].sum(),
    "logsumexp": lambda w, x: jax.nn.logsumexp(x @ w, axis=0).sum(),
    "logaddexp": lambda w, x: jnp.logaddexp(0, x @ w).sum(),
    "logpdf": lambda w, x: norm.logpdf(x @ w, 1.0, jnp.exp(w[0, 0])).sum(),
    "optax": lambda w, x: optax.sigmoid_binary_cross_entropy(x @ w, jnp.ones(6)).mean(),
    "einsum": lambda w, x: jnp.einsum("bi,ij,bk->kj", x, w, x).var(),
    "vmap": lambda w, x: jax.vmap(lambda row: w.T @ row)(x).max(),
    "where": lambda w, x: jnp.where(x > 0, x, 0.1 * x * w.sum()).sum(),
    "clip": lambda w, x: jnp.clip(x @ w, -0.5, 0.5).sum(),
    "pieces": lambda w, x: jnp.concatenate(jnp.split(x @ w, 2, 1)[::-1], 1)[1:, ::2].sum(),
    "indices": lambda w, x: (w[:, jnp.array([5, 0, 0])] * w[1, 2]).sum(),
    "lookup": lambda w, x: (w[jnp.array([1, 3])] ** 3).sum(),
    "cumsum": lambda w, x: jnp.cumsum(w, 1, dtype=w.dtype).prod(),
    "scan": lambda w, x: jax.lax.scan(lambda c, r: (jnp.tanh(c + r @ w), c), w[0], x)[1].sum(),
    "fori": lambda w, x: jax.lax.fori_loop(0, 3, lambda i, c: c * w[i, i], 1.0),
    "cond": lambda w, x: jax.lax.cond(x.sum() > 0, w.sum, w.min),
    "checkpoint": lambda w, x: jax.checkpoint(lambda w: jnp.sin(x @ w).sum())(w),
    "stop": lambda w, x: (jax.lax.stop_gradient(w) * w).sum(),
    "layer norm": lambda w, x: jax.nn.standardize(x @ w)[:, 0].sum(),
    "which of two numbers": lambda w, x: (jnp.where(w > 0.1, 1.0, 2.0) * w).sum(),
    "noise": lambda w, x: (jax.random.normal(KEY, (3, 6)) + w[:3]).std(),
    "one key twice": lambda w, x: (
        (
            jax.random.uniform(KEY, (6,), minval=1.0, maxval=3.0) * w
            - jax.random.uniform(KEY, (6,), minval=1.0, maxval=3.0) * w
        ).sum()
        + w.sum()
    ),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (index % 8 > 0))
        for index, name in enumerate(FUNCTIONS)
    ],
)
def test_value_and_gradients_are_those_of_jax(name):
    """Also with the loss in a step that differentiates it."""

    def step(params, x):
        loss, slopes = jax.value_and_grad(lambda p: FUNCTIONS[name](p["w"], x) + 0 * p["b"].sum())(
            params
        )
        return slopes, {"loss": loss}

    params, x = {"w": W, "b": V}, array(5, 4)
    module = in_torch(step, params, x)
    loss = module()
    loss.backward()
    with double_precision():
        double = [np.asarray(t, np.float64) for t in (W, V, x)]
        slopes, answer = step({"w": jnp.asarray(double[0]), "b": double[1]}, double[2])
    np.testing.assert_allclose(float(loss.detach()), float(answer["loss"]), rtol=1e-9, atol=1e-12)
    found = module.get_parameter("w").grad.numpy()
    np.testing.assert_allclose(found, slopes["w"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("strides", "padding", "spread"),
    [((1, 1), "SAME", None), ((2, 2), ((1, 0), (2, 1)), None), ((1, 1), ((2, 1), (0, 2)), (2, 2))],
)
def test_convolutions_are_those_of_jax(strides, padding, spread):
    def step(params, x):
        out = jax.lax.conv_general_dilated(
            x,
            params["kernel"],
            strides,
            padding,
            lhs_dilation=spread,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return (out**2).mean() + params["b"].sum()

    in_torch(step, {"kernel": KERNEL, "b": V}, IMAGES)()  # which compares it with JAX


def test_what_cannot_be_replayed_is_said_with_its_line():
    def step(params, x):
        return jnp.linalg.slogdet(params["w"] @ params["w"].T)[1] + params["b"].sum()

    found = audit_step(step, {"w": W, "b": V}, W)
    assert "of JAX (test_jaxpr.py:" in found.reason
    assert "cannot be replayed" in found.reason


def test_a_step_that_jax_does_not_differentiate_is_not_judged():
    def step(params):
        turns = jax.lax.while_loop(lambda v: v.sum() < 100, lambda v: 2 * v, params["w"] ** 2 + 1)
        return turns.sum()

    found = audit_step(step, {"w": V, "b": W})
    assert "JAX does not differentiate the step" in found.reason


def test_a_gradient_of_its_own_is_not_judged():
    @jax.custom_vjp
    def through(x):
        return x * x

    through.defvjp(lambda x: (x * x, None), lambda _, g: (g,))
    with pytest.raises(JaxError, match=r"the gradient of w.* by JAX, but"):
        in_torch(lambda p, x: through(p["w"]).sum() + p["b"].sum(), {"w": W, "b": V}, W)


def test_noise_of_bits_and_shared_keys_are_not_judged():
    def bits(params, key):
        return (jax.random.bits(key, (6,)) / 2**32 * params["w"]).sum() + params["b"].sum()

    def shared(params, key):
        keys = jnp.stack([key, key])
        return jax.vmap(lambda k: jax.random.normal(k, (6,)) * params["w"][0])(keys).sum()

    for step, reason in ((bits, "noise is made of random bits"), (shared, "with the same key")):
        assert reason in audit_step(step, {"w": W, "b": V}, KEY).reason


def test_functions_of_torch_are_not_those_of_jax():
    assert not is_jax(lambda x: torch.exp(x) + 1)
    assert is_jax(lambda x: jnp.exp(x) + 1)
    assert is_jax(jax.jit(lambda x: x))


# Whole steps.


def gaussian_kl(mu, logvar):
    return 0.5 * (mu**2 + jnp.exp(logvar) - 1 - logvar)


KLS = {
    "right": lambda mu, s: gaussian_kl(mu, s).sum(1),
    "without half": lambda mu, s: 2 * gaussian_kl(mu, s).sum(1),
    "mean": lambda mu, s: gaussian_kl(mu, s).mean(1),
    "variance": lambda mu, s: 0.5 * (mu**2 + s**2 - 1 - jnp.log(s**2)).sum(1),
}


def loss_of(encode, decode, kl):
    def loss(params, x, key):
        mu, logvar = jnp.split(encode(params, x), 2, 1)
        z = mu + jnp.exp(logvar / 2) * jax.random.normal(key, mu.shape)
        bce = optax.sigmoid_binary_cross_entropy(decode(params, z), x).sum(1)
        return (bce + kl(mu, logvar)).mean()

    return loss


def plain(kl):
    params = {"e": array(X, 2 * L), "b": jnp.zeros(2 * L), "d": array(L, X)}
    loss = loss_of(lambda p, x: x @ p["e"] + p["b"], lambda p, z: z @ p["d"], kl)
    return jax.jit(loss), params


def of_nnx(kl):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.e, self.d = nnx.Linear(X, 2 * L, rngs=rngs), nnx.Linear(L, X, rngs=rngs)

    loss = loss_of(lambda net, x: net.e(x), lambda net, z: net.d(z), kl)
    return nnx.jit(loss), Net(nnx.Rngs(0))


def of_linen(kl):
    enc, dec = flax.linen.Dense(2 * L), flax.linen.Dense(X)
    params = {"e": enc.init(KEY, jnp.ones((1, X))), "d": dec.init(KEY, jnp.ones((1, L)))}
    loss = loss_of(lambda p, x: enc.apply(p["e"], x), lambda p, z: dec.apply(p["d"], z), kl)
    return loss, params


def of_equinox(kl):
    class Net(equinox.Module):
        e: equinox.nn.Linear
        d: equinox.nn.Linear

    net = Net(equinox.nn.Linear(X, 2 * L, key=KEY), equinox.nn.Linear(L, X, key=KEY))
    loss = loss_of(lambda n, x: jax.vmap(n.e)(x), lambda n, z: jax.vmap(n.d)(z), kl)
    return equinox.filter_jit(loss), net


@pytest.mark.parametrize(
    "form",
    [
        plain,
        *(pytest.param(form, marks=pytest.mark.slow) for form in (of_nnx, of_linen, of_equinox)),
    ],
)
def test_the_parts_are_found_in_every_form(form):
    x = jnp.asarray(RNG.random((B, X)), jnp.float32)
    for kl, share in (("right", 1.0), ("mean", 1 / L)):
        step, weights = form(KLS[kl])
        found = audit_step(step, weights, x, KEY)
        assert not found.reason
        assert found.subject.weights.kl / found.subject.weights.nll == pytest.approx(share)
        assert found.found["noise"].startswith("normal: randn (test_jaxpr.py:")
        assert "log sigma^2 is" in found.found["posterior"]
        assert "whether the loop splits it is not judged" in found.found["key"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kl", "violated"),
    [
        ("right", set()),
        ("without half", {"objective/beta"}),
        ("mean", {"objective/beta"}),
        ("variance", {"kl/closed-form"}),
    ],
)
def test_a_right_step_holds_and_a_wrong_one_does_not(kl, violated):
    step, weights = plain(KLS[kl])
    report = audit_step(step, weights, jnp.asarray(RNG.random((B, X)), jnp.float32), KEY).report
    failures = {result.claim.id for result in report.failures}
    assert failures >= violated
    assert bool(failures) == bool(violated), failures


@pytest.mark.slow
@pytest.mark.parametrize(("log_std", "holds"), [(0, True), (1, False)])
def test_a_prior_of_another_width_is_found(log_std, holds):
    """Its likelihood is one for data of 0 and 1 alone."""

    def log_density(x, mu, log_std):
        return norm.logpdf(x, mu, jnp.exp(log_std)).sum(-1)

    def step(params, x, key):
        mu, s = jnp.split(x @ params["e"], 2, axis=-1)
        z = mu + jnp.exp(s) * jax.random.normal(key, mu.shape)
        bits = -jnp.logaddexp(0, -(2 * x - 1) * (z @ params["d"])).sum(-1)
        return -jnp.mean(log_density(z, 0, log_std) + bits - log_density(z, mu, s))

    found = audit_step(step, plain(None)[1], jnp.asarray(RNG.random((B, X)), jnp.float32), KEY)
    named = {r.claim.id: r.diagnosis.explanation for r in found.report.failures}
    words = f"your KL is the one from a prior with the standard deviation {np.e:.4g}, not 1"
    assert named == ({} if holds else {"kl/closed-form": words})
    assert "for data of 0 and 1" in found.found["reconstruction"]


def test_a_step_without_noise_is_no_vae():
    found = audit_step(lambda p, x: ((x @ p["e"]) ** 2).mean(), plain(None)[1], array(B, X))
    assert found.reason.startswith("no noise enters this loss")


FILE = """
import jax
import jax.numpy as jnp

params = {{
    "heads": 0.3 * jax.random.normal(jax.random.key(1), (12, 6)),
    "out": 0.3 * jax.random.normal(jax.random.key(2), (3, 12)),
}}


@jax.jit
def loss_fn(params, x, rng):
    mu, s = jnp.split(x @ params["heads"], 2, 1)
    z = mu + jnp.exp(s / 2) * jax.random.normal(rng, mu.shape)
    kl = 0.5 * (mu**2 + jnp.exp(s) - 1 - s).{reduction}()
    logits = z @ params["out"]
    return (jax.nn.softplus(logits) - x * logits).sum() + kl
"""


@pytest.mark.slow
@pytest.mark.parametrize("target", ["train.py", "train.py:loss_fn"])
def test_the_command_finds_weights_key_and_data(vae_ref_command, tmp_path, target):
    for reduction, status in (("sum", 0), ("mean", 1)):
        (tmp_path / "train.py").write_text(FILE.format(reduction=reduction))
        found, output, errors = vae_ref_command("verify", target, "--only", "[kol]*")
        assert found == status, output + errors
        assert "whether the loop splits it" in " ".join(output.split())


def test_what_a_step_in_a_file_needs_is_said(vae_ref_command, tmp_path):
    text = FILE.format(reduction="sum").replace("params = ", "def made(): return ")
    (tmp_path / "train.py").write_text(text)
    status, _, errors = vae_ref_command("verify", "train.py")
    assert status == 2
    assert "loss_fn takes params, x, rng; say how they are made" in " ".join(errors.split())
