"""Claims about the training of a linear-Gaussian VAE, whose optimum is known exactly."""

from functools import partial

from vae_ref.conformance.claims.registry import claim
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, Violation
from vae_ref.conformance.trainings.linear import optimum, solution

# How far the end of a training may be away: several times what the noise of training leaves.
_NATS, _RADIANS, _RATIO = 0.01, 0.02, 0.06

_claim = partial(
    claim,
    slot="train",
    needs=("kl|loss", "reparameterize"),
    kind="identity",
    builds_on=("kl/closed-form", "reparameterization/affine", "objective/beta"),
    level="trained",
    seconds=60.0,
)
_SOURCE = "Tipping and Bishop 1999, equation 8; Lucas et al. 2019, theorem 1"


@_claim(
    "training/linear-optimum",
    statement="A linear-Gaussian VAE trained with the subject's KL and sampler reaches the "
    "maximum likelihood of probabilistic PCA and does not exceed it; the bound that the "
    "subject's own KL gives does neither.",
    formula=r"\max \mathrm{ELBO} = -\tfrac12 \Big(\sum_j \log \lambda_j + D\,(1 + \log 2\pi)"
    r"\Big), \quad \lambda_{q+1} = \dots = \lambda_D = s^2",
    source=_SOURCE,
    tolerance="0.01 nats per example to either side; a KL that is wrong by 1 % is found",
    kills=("kl-one-per-cent", "kl-no-half", "z-half-exp-logvar"),
)
def linear_optimum(probe: Probe) -> Finding:
    best, found = optimum(probe).elbo, solution(probe)
    if not best - found.elbo <= _NATS:
        raise Violation(
            f"the linear VAE ends {best - found.elbo:.4f} nats per example below the optimum",
            symptom="below",
        )
    if not abs(best - found.reported) <= _NATS:
        raise Violation(
            f"the bound that the subject's KL gives is {found.reported:.4f} nats per example; the "
            f"optimum is {best:.4f}",
            symptom="reported above" if found.reported > best else "reported below",
        )
    summary = (
        f"{best - found.elbo:.5f} nats per example below the optimum of probabilistic PCA, "
        f"{best - found.reported:.5f} by the subject's own KL"
    )
    return Finding(facts={"linear VAE": summary})


@_claim(
    "training/principal-subspace",
    statement="The columns of the linear decoder span the principal subspace.",
    formula=r"\mathrm{span}\,W = \mathrm{span}(u_1, \dots, u_q)",
    source=_SOURCE,
    tolerance="a largest principal angle of 0.02; the noise of training leaves 0.001",
    kills=("z-detached-mu", "z-no-mu"),
)
def principal_subspace(probe: Probe) -> None:
    angle = solution(probe).angle
    if not angle <= _RADIANS:
        raise Violation(
            f"the decoder's columns are {angle:.3f} radians from the principal subspace",
            symptom="angle",
        )


@_claim(
    "training/posterior-variances",
    statement="The linear VAE's posterior variances are the analytic ones.",
    formula=r"\sigma_j^2 = s^2 / \lambda_j",
    source=_SOURCE,
    tolerance="6 % each; the noise of training leaves 1 %",
    kills=("kl-no-half", "z-half-exp-logvar"),
)
def posterior_variances(probe: Probe) -> None:
    right, found = optimum(probe).variances, solution(probe).variances
    ratio = found / right
    if not bool(((ratio - 1).abs() <= _RATIO).all()):
        worst = int((ratio - 1).abs().argmax())
        raise Violation(
            f"a posterior variance is {float(found[worst]):.4g}, not {float(right[worst]):.4g}",
            symptom="large" if ratio[worst] > 1 else "small",
        )
