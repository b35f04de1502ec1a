"""Claims about DIP-VAE's penalty, and about FactorVAE's discriminator and what it is given."""

from collections import Counter
from functools import partial
from itertools import combinations

import torch
import torch.nn.functional as F
from scipy import special
from torch import Tensor

from vae_ref.conformance.answers.comparison import require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.claims.kinds.disentangling import answer, require_mean, require_slope
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Violation

_TERMS = "32 roundings of the sum of the terms' absolute values"
_KIM = "Kim and Mnih 2018"
_CALLS, _ROWS, _LATENTS = 1_000, 3, 3

of_dip = partial(
    registry.claim,
    slot="dip_penalty",
    source="Kumar, Sattigeri and Balakrishnan 2018, equations 6 and 7",
    needs=("dip_penalty", "lambda_od", "lambda_d"),
    tolerance=_TERMS,
    builds_on=("disentangling/dip-penalty",),
)
of_shuffle = partial(
    registry.claim,
    slot="permute_latents",
    source=f"{_KIM}, algorithm 1",
    needs=("permute_latents",),
)
of_ratio = partial(
    registry.claim,
    slot="tc_from_logits",
    source=f"{_KIM}, equation 3",
    needs=("tc_from_logits",),
    tolerance=_TERMS,
)
of_loss = partial(
    registry.claim,
    slot="discriminator_loss",
    source=f"{_KIM}, algorithm 2",
    needs=("discriminator_loss",),
    tolerance=_TERMS,
)


def _one(slot: str, found: object) -> Tensor:
    """Return an answer that has to be one number."""
    if not isinstance(found, Tensor) or found.numel() != 1:
        kind = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise Violation(f"{slot} returned {kind}, not one number", symptom="shape")
    return found.reshape(())


def _penalties(probe: Probe, mu: Tensor, logvar: Tensor) -> list[Tensor]:
    """Return the penalty entry by entry, with a covariance divided by B and by B - 1."""
    subject, examples, latents = probe.fields, len(mu), mu.shape[1]
    found = []
    for divisor in (examples, examples - 1):
        total = mu.new_zeros(())
        for i in range(latents):
            for j in range(latents):
                a, b = mu[:, i], mu[:, j]
                entry = ((a * b).sum() - a.sum() * b.sum() / examples) / divisor
                if i == j and subject.dip_version == "II":
                    entry = entry + torch.exp(logvar[:, i]).sum() / examples
                total = total + (
                    subject.lambda_d * (entry - 1) ** 2 if i == j else subject.lambda_od * entry**2
                )
        found.append(total)
    return found


def _dip_scale(probe: Probe, mu: Tensor, logvar: Tensor) -> Tensor:
    subject, size = probe.fields, mu.abs()
    entry = 4 * size.T @ size / (len(mu) - 1) + torch.diag(
        (1 + logvar.abs()).mul(torch.exp(logvar)).mean(0) + 1
    )
    weight = subject.lambda_od + (subject.lambda_d - subject.lambda_od) * torch.eye(len(entry))
    return (weight.abs() * entry.square()).sum()  # type: ignore[no-any-return]


def _posteriors(probe: Probe, name: str, examples: int, latents: int) -> tuple[Tensor, Tensor]:
    mu = probe.normal(f"{name} mu {examples}", examples, latents)
    shared = probe.normal(f"{name} shared {examples}", examples, 1)
    return mu + shared + 0.5, 0.5 * probe.normal(f"{name} logvar {examples}", examples, latents)


def _dip(probe: Probe, mu: Tensor, logvar: Tensor) -> Tensor:
    return _one("dip_penalty", answer(probe, "dip_penalty", *probe.posterior(mu, logvar)))


def _closest(found: Tensor, rights: list[Tensor]) -> int:
    return int(torch.stack([(found.detach() - r.detach()).abs() for r in rights]).argmin())


