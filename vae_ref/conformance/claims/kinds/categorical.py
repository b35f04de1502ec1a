"""Claims about discrete codes: their divergences, their entropy and the loss."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vae_ref.conformance.answers.comparison import require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Violation

__all__ = ["SIZES", "Size", "given", "sizes", "subject_of"]

Size = tuple[int, int, int]
"""Examples, latents and classes."""

SIZES: tuple[Size, ...] = ((1, 1, 2), (3, 4, 3), (4, 2, 5))

_CODES = 4096  # so many codes are enumerated at once
_SOURCE = "Jang, Gu and Poole 2017, section 4.2; Cover and Thomas 2006, equation 2.26"
_TERMS = "32 roundings of the sum of the terms' absolute values, and of the logits that made them"
_VALUE = ("categorical/kl-to-uniform",)
_PRIOR = ("categorical/kl-to-a-prior",)
_ENTROPY = ("categorical/entropy",)

of_kl = partial(
    registry.claim,
    slot="kl_to_uniform",
    source=_SOURCE,
    needs=("kl_to_uniform",),
    tolerance=_TERMS + "; log K may be rounded to single precision",
)
of_prior = partial(
    registry.claim,
    slot="kl_to_categorical",
    source=_SOURCE,
    needs=("kl_to_categorical",),
    tolerance=_TERMS,
)
of_entropy = partial(
    registry.claim,
    slot="entropy_of_codes",
    source="Cover and Thomas 2006, equation 2.1",
    needs=("entropy_of_codes",),
    tolerance=_TERMS,
)
of_loss = partial(
    registry.claim,
    slot="loss_of_codes",
    source="Jang, Gu and Poole 2017, section 4.2",
    needs=("loss_of_codes",),
    kind="metamorphic",
    tolerance="32 roundings of the losses that are subtracted",
)


def subject_of(probe: Probe) -> Any:
    """Return the subject, whose parts are there if the claim needs them."""
    return probe.subject


def sizes(probe: Probe, *wanted: Size) -> list[Size]:
    """Return the sizes that are tried, with what the functions take alone in place of others."""
    shape, classes = probe.conventions.latent_shape, subject_of(probe).classes
    fixed = math.prod(shape) if shape else None
    return list(dict.fromkeys((n, fixed or d, classes or k) for n, d, k in wanted))


def given(probe: Probe, logits: Tensor) -> Tensor:
    """Return what stands for logits in the subject's functions, in its shape."""
    takes, shape = subject_of(probe).takes, probe.conventions.latent_shape
    if takes == "log_probabilities":
        logits = torch.log_softmax(logits, -1)
    elif takes == "probabilities":
        logits = torch.softmax(logits, -1)
    return shaped(probe, logits.unflatten(1, shape) if shape else logits)


def shaped(probe: Probe, tensor: Tensor) -> Tensor:
    """Return a tensor with the classes on the axis where the subject has them."""
    return (tensor if subject_of(probe).classes_last else tensor.movedim(-1, 1)).clone()


def _each(probe: Probe, part: str, *logits: Tensor) -> Tensor:
    return probe.each(part, *(given(probe, tensor) for tensor in logits))


def _steady(probe: Probe, part: str, *logits: Tensor) -> Tensor:
    """Return the value for each example; object if it is another one the next time."""
    first, second = (_each(probe, part, *logits).detach() for _ in range(2))
    if bool(((first - second).abs() > 1e-3 * first.abs()).any()):
        raise Violation(
            f"{part} is {first[0]:.6g}, then {second[0]:.6g} of the same logits: it is computed "
            "from a sample",
            symptom="random",
        )
    return first


def _enumerated(log_q: Tensor, log_p: Tensor) -> Tensor:
    """Return the sum of q(z) log(q(z) / p(z)) over all codes z of a few latents."""
    latents = torch.arange(log_q.shape[1])
    classes = torch.arange(log_q.shape[2])
    codes = torch.cartesian_prod(*[classes] * len(latents)).view(-1, len(latents))
    of_q, of_p = (log[:, latents, codes].sum(-1) for log in (log_q, log_p))
    return (of_q.exp() * (of_q - of_p)).sum(1)


