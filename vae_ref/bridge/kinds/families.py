"""The references of the likelihoods as subjects."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import LikelihoodFamily
from vae_ref.kinds import classes, counts, discretised_logistic
from vae_ref.kinds.families import draw_gaussian, draw_laplace, gaussian_nll, laplace_nll
from vae_ref.kinds.student import draw_student, student_nll

__all__ = ["ALL", "reference"]

_Log = Callable[..., Tensor]


def _uniform(like: Tensor) -> Tensor:
    return torch.rand_like(like).clamp_min(torch.finfo(like.dtype).tiny)


def _student(mean: Tensor, log_scale: Tensor, degrees: Tensor) -> Tensor:
    chi_square = torch.distributions.Chi2(degrees).sample()
    return draw_student(mean, log_scale, degrees, torch.randn_like(mean), chi_square)


def _mixture(logits: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    choice, noise = (_uniform(mean[..., 0]) for _ in range(2))
    return discretised_logistic.draw_mixture(logits, mean, log_scale, choice, noise)


def _of_counts(log: _Log) -> dict[str, Any]:
    def draw(*parameters: Tensor) -> Tensor:
        noise = torch.rand_like(parameters[0])
        return counts.draw_count(lambda x: log(x, *parameters), noise)

    return {"score": lambda x, *parameters: -log(x, *parameters).sum(-1), "draw_pixels": draw}


ALL: dict[str, dict[str, Any]] = {
    "gaussian": {
        "score": gaussian_nll,
        "mean_of": lambda mean, log_sigma: mean,
        "draw_pixels": lambda mean, s: draw_gaussian(mean, s, torch.randn_like(mean)),
    },
    "laplace": {
        "score": laplace_nll,
        "mean_of": lambda mean, log_scale: mean,
        "draw_pixels": lambda mean, s: draw_laplace(mean, s, _uniform(mean)),
    },
    "student-t": {
        "score": student_nll,
        "mean_of": lambda mean, log_scale, degrees: mean,
        "draw_pixels": _student,
    },
    "discretised-logistic": {
        "score": discretised_logistic.logistic_nll,
        "draw_pixels": lambda mean, s: discretised_logistic.draw_logistic(mean, s, _uniform(mean)),
    },
    "logistic-mixture": {"score": discretised_logistic.mixture_nll, "draw_pixels": _mixture},
    "poisson": _of_counts(counts.log_poisson) | {"mean_of": lambda rate: rate},
    "negative-binomial": _of_counts(counts.log_negative_binomial)
    | {"mean_of": lambda mean, theta: mean},
    "zero-inflated-negative-binomial": _of_counts(counts.log_zero_inflated)
    | {"mean_of": lambda mean, theta, gate_logits: mean * torch.sigmoid(-gate_logits)},
    "categorical": {
        "score": classes.categorical_nll,
        "mean_of": lambda logits: logits.softmax(-1),
        "draw_pixels": lambda logits: classes.draw_categorical(
            logits, torch.rand_like(logits[..., 0])
        ),
    },
    "multinomial": {
        "score": classes.multinomial_nll,
        "mean_of": lambda logits: logits.softmax(-1),
        "draw_pixels": lambda logits: classes.draw_multinomial(
            logits, torch.rand(*logits.shape[:-1], 10)
        ),
    },
}
"""Name of a family -> its functions."""


def reference(dtype: torch.dtype = torch.float32, family: str = "gaussian") -> LikelihoodFamily:
    """Return the reference of a family, asked in a precision; its form is left to be inferred."""
    conventions = Conventions(dtype="float32" if dtype == torch.float32 else "float64")
    return LikelihoodFamily(
        name=f"the reference of the {family} likelihood",
        up_to_constant=False,
        conventions=conventions,
        **ALL[family],
    )
