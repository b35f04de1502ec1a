"""A VAE in JAX, for: vae-ref verify --exec "python vae.py".

JAX finds the slopes. With the argument "bug", the KL lacks its 1/2.
"""

import base64
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
HALF = 1.0 if sys.argv[1:] == ["bug"] else 0.5


def kl(mu, logvar):
    return HALF * (mu**2 + jnp.expm1(logvar) - logvar).sum(1)


def reparameterize(mu, logvar, *, seed):
    return mu + jnp.exp(logvar / 2) * jax.random.normal(jax.random.key(seed), mu.shape)


def nll(outputs, x):
    """Of logits."""
    return (jax.nn.softplus(outputs) - x * outputs).sum(1)


def loss(outputs, x, mu, logvar):
    return (nll(outputs, x) + kl(mu, logvar)).sum()


def importance_weighted(log_w):
    return jax.nn.logsumexp(log_w, axis=1) - np.log(log_w.shape[1])


FUNCTIONS = {
    kl: ["mu", "logvar"],
    reparameterize: ["mu", "logvar"],
    nll: ["outputs", "x"],
    loss: ["outputs", "x", "mu", "logvar"],
    importance_weighted: ["log_w"],
}
BY_NAME = {function.__name__: function for function in FUNCTIONS}


def read(array):
    numbers = np.frombuffer(base64.b64decode(array["base64"]), "<f8")
    return jnp.asarray(np.resize(numbers, array["shape"]))  # one row, if all are equal


def write(array):
    numbers = np.asarray(array, "<f8")
    return {"shape": numbers.shape, "base64": base64.b64encode(numbers.tobytes()).decode()}


def answer(request):
    if request["do"] == "start":
        return {
            "name": "vae.py",
            "language": f"JAX {jax.__version__}",
            "gradients": True,
            "supports": list(BY_NAME),
            "conventions": {"likelihood": "bernoulli-logits"},
            "accepts": ["base64"],
        }
    function = BY_NAME[request["function"]]
    names = FUNCTIONS[function]
    inputs = [read(request["inputs"][name]) for name in names]
    more = {"seed": request["seed"]} if "seed" in request else {}
    if "cotangent" not in request:
        return {"id": request["id"], "value": write(function(*inputs, **more))}
    value, pull = jax.vjp(lambda *given: function(*given, **more), *inputs)
    slopes = pull(read(request["cotangent"]).reshape(value.shape))
    return {"id": request["id"], "slopes": dict(zip(names, map(write, slopes)))}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "stop":
            break
        print(json.dumps(answer(request)), flush=True)


if __name__ == "__main__":
    main()