def _divergence(logits: Tensor, prior_logits: Tensor) -> Tensor:
    """Return the KL by enumeration; groups of latents add up, where all of them are too many."""
    group = max(1, int(math.log(_CODES) / math.log(logits.shape[-1])))
    pairs = zip(
        *(log.double().log_softmax(-1).split(group, 1) for log in (logits, prior_logits)),
        strict=True,
    )
    return torch.stack([_enumerated(*pair) for pair in pairs]).sum(0)


def _scale(logits: Tensor, prior_logits: Tensor) -> Tensor:
    """Return the size of the terms of each latent, in which the logits' rounding is a factor."""
    log_q, log_p = (log.double().log_softmax(-1) for log in (logits, prior_logits))
    size = 1 + logits.double().abs().amax(-1) + prior_logits.double().abs().amax(-1)
    return size * (1 + (log_q.exp() * (log_q.abs() + log_p.abs())).sum(-1))


def _rounding_of_log_k(probe: Probe, latents: int, classes: int) -> float:
    """Return the KL at the uniform, if it is no more than a log K of single precision."""
    value = float(
        _each(probe, "kl_to_uniform", torch.zeros(1, latents, classes, dtype=probe.dtype))
    )
    least = 4 * torch.finfo(torch.float32).eps * latents * math.log(classes)
    return value if abs(value) <= least else 0.0


def _require_kl(probe: Probe, logits: Tensor, prior: Tensor | None, what: str) -> None:
    """Compare the KL to a prior, or to the uniform if there is none, with the enumeration."""
    part, inputs = "kl_to_categorical", {"logits": logits, "prior_logits": prior}
    offset = 0.0
    if prior is None:
        part, inputs = "kl_to_uniform", {"logits": logits}
        offset = _rounding_of_log_k(probe, *logits.shape[1:])
    p = torch.zeros_like(logits) if prior is None else prior
    require_agreement(
        what,
        _steady(probe, part, *(t for t in inputs.values() if t is not None)) - offset,
        _divergence(logits, p),
        scale=_scale(logits, p).sum(-1),
        dtype=probe.dtype,
        inputs=inputs,
    )


def _logits(probe: Probe, name: str, size: Size) -> Tensor:
    return 1.5 * probe.normal(f"{name} {size}", *size) + probe.normal(f"{name}+", *size[:2], 1)


def _certain(probe: Probe, size: Size) -> Tensor:
    """Return logits of codes that are certain: all other classes have probability 0."""
    n, d, k = size
    chosen = (probe.uniform("certain", n, d) * k).long()
    return 1000 * torch.nn.functional.one_hot(chosen, k).to(probe.dtype)


def _require_slopes(
    probe: Probe, part: str, oracle: Callable[..., Tensor], *logits: Tensor, of: int = 0
) -> None:
    """Compare the derivatives by one of the arguments with those of an oracle."""
    probe.require_gradient(part)
    _steady(probe, part, *logits)
    found = probe.gradient(lambda *tensors: _each(probe, part, *tensors), *logits)[of]
    leaves = [tensor.double().requires_grad_() for tensor in logits]
    (exact,) = torch.autograd.grad(oracle(*leaves).sum(), leaves[of])
    names = ("logits", "prior_logits")
    require_agreement(
        f"the derivative of {part} with respect to the {names[of].replace('_', ' of the ')}",
        found,
        exact,
        scale=_scale(logits[0], logits[-1]).unsqueeze(-1),
        dtype=probe.dtype,
        inputs=dict(zip(names, logits, strict=False)),
        symptom="" if bool(found.any()) else "no-gradient",
    )


@of_kl(
    "categorical/kl-to-uniform",
    statement="The KL divergence of the codes from the uniform prior is the sum over all codes.",
    formula=r"\mathrm{KL} = \sum_{z \in \{1..K\}^D} q(z) \log\frac{q(z)}{K^{-D}} = "
    r"\sum_d \Big(\log K + \sum_k q_{dk} \log q_{dk}\Big)",
    kind="exact",
    kills=(
        "categorical-kl-log-of-prior-missing",
        "categorical-kl-without-log-k",
        "categorical-kl-negative",
        "categorical-kl-epsilon",
        "categorical-kl-in-bits",
        "categorical-kl-mean-over-latents",
        "categorical-kl-mean-over-classes",
        "categorical-kl-of-a-relaxed-sample",
        "categorical-kl-of-logits",
        "categorical-kl-softmax-over-latents",
    ),
)
def kl_to_uniform(probe: Probe) -> None:
    for size in sizes(probe, *SIZES):
        _require_kl(probe, _logits(probe, "uniform", size), None, "the KL from the uniform prior")