@of_dip(
    "disentangling/dip-penalty",
    statement="The penalty is the squared distance of the covariance from the identity, with the "
    "declared weights on and off its diagonal.",
    formula=r"\lambda_{od} \sum_{i \ne j} C_{ij}^2 + \lambda_d \sum_i (C_{ii} - 1)^2, \qquad "
    r"C = \operatorname{Cov}_n[\mu_n] \;\big({} + E_n[\operatorname{diag} \sigma_n^2] "
    r"\text{ in version II}\big)",
    kind="exact",
    kills=(
        "dip-not-centred",
        "dip-centred-over-latents",
        "dip-not-divided-by-batch",
        "dip-variance-on-all-entries",
        "dip-variance-squared",
        "dip-variance-missing",
        "dip-weights-swapped",
        "dip-diagonal-to-zero",
        "dip-half-of-the-pairs",
        "dip-diagonal-weighed-twice",
    ),
    builds_on=(),
)
def dip_penalty(probe: Probe) -> None:
    for examples, latents in ((6, 3), (9, 4), (5, 2)):
        mu, logvar = _posteriors(probe, "dip", examples, latents)
        wide = mu.double(), logvar.double()
        found, rights = _dip(probe, mu, logvar), _penalties(probe, *wide)
        require_agreement(
            "the penalty on the covariance of a batch",
            found,
            rights[_closest(found, rights)],
            scale=_dip_scale(probe, *wide),
            dtype=probe.dtype,
            inputs={"mu": mu, "logvar": logvar},
        )


@of_dip(
    "disentangling/dip-penalty-moved",
    statement="The penalty does not change if all means are shifted by the same amount.",
    formula=r"\operatorname{Cov}[\mu + a] = \operatorname{Cov}[\mu]",
    kind="metamorphic",
    kills=("dip-not-centred",),
)
def dip_penalty_moved(probe: Probe) -> None:
    mu, logvar = _posteriors(probe, "moved", 6, 3)
    away = mu + 2 * probe.normal("move", 1, 3)
    wide = torch.maximum(mu.abs(), away.abs()).double(), logvar.double()
    require_agreement(
        "the penalty on a batch whose means were moved",
        _dip(probe, away, logvar),
        _dip(probe, mu, logvar),
        scale=_dip_scale(probe, *wide),
        dtype=probe.dtype,
        inputs={"mu": mu, "logvar": logvar},
    )


@of_dip(
    "disentangling/dip-penalty-slopes",
    statement="The penalty has the right gradient with respect to the means and, in version II, "
    "the variances.",
    formula=r"\frac{\partial}{\partial(\mu, \log\sigma^2)} \Big(\lambda_{od} \sum_{i \ne j} "
    r"C_{ij}^2 + \lambda_d \sum_i (C_{ii} - 1)^2\Big)",
    kind="gradient",
    kills=("dip-variance-detached", "dip-means-detached"),
)
def dip_penalty_slopes(probe: Probe) -> None:
    probe.require_gradient("dip_penalty")
    mu, logvar = _posteriors(probe, "dip slopes", 6, 3)
    leaves = mu.double().requires_grad_(), logvar.double().requires_grad_()
    rights = _penalties(probe, *leaves)
    right = rights[_closest(_dip(probe, mu, logvar), rights)]
    exact = torch.autograd.grad(right, leaves, allow_unused=True)
    found = probe.gradient(partial(_dip, probe), mu, logvar)
    scale = 4 * _dip_scale(probe, mu.double(), logvar.double())
    for name, mine, slope in zip(("mu", "logvar"), found, exact, strict=True):
        right_slope = torch.zeros_like(mine) if slope is None else slope
        inputs = {"mu": mu, "logvar": logvar}
        require_slope(probe, "the penalty", name, mine, right_slope, scale=scale, inputs=inputs)


def _shuffled(probe: Probe, z: Tensor) -> Tensor:
    found = answer(probe, "permute_latents", z)
    if not isinstance(found, Tensor) or found.shape != z.shape:
        kind = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise Violation(f"codes of shape {tuple(z.shape)} became {kind}", symptom="shape")
    return found.detach()


