"""Claims about the importance-weighted bound."""

import math
from functools import partial

import torch

from vae_ref.conformance.answers.comparison import require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe

claim = partial(registry.claim, slot="bound")

_NEEDS = ("importance_weighted",)
_SOURCE = "Burda, Grosse and Salakhutdinov 2016, equation 8"


@claim(
    "objective/importance-weighted",
    statement="The importance-weighted bound is the logarithm of the mean weight.",
    formula=r"L_K = \log \tfrac1K \sum_k w_k",
    source=_SOURCE,
    needs=_NEEDS,
    kind="exact",
    tolerance="32 roundings of |log w| + log K",
    kills=("iw-no-log-k", "iw-mean-of-logs", "iw-self-normalised"),
)
def importance_weighted(probe: Probe) -> None:
    for examples, samples in ((1, 1), (1, 2), (3, 5)):
        log_w = 2 * probe.normal(f"weights {samples}", examples, samples) - 3
        exact = torch.logsumexp(log_w.double(), 1) - math.log(samples)
        require_agreement(
            "the importance-weighted bound",
            probe.bound(log_w),
            exact,
            scale=log_w.double().abs().sum(1) + math.log(samples) + 1,
            dtype=probe.dtype,
            inputs={"log_w": log_w},
        )


@claim(
    "objective/importance-weighted-range",
    statement="The importance-weighted bound is right for log weights far below and above zero.",
    formula=r"L_K(\log w + c) = L_K(\log w) + c, \quad |c| \le 1000",
    source="xqding/Importance_Weighted_Autoencoders issue 3",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance="32 roundings of |log w| + |c|",
    kills=("iw-no-shift",),
)
def importance_weighted_range(probe: Probe) -> None:
    log_w = probe.normal("weights", 3, 5)
    for shift in (-1000.0, 1000.0):
        exact = torch.logsumexp(log_w.double(), 1) - math.log(5) + shift
        require_agreement(
            f"the bound of log weights near {shift:g}",
            probe.bound(log_w + shift),
            exact,
            scale=log_w.double().abs().sum(1) + abs(shift),
            dtype=probe.dtype,
            inputs={"log_w": log_w + shift},
        )


@claim(
    "objective/importance-weighted-gradient",
    statement="The gradient of the bound with respect to the log weights is the normalised "
    "weights.",
    formula=r"\partial L_K / \partial \log w_k = w_k / \textstyle\sum_j w_j",
    source="Burda, Grosse and Salakhutdinov 2016, equation 13",
    needs=_NEEDS,
    kind="gradient",
    tolerance="32 roundings of 1 + |log w|",
    kills=("iw-detached-weights", "iw-mean-of-logs"),
)
def importance_weighted_gradient(probe: Probe) -> None:
    probe.require_gradient("importance_weighted")
    log_w = 2 * probe.normal("weights", 3, 5) - 3
    require_agreement(
        "the gradient of the bound",
        probe.gradient(probe.bound, log_w)[0],
        torch.softmax(log_w.double(), 1),
        scale=1 + log_w.double().abs(),
        dtype=probe.dtype,
        inputs={"log_w": log_w},
    )