@of_kl(
    "categorical/kl-zero-at-uniform",
    statement="The KL divergence of the uniform distribution from itself is zero.",
    formula=r"q_{dk} = 1/K:\quad \mathrm{KL} = 0",
    kind="exact",
    kills=("categorical-kl-log-of-prior-missing", "categorical-kl-without-log-k"),
    builds_on=_VALUE,
)
def kl_zero_at_uniform(probe: Probe) -> None:
    for n, d, k in sizes(probe, *SIZES):
        logits = torch.zeros(n, d, k, dtype=probe.dtype)
        require_agreement(
            "the KL of the uniform distribution from itself",
            _steady(probe, "kl_to_uniform", logits),
            torch.zeros(n),
            scale=d * math.log(k),
            dtype=torch.float32,
            inputs={"logits": logits},
        )


@of_kl(
    "categorical/kl-of-certain-codes",
    statement="The KL divergence of codes that are certain is log K for each latent, and not NaN.",
    formula=r"q_{dk} \in \{0, 1\}:\quad \mathrm{KL} = D \log K, \qquad 0 \log 0 = 0",
    kind="exact",
    kills=("categorical-kl-nan-when-certain",),
    builds_on=_VALUE,
)
def kl_of_certain_codes(probe: Probe) -> None:
    for size in sizes(probe, *SIZES):
        _require_kl(probe, _certain(probe, size), None, "the KL of certain codes")


@of_kl(
    "categorical/kl-slopes",
    statement="The derivatives of the KL from the uniform prior with respect to the logits are "
    "these.",
    formula=r"\frac{\partial\mathrm{KL}}{\partial\ell_{dk}} = "
    r"q_{dk} \Big(\log q_{dk} - \sum_j q_{dj} \log q_{dj}\Big)",
    kind="gradient",
    kills=("categorical-kl-slope-reversed", "categorical-kl-detached"),
    builds_on=_VALUE,
)
def kl_slopes(probe: Probe) -> None:
    def oracle(logits: Tensor) -> Tensor:
        return _divergence(logits, torch.zeros_like(logits))

    for size in sizes(probe, *SIZES[1:]):
        _require_slopes(probe, "kl_to_uniform", oracle, _logits(probe, "slopes", size))


@of_kl(
    "categorical/evidence",
    statement="In a model with discrete codes, with the true posterior, reconstruction and KL add "
    "up to -log p(x).",
    formula=r"E_q[-\log p(x \mid z)] + \mathrm{KL}(q\,\|\,p) = "
    r"-\sum_d \log \sum_k \tfrac1K\,N(x_d; c_{dk}, 1)",
    kind="identity",
    kills=("categorical-kl-without-log-k", "categorical-kl-negative"),
    builds_on=_VALUE,
)
def evidence(probe: Probe) -> None:
    """Every latent has a pixel of its own, whose mean the class chooses."""
    for size in sizes(probe, *SIZES):
        n, d, k = size
        centres, x = probe.normal(f"centres {size}", d, k), probe.normal(f"x {size}", n, d, 1)
        fit = (-0.5 * ((x - centres) ** 2 + math.log(2 * math.pi))).double()
        q = torch.softmax(fit, -1)
        exact = (math.log(k) - torch.logsumexp(fit, -1)).sum(-1)
        logits = fit.to(probe.dtype)
        offset = _rounding_of_log_k(probe, d, k)
        found = _steady(probe, "kl_to_uniform", logits).double() - offset
        scale = _scale(logits, torch.zeros_like(logits)).sum(-1) + fit.abs().sum((1, 2))
        require_agreement(
            "the negative ELBO of the true posterior",
            found - (q * fit).sum((1, 2)),
            exact,
            scale=scale,
            dtype=probe.dtype,
            inputs={"logits": logits},
        )


@of_prior(
    "categorical/kl-to-a-prior",
    statement="The KL divergence of the codes from a prior is the sum over all codes.",
    formula=r"\mathrm{KL} = \sum_{z \in \{1..K\}^D} q(z) \log\frac{q(z)}{p(z)} = "
    r"\sum_d \sum_k q_{dk} \log\frac{q_{dk}}{p_{dk}}",
    kind="exact",
    kills=(
        "categorical-prior-ignored",
        "categorical-prior-kl-reversed",
        "categorical-prior-cross-entropy",
        "categorical-prior-shared-over-batch",
    ),
)
def kl_to_a_prior(probe: Probe) -> None:
    for size in sizes(probe, *SIZES):
        q, p = _logits(probe, "q", size), _logits(probe, "p", size)
        _require_kl(probe, q, p, "the KL from the prior")