@of_shuffle(
    "disentangling/permuted-latents-keep-their-values",
    statement="A latent has the same values in the batch after the permutation as before.",
    formula=r"\{z_{\pi_d(n), d}\}_n = \{z_{nd}\}_n",
    kind="exact",
    tolerance="none: bit for bit",
    kills=("latents-permuted-within-examples", "latents-drawn-with-replacement"),
)
def permuted_latents_keep_their_values(probe: Probe) -> None:
    z = probe.normal("codes", 7, 4)
    probe.subject.seed(probe.number("shuffle"))
    for _ in range(3):
        found = _shuffled(probe, z).to(z.dtype)
        wrong = (found.sort(0)[0] != z.sort(0)[0]).any(0)
        if bool(wrong.any()):
            latent = int(wrong.nonzero()[0])
            within = bool((found.sort(1)[0] == z.sort(1)[0]).all())
            raise Violation(
                f"after the permutation, latent {latent} of 7 codes has other values than before",
                symptom="within-examples" if within else "values",
            )


@of_shuffle(
    "disentangling/latents-permuted-independently",
    statement="After the permutation, a latent comes from any example, whichever examples the "
    "other latents come from.",
    formula=r"P\big(\pi_d(n) = i,\ \pi_e(n) = j\ \text{for some}\ n\big) = \frac1B",
    kind="statistical",
    tolerance="a probability of 1/3 that is wrong by 0.16 is found, in 1,000 batches of 3 codes",
    kills=(
        "latents-permuted-together",
        "latents-not-permuted",
        "latents-rolled-by-their-index",
    ),
    builds_on=("disentangling/permuted-latents-keep-their-values",),
)
def latents_permuted_independently(probe: Probe) -> None:
    z = (torch.arange(_ROWS).unsqueeze(1) + 10.0 * torch.arange(_LATENTS)).to(probe.dtype)
    probe.subject.seed(probe.number("independent"))
    counts: Counter[tuple[int, int, int, int]] = Counter()
    still = True
    for _ in range(_CALLS):
        found = _shuffled(probe, z).double()
        still &= bool((found == z).all())
        for row in (found - 10 * torch.arange(_LATENTS)).round().long().tolist():
            for d, e in combinations(range(_LATENTS), 2):
                counts[d, e, row[d], row[e]] += 1
    pairs = len(list(combinations(range(_LATENTS), 2)))
    alpha = probe.alpha / (pairs * _ROWS**2)
    for d, e in combinations(range(_LATENTS), 2):
        for i in range(_ROWS):
            for j in range(_ROWS):
                count = counts[d, e, i, j]
                p = _binomial(count, _CALLS, 1 / _ROWS)
                if not p >= alpha:
                    symptom = "together" if count == _CALLS and i == j else "fixed"
                    raise Violation(
                        f"latent {d} of example {i} met latent {e} of example {j} in {count:,} of "
                        f"{_CALLS:,} permutations of {_ROWS} codes, not in a third (p = {p:.1g})",
                        symptom="still" if still else symptom,
                    )


def _binomial(count: int, n: int, p: float) -> float:
    """Return the p-value of a count, from both exact tails."""
    above = special.bdtrc(count - 1, n, p) if count else 1.0
    return float(min(1.0, 2 * min(special.bdtr(count, n, p), above)))


def _logits(probe: Probe, name: str, examples: int) -> Tensor:
    return 2 * probe.normal(f"{name} {examples}", examples, probe.fields.logits)


def _log_odds(probe: Probe, logits: Tensor) -> Tensor:
    """Return the logarithm of the odds that codes are joint."""
    subject = probe.fields
    if subject.logits == 1:
        return logits[:, 0]
    return logits[:, subject.joint_class] - logits[:, 1 - subject.joint_class]


@of_ratio(
    "disentangling/tc-from-logits",
    statement="The total correlation is the logit of joint codes minus that of permuted codes.",
    formula=r"\log\frac{D(z)}{1 - D(z)} = l_{\text{joint}} - l_{\text{permuted}}",
    kind="exact",
    kills=("tc-logits-reversed", "tc-logits-as-probabilities", "tc-logits-of-one-class"),
)
def tc_from_logits(probe: Probe) -> None:
    for examples in (5, 3):
        logits = _logits(probe, "tc", examples)
        exact = _log_odds(probe, logits.double())
        found = answer(probe, "tc_from_logits", logits)
        if not isinstance(found, Tensor) or found.numel() not in (1, examples):
            raise Violation("tc_from_logits returned no number for each code", symptom="shape")
        found = found.reshape(-1).detach().double()
        if found.numel() == 1 and bool(
            (found / examples - exact.mean()).abs() < (found - exact.mean()).abs()
        ):
            found = found / examples
        require_mean(
            probe,
            "total correlation",
            found,
            exact,
            scale=logits.double().abs().sum(1) + 1,
            inputs={"logits": logits},
        )


