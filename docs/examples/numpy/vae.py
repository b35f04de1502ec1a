"""A VAE in NumPy, for: vae-ref verify --exec "python vae.py".

With the argument "bug", its KL lacks the 1/2.
"""

import base64
import json
import sys

import numpy as np

HALF = 1.0 if sys.argv[1:] == ["bug"] else 0.5


def kl(mu, logvar):
    value = HALF * (mu**2 + np.expm1(logvar) - logvar).sum(-1)
    return value, lambda c: (HALF * 2 * mu * c[:, None], HALF * np.expm1(logvar) * c[:, None])


def reparameterize(mu, logvar, seed):
    eps, sigma = np.random.default_rng(seed).standard_normal(mu.shape), np.exp(logvar / 2)
    return mu + eps * sigma, lambda c: (c, c * eps * sigma / 2)


def nll(outputs, x):
    """Of logits."""
    value = (np.logaddexp(0, outputs) - x * outputs).sum(-1)
    p = np.exp(-np.logaddexp(0, -outputs))
    return value, lambda c: ((p - x) * c[:, None], -outputs * c[:, None])


def loss(outputs, x, mu, logvar):
    (reconstruction, of_outputs), (divergence, of_codes) = nll(outputs, x), kl(mu, logvar)
    ones = np.ones(len(mu))
    return (reconstruction + divergence).sum(), lambda c: (
        *of_outputs(c * ones),
        *of_codes(c * ones),
    )


def importance_weighted(log_w):
    most = log_w.max(1, keepdims=True)
    weights = np.exp(log_w - most)
    total = weights.sum(1, keepdims=True)
    value = (most + np.log(total / log_w.shape[1]))[:, 0]
    return value, lambda c: (weights / total * c[:, None],)


FUNCTIONS = {f.__name__: f for f in (kl, reparameterize, nll, loss, importance_weighted)}
ARGUMENTS = {
    "kl": ["mu", "logvar"],
    "reparameterize": ["mu", "logvar"],
    "nll": ["outputs", "x"],
    "loss": ["outputs", "x", "mu", "logvar"],
    "importance_weighted": ["log_w"],
}


def read(array):
    """Read the bytes of an array; if all its rows are equal, they are those of one."""
    return np.resize(np.frombuffer(base64.b64decode(array["base64"]), "<f8"), array["shape"])


def write(array):
    numbers = np.asarray(array, "<f8").tobytes()
    return {"shape": list(np.shape(array)), "base64": base64.b64encode(numbers).decode()}


def answer(request):
    if request["do"] == "start":
        return {
            "name": "vae.py",
            "language": f"NumPy {np.__version__}",
            "gradients": True,
            "accepts": ["base64"],
            "supports": list(FUNCTIONS),
            "conventions": {"likelihood": "bernoulli-logits"},
        }
    names = ARGUMENTS[request["function"]]
    more = {"seed": request["seed"]} if "seed" in request else {}
    value, pull = FUNCTIONS[request["function"]](
        *(read(request["inputs"][name]) for name in names), **more
    )
    if "cotangent" not in request:
        return {"id": request["id"], "value": write(value)}
    slopes = zip(names, map(write, pull(read(request["cotangent"]))))
    return {"id": request["id"], "slopes": dict(slopes)}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "stop":
            break
        with np.errstate(all="ignore"):
            print(json.dumps(answer(request)), flush=True)


if __name__ == "__main__":
    main()