@of_prior(
    "categorical/kl-zero-at-the-prior",
    statement="The KL divergence of a prior from itself is zero.",
    formula=r"\mathrm{KL}(p\,\|\,p) = 0",
    kind="exact",
    kills=("categorical-prior-ignored", "categorical-prior-cross-entropy"),
    builds_on=_PRIOR,
)
def kl_zero_at_the_prior(probe: Probe) -> None:
    for size in sizes(probe, *SIZES):
        p = _logits(probe, "zero", size)
        _require_kl(probe, p, p, "the KL of a prior from itself")


@of_prior(
    "categorical/kl-of-certain-codes-to-a-prior",
    statement="The KL divergence of codes that are certain is -log p(z), and not NaN.",
    formula=r"q(z) = 1:\quad \mathrm{KL} = -\log p(z)",
    kind="exact",
    kills=("categorical-prior-kl-nan-when-certain",),
    builds_on=_PRIOR,
)
def kl_of_certain_codes_to_a_prior(probe: Probe) -> None:
    for size in sizes(probe, *SIZES):
        q, p = _certain(probe, size), _logits(probe, "p", size)
        _require_kl(probe, q, p, "the KL of certain codes from the prior")


@of_prior(
    "categorical/kl-slopes-of-the-posterior",
    statement="The derivatives of the KL from a prior with respect to the logits of the posterior "
    "are these.",
    formula=r"\frac{\partial\mathrm{KL}}{\partial\ell_{dk}} = q_{dk} \Big("
    r"\log\frac{q_{dk}}{p_{dk}} - \sum_j q_{dj} \log\frac{q_{dj}}{p_{dj}}\Big)",
    kind="gradient",
    kills=("categorical-prior-kl-detached-posterior",),
    builds_on=_PRIOR,
)
def kl_slopes_of_the_posterior(probe: Probe) -> None:
    for size in sizes(probe, *SIZES[1:]):
        q, p = _logits(probe, "slopes q", size), _logits(probe, "slopes p", size)
        _require_slopes(probe, "kl_to_categorical", _divergence, q, p)


@of_prior(
    "categorical/kl-slopes-of-the-prior",
    statement="The derivatives of the KL with respect to the logits of the prior are these: the "
    "prior learns from it.",
    formula=r"\frac{\partial\mathrm{KL}}{\partial m_{dk}} = p_{dk} - q_{dk}",
    kind="gradient",
    kills=("categorical-prior-kl-detached-prior",),
    builds_on=_PRIOR,
)
def kl_slopes_of_the_prior(probe: Probe) -> None:
    for size in sizes(probe, *SIZES[1:]):
        q, p = _logits(probe, "slopes q", size), _logits(probe, "slopes p", size)
        _require_slopes(probe, "kl_to_categorical", _divergence, q, p, of=1)


def _entropy(logits: Tensor) -> Tensor:
    """Return what is left of log K^D after the KL from the uniform."""
    d, k = logits.shape[1:]
    return d * math.log(k) - _divergence(logits, torch.zeros_like(logits))


@of_entropy(
    "categorical/entropy",
    statement="The entropy of the codes is log K^D minus their KL divergence from the uniform.",
    formula=r"H(q) = -\sum_{z \in \{1..K\}^D} q(z) \log q(z) = D \log K - \mathrm{KL}",
    kind="exact",
    kills=("entropy-of-codes-in-bits", "entropy-of-codes-negative", "entropy-of-codes-wrong-axis"),
)
def entropy(probe: Probe) -> None:
    for size in sizes(probe, *SIZES):
        logits = _logits(probe, "entropy", size)
        require_agreement(
            "the entropy of the codes",
            _steady(probe, "entropy_of_codes", logits),
            _entropy(logits),
            scale=_scale(logits, torch.zeros_like(logits)).sum(-1),
            dtype=probe.dtype,
            inputs={"logits": logits},
        )