def _losses(probe: Probe, joint: Tensor, permuted: Tensor) -> Tensor:
    odds = F.softplus(-_log_odds(probe, joint)), F.softplus(_log_odds(probe, permuted))
    return 0.5 * (odds[0].mean() + odds[1].mean())


def _loss(probe: Probe, joint: Tensor, permuted: Tensor) -> Tensor:
    return _one("discriminator_loss", answer(probe, "discriminator_loss", joint, permuted))


@of_loss(
    "disentangling/discriminator-loss",
    statement="The discriminator's loss is its cross-entropy, up to a factor.",
    formula=r"-\tfrac12 E_{q(z)}[\log D(z)] - \tfrac12 E_{\prod_d q(z_d)}[\log(1 - D(z))]",
    kind="exact",
    kills=(
        "discriminator-labels-swapped",
        "discriminator-of-joint-codes-alone",
        "discriminator-of-probabilities",
    ),
)
def discriminator_loss(probe: Probe) -> None:
    """At equal logits it is the factor times log 2, which no bug of the labels changes."""
    for examples in (5, 3):
        even = torch.zeros(examples, probe.fields.logits, dtype=probe.dtype)
        unit = _loss(probe, even, even).detach().double() / torch.log(torch.tensor(2.0).double())
        joint, permuted = (_logits(probe, name, examples) for name in ("joint", "permuted"))
        require_agreement(
            "the loss of the discriminator, over that at equal logits,",
            _loss(probe, joint, permuted).detach().double() / unit,
            _losses(probe, joint.double(), permuted.double()),
            scale=4 * (1 + joint.abs().mean() + permuted.abs().mean()),
            dtype=probe.dtype,
            inputs={"joint": joint, "permuted": permuted},
        )


@of_loss(
    "disentangling/discriminator-at-its-optimum",
    statement="The discriminator's loss is stationary where its log odds are the log ratio of the "
    "densities, which makes the total correlation right.",
    formula=r"\log\frac{D(z)}{1 - D(z)} = \log\frac{q(z)}{\prod_d q(z_d)}\ \Rightarrow\ "
    r"\frac{\partial}{\partial l}\,\text{loss} = 0",
    kind="identity",
    kills=("discriminator-labels-swapped", "discriminator-of-joint-codes-alone"),
    builds_on=("disentangling/discriminator-loss",),
)
def discriminator_at_its_optimum(probe: Probe) -> None:
    """Three codes: joint ones are found 1, 2 and 5 times in 8, permuted ones 4, 2 and 2 times."""
    probe.require_gradient("discriminator_loss")
    subject = probe.fields
    of_joint, of_permuted = torch.tensor([1, 2, 5]), torch.tensor([4, 2, 2])
    ratio = torch.log(of_joint.double() / of_permuted).to(probe.dtype)
    kept = 0.3 * probe.normal("level", 3) if subject.logits == 2 else torch.zeros_like(ratio)

    def loss(odds: Tensor) -> Tensor:
        logits = [kept + odds, kept] if subject.logits == 2 else [odds]
        if subject.joint_class == 1:
            logits.reverse()
        codes = torch.stack(logits, 1)
        return _loss(
            probe, codes.repeat_interleave(of_joint, 0), codes.repeat_interleave(of_permuted, 0)
        )

    (slope,) = probe.gradient(loss, ratio)
    (steep,) = probe.gradient(loss, ratio + 1)
    require_agreement(
        "the slope of the discriminator's loss at the true ratio of the densities",
        slope,
        torch.zeros(3),
        scale=4 * steep.abs().double().max() + torch.finfo(probe.dtype).tiny,
        dtype=probe.dtype,
        inputs={"log odds": ratio},
    )