@of_entropy(
    "categorical/entropy-slopes",
    statement="The derivatives of the entropy with respect to the logits are these.",
    formula=r"\frac{\partial H}{\partial\ell_{dk}} = "
    r"-q_{dk} \Big(\log q_{dk} - \sum_j q_{dj} \log q_{dj}\Big)",
    kind="gradient",
    kills=("entropy-of-codes-detached",),
    builds_on=_ENTROPY,
)
def entropy_slopes(probe: Probe) -> None:
    for size in sizes(probe, *SIZES[1:]):
        _require_slopes(probe, "entropy_of_codes", _entropy, _logits(probe, "slopes", size))


class _Loss:
    """The loss of a few examples, with logits and outputs that vary."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.size = sizes(probe, (3, 4, 3))[0]
        shape = probe.conventions.pixel_shape
        pixels = math.prod(shape) if shape else 7
        self.outputs, self.others, self.x = (
            0.05 + 0.9 * probe.uniform(f"loss {name}", 3, pixels) for name in ("o", "other", "x")
        )

    def __call__(self, outputs: Tensor, logits: Tensor, times: int = 1) -> Tensor:
        """Return the loss of the examples, each given so many times."""
        pixels = (self.probe.as_pixels(tensor.repeat(times, 1)) for tensor in (outputs, self.x))
        codes = given(self.probe, logits.repeat(times, 1, 1))
        with self.probe.calling():
            answer: Tensor = subject_of(self.probe).loss_of_codes(*pixels, codes)
        return answer.detach().double().sum()


@of_loss(
    "categorical/loss-contains-the-kl",
    statement="The loss changes with the logits as the KL from the uniform prior does, times a "
    "positive weight.",
    formula=r"\mathcal L(o, x, \ell) - \mathcal L(o, x, 0) = \beta\,\mathrm{KL}(\ell), \quad "
    r"\beta > 0",
    kills=("loss-of-codes-without-kl", "loss-of-codes-minus-kl"),
)
def loss_contains_the_kl(probe: Probe) -> None:
    loss = _Loss(probe)
    uniform = torch.zeros(loss.size, dtype=probe.dtype)
    base = loss(loss.outputs, uniform)
    every = [_logits(probe, f"loss {index}", loss.size) for index in range(3)]
    kls = torch.stack([_divergence(logits, uniform).sum() for logits in every])
    values = torch.stack([loss(loss.outputs, logits) for logits in every])
    weights = (values - base) / kls
    scale = (values.abs() + base.abs()) / kls + weights.abs() * _scale(every[0], uniform).sum()
    if bool((weights.abs() <= 32 * torch.finfo(probe.dtype).eps * scale).all()):
        raise Violation("the loss does not depend on the logits: it has no KL", symptom="no-kl")
    if bool((weights < 0).all()):
        raise Violation(
            f"the KL has the weight {weights[0]:.6g} in the loss, which is negative",
            symptom="minus-kl",
        )
    require_agreement(
        "the change of the loss over that of the KL, at other logits,",
        weights,
        weights[:1].expand(3),
        scale=scale + scale[0],
        dtype=probe.dtype,
        inputs={"logits": every[1]},
    )


@of_loss(
    "categorical/loss-one-batch-reduction",
    statement="Both terms of the loss grow alike if every example is given twice: both are sums "
    "over the batch, or both are means.",
    formula=r"\frac{\mathrm{KL}(x, x)}{\mathrm{KL}(x)} = \frac{\mathrm{NLL}(x, x)}"
    r"{\mathrm{NLL}(x)}",
    kills=("loss-of-codes-kl-summed-over-batch",),
    builds_on=("categorical/loss-contains-the-kl",),
)
def loss_one_batch_reduction(probe: Probe) -> None:
    loss = _Loss(probe)
    logits = _logits(probe, "loss", loss.size)
    parts, sums = [], []
    for times in (1, 2):
        whole = loss(loss.outputs, logits, times)
        other, uniform = loss(loss.others, logits, times), loss(loss.outputs, 0 * logits, times)
        parts.append(torch.stack([whole - uniform, whole - other]))
        sums.append(whole.abs() + torch.stack([uniform, other]).abs())
    growth = parts[1] / parts[0]
    scale = (sums[1] + growth.abs() * sums[0]) / parts[0].abs()
    require_agreement(
        "the factor by which the KL in the loss grows if every example is given twice",
        growth[0],
        growth[1],
        scale=scale.sum(),
        dtype=probe.dtype,
        inputs={"logits": logits},
        symptom="batch",
    )
