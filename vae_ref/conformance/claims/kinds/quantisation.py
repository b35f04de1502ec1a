"""Claims about vector quantisation: the nearest code, and which loss moves which parameters."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from vae_ref.conformance.answers.comparison import ROUNDINGS, require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.probe.routing import Term, require_routes
from vae_ref.conformance.records import Finding, NotApplicable, Violation

_PAPER = "van den Oord, Vinyals and Kavukcuoglu 2017"
_TERMS = "32 roundings of the sum of the terms' absolute values"
_ENCODINGS = 60  # about: so many examples as have so many positions together
_MARGIN = 1e-3  # of the squared lengths: nearer rivals are left out, unless few are further
_SAME = 1e-5  # the relative difference of weights that are taken for the same
_SMALL = 1e-3  # the largest epsilon of the smoothing of counts that is not declared
_IN_LOG = 1e-6  # what may be added to a probability, to keep its logarithm finite
_LEVELS = (8, 5, 4)
_REACH, _STEPS = 8.0, 4001  # of the numbers that are rounded to levels
_SLACK = 0.01  # of a spacing: for the integral by trapezoids, and what a bound reaches beyond

of_quantise = partial(registry.claim, slot="quantise", source=f"{_PAPER}, equation 2")
of_loss = partial(registry.claim, slot="quantisation_loss", source=f"{_PAPER}, equation 3")
of_commitment = partial(registry.claim, slot="commitment_loss", source=f"{_PAPER}, equation 3")
of_update = partial(registry.claim, slot="update_codebook", source=f"{_PAPER}, appendix A.1")
of_levels = partial(registry.claim, slot="round_levels", source="Mentzer et al. 2023, section 3.1")


class Batch(NamedTuple):
    """Encodings ``(n, dims)`` of some examples, a codebook, and the index of the nearest code."""

    examples: int
    z: Tensor
    book: Tensor
    nearest: Tensor

    @property
    def e(self) -> Tensor:
        """The nearest codes, in double precision."""
        return self.book.double()[self.nearest]

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What the subject is given, by the names that messages use."""
        return {"z_e": self.z, "the codebook": self.book}

    @property
    def squares(self) -> Tensor:
        """The sum of the squared distances."""
        return (self.z.double() - self.e).square().sum()

    def by_code(self, rows: Tensor) -> Tensor:
        """Add up rows that have the same code."""
        return torch.zeros_like(self.book, dtype=torch.float64).index_add(0, self.nearest, rows)

    def both(self, rows: Tensor, of_codes: Tensor) -> dict[str, Tensor]:
        """Return a derivative by the encodings, and by the codes of each, added up."""
        return {"z_e": rows, "the codebook": self.by_code(of_codes)}


def _distances(z: Tensor, book: Tensor) -> Tensor:
    return (z.double().unsqueeze(1) - book.double()).square().sum(-1)


def _batch(probe: Probe, name: str) -> Batch:
    """Draw codes of several lengths, and encodings without two codes that are as near."""
    subject = probe.fields
    codes, dims, positions = subject.codes, subject.dims, math.prod(subject.positions)
    examples = max(2, round(_ENCODINGS / positions))
    n = examples * positions
    lengths = torch.linspace(0.4, 2, codes, dtype=probe.dtype).unsqueeze(1)
    book = lengths * probe.normal(f"{name} codebook", codes, dims)
    drawn = 1.5 * probe.normal(f"{name} z", 3 * n, dims)
    near = _distances(drawn, book).topk(2, largest=False).values
    size = drawn.double().square().sum(1) + book.double().square().sum(1).max()
    margin = (near[:, 1] - near[:, 0]) / size
    z = drawn[margin >= min(_MARGIN, float(margin.topk(n).values[-1]))][:n]
    return Batch(examples, z, book, _distances(z, book).argmin(1))


def _arranged(probe: Probe, rows: Tensor) -> Tensor:
    """Return rows in the subject's shape."""
    subject = probe.fields
    whole = rows.reshape(-1, *subject.positions, subject.dims)
    return whole.movedim(-1, subject.code_axis).clone(memory_format=torch.contiguous_format)


def _quantised(probe: Probe, z: Tensor, book: Tensor) -> tuple[Tensor, Tensor]:
    """Return z_q as rows, and the index of each; taken from z_q if there is none."""
    subject, given = probe.fields, _arranged(probe, z)
    with probe.calling():
        answer = subject.quantise(given, book.clone())
    several = isinstance(answer, tuple | list)
    z_q, index = (answer[0], answer[1] if len(answer) > 1 else None) if several else (answer, None)
    right = tuple(_arranged(probe, z).shape)
    if not isinstance(z_q, Tensor) or tuple(z_q.shape) != right:
        found = tuple(z_q.shape) if isinstance(z_q, Tensor) else type(z_q).__name__
        raise Violation(f"z_q is {found} for z_e of shape {right}", symptom="shape")
    rows = z_q.movedim(subject.code_axis, -1).reshape(len(z), -1)
    if index is None:
        return rows, _distances(rows.detach(), book).argmin(1)
    if index.numel() == len(z) * subject.codes:  # one-hot
        index = index.reshape(len(z), -1).argmax(1)
    if index.numel() != len(z):
        raise Violation(f"{index.numel()} indices for {len(z)} encodings", symptom="indices")
    index = index.detach().reshape(-1).long()
    if not bool(((index >= 0) & (index < subject.codes)).all()):
        raise Violation(f"an index is not one of {subject.codes} codes", symptom="indices")
    return rows, index


def _gradients(
    probe: Probe, part: str, function: Callable[[Tensor, Tensor], Tensor], batch: Batch
) -> dict[str, Tensor]:
    """Differentiate by z_e and the codebook; what is detached from both has gradients of zero."""
    probe.require_gradient(part)
    try:
        found = probe.gradient(function, batch.z, batch.book)
    except Violation:
        found = [torch.zeros_like(batch.z), torch.zeros_like(batch.book)]
    return dict(zip(batch.inputs, found, strict=True))


# The nearest code.


@of_quantise(
    "quantisation/nearest-code",
    statement="The index of a code is that of the nearest in the codebook.",
    formula=r"k_n = \arg\min_k \lVert z_{e,n} - e_k \rVert^2",
    needs=("quantise",),
    kind="exact",
    tolerance=_TERMS + ", of the mean squared distance; near ties are left out",
    kills=("quantise-furthest-code", "quantise-without-code-norm", "quantise-channels-mixed"),
)
def nearest_code(probe: Probe) -> None:
    for name in ("one", "two"):
        batch = _batch(probe, f"nearest {name}")
        _, index = _quantised(probe, batch.z, batch.book)
        chosen = (batch.z.double() - batch.book.double()[index]).square().sum(1)
        require_agreement(
            "the mean squared distance of z_e from the codes of the indices",
            chosen.mean(),
            batch.squares / len(batch.z),
            scale=chosen.mean(),
            dtype=probe.dtype,
            inputs=batch.inputs,
        )


@of_quantise(
    "quantisation/moved-together",
    statement="The nearest codes stay the same if encodings and codebook are shifted, rotated and "
    "scaled together.",
    formula=r"k_n(a + b\,Q z_e,\ a + b\,Q e) = k_n(z_e, e), \qquad Q^\top Q = I",
    needs=("quantise",),
    kind="metamorphic",
    tolerance="none: near ties are left out",
    kills=("quantise-without-code-norm",),
    builds_on=("quantisation/nearest-code",),
)
def moved_together(probe: Probe) -> None:
    batch = _batch(probe, "moved")
    dims = batch.z.shape[1]
    turn = torch.linalg.qr(probe.normal("turn", dims, dims).double()).Q
    shift = 3 * probe.normal("shift", dims).double()
    z, book = ((shift + 2 * t.double() @ turn).to(probe.dtype) for t in (batch.z, batch.book))
    _, index = _quantised(probe, batch.z, batch.book)
    _, moved = _quantised(probe, z, book)
    if changed := int((index != moved).sum()):
        raise Violation(
            f"{changed} of {len(index)} encodings have another code if they are moved together "
            "with the codebook",
            symptom="moved",
        )


@of_quantise(
    "quantisation/z-q-is-the-code",
    statement="The decoder is given the code with the returned index, as it is in the codebook.",
    formula=r"z_{q,n} = e_{k_n}",
    needs=("quantise",),
    kind="exact",
    tolerance="32 roundings of |z_e| + |e|",
    kills=("straight-through-reversed", "quantise-after-update", "quantise-positions-mixed"),
    builds_on=("quantisation/nearest-code",),
)
def z_q_is_the_code(probe: Probe) -> None:
    batch = _batch(probe, "code")
    rows, index = _quantised(probe, batch.z, batch.book)
    codes = batch.book.double()[index]
    require_agreement(
        "z_q",
        rows,
        codes,
        scale=batch.z.double().abs() + codes.abs(),
        dtype=probe.dtype,
        inputs=batch.inputs,
    )


@of_quantise(
    "quantisation/straight-through",
    statement="The gradient of the decoder reaches the encoder unchanged, and does not reach the "
    "codebook.",
    formula=r"\frac{\partial L}{\partial z_e} = \frac{\partial L}{\partial z_q}, \qquad "
    r"\frac{\partial L}{\partial e} = 0",
    needs=("quantise",),
    kind="gradient",
    tolerance="32 roundings of the gradient",
    kills=(
        "straight-through-missing",
        "straight-through-moves-codebook",
        "straight-through-detached",
    ),
    builds_on=("quantisation/nearest-code", "quantisation/z-q-is-the-code"),
)
def straight_through(probe: Probe) -> None:
    if probe.fields.estimator == "other":
        raise NotApplicable("another estimator than the straight-through one is declared")
    batch = _batch(probe, "straight")
    slope = probe.normal("slope", *batch.z.shape)
    wide = slope.double()
    gradients = _gradients(
        probe, "quantise", lambda z, book: (_quantised(probe, z, book)[0] * slope).sum(), batch
    )
    require_routes(
        gradients,
        [Term("the loss of the decoder", 1.0, batch.both(wide, wide), {"z_e"})],
        scale=batch.both(wide.abs(), wide.abs()),
        dtype=probe.dtype,
        inputs=batch.inputs,
    )


# The losses. All of them are squared distances times a factor: only their gradients differ.


class Loss(NamedTuple):
    """The factor of the reduction of a loss, its name, and the weight of the commitment.

    With the weight 1, one squared distance with nothing detached has the gradients of both losses.
    """

    factor: float
    beta: float
    name: str
    as_one: bool

    @property
    def times(self) -> float:
        """How many times the squared distance is in the value."""
        return 1.0 if self.as_one else 1 + self.beta


def _value(probe: Probe, slot: str, z: Tensor, book: Tensor) -> Tensor:
    with probe.calling():
        answer: Tensor = getattr(probe.subject, slot)(_arranged(probe, z), book.clone())
    return answer


def _factors(probe: Probe, batch: Batch, answers: int) -> dict[str, float]:
    """Return what each reduction multiplies the sum of squares by, if so many numbers return."""
    n, dims = batch.z.shape
    counts = {"mean": n * dims, "dims": n, "example": batch.examples, "sum": 1}
    return {
        name: 1.0 if name == "sum" else min(1.0, answers / count) for name, count in counts.items()
    }


_NAMES = {
    "mean": "averaged over all numbers",
    "dims": "summed over the numbers of a code and averaged over codes",
    "example": "summed over an example and averaged over examples",
    "sum": "summed",
}


def _name(factor: float, factors: dict[str, float]) -> str:
    """Return the name of the reduction with this factor, if there is one."""
    return next((name for name, own in factors.items() if _same(own, factor)), "")


def _loss(probe: Probe, batch: Batch) -> Loss:
    """Infer the factor and the weight of a loss, as far as they are not declared."""
    subject = probe.fields
    declared, beta = subject.reduction, subject.commitment
    answer = _value(probe, "quantisation_loss", batch.z, batch.book).detach().double()
    per_square = float(answer.sum() / batch.squares)
    factors = _factors(probe, batch, answer.numel())
    of_encoder, of_codebook = _pulls(probe, batch)
    if beta in (None, 1) and _same(per_square, of_codebook) and _same(per_square, of_encoder):
        factor = factors[declared] if declared else per_square
        return Loss(factor, 1.0, _name(factor, factors), as_one=True)
    if declared:
        factor = factors[declared]
    else:
        by_value = per_square / (1 + beta) if beta is not None else 0.0
        known = [f for f in (by_value, of_codebook) if _name(f, factors)]
        # Without a gradient by the codebook, its loss is what is left of the value.
        rest = per_square - of_encoder if of_encoder > 0 else per_square / 2
        free = by_value or (of_codebook if of_codebook > 0 else rest)
        factor = known[0] if known else free or 1.0
    weight = per_square / factor - 1 if beta is None else beta
    return Loss(factor, weight, _name(factor, factors), as_one=False)


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= _SAME * abs(a)


def _pulls(probe: Probe, batch: Batch) -> tuple[float, float]:
    """Return with which weights encodings and codebook are moved towards each other."""
    try:
        gradients = _loss_gradients(probe, "quantisation_loss", batch)
    except NotApplicable:
        return 0.0, 0.0
    away = 2 * (batch.z.double() - batch.e)
    pulls = batch.both(away, -away)
    found = (float((gradients[k].double() * pull).sum()) for k, pull in pulls.items())
    sizes = (float(pull.square().sum()) for pull in pulls.values())
    of_encoder, of_codebook = (own / size for own, size in zip(found, sizes, strict=True))
    return of_encoder, of_codebook


def _loss_gradients(probe: Probe, slot: str, batch: Batch) -> dict[str, Tensor]:
    return _gradients(probe, slot, lambda z, book: _value(probe, slot, z, book).sum(), batch)


@of_loss(
    "quantisation/loss-value",
    statement="The loss is (1 + beta) times the squared distance between encodings and codes, in "
    "the declared reduction.",
    formula=r"L = \lVert \mathrm{sg}[z_e] - e \rVert^2 + \beta\, \lVert z_e - \mathrm{sg}[e] "
    r"\rVert^2 = (1 + \beta)\, \lVert z_e - e \rVert^2",
    needs=("quantisation_loss",),
    kind="exact",
    tolerance=_TERMS,
    kills=("vq-loss-not-squared", "vq-loss-averaged-over-dims", "commitment-weight-ignored"),
)
def loss_value(probe: Probe) -> Finding:
    first = _loss(probe, _batch(probe, "loss"))
    for name in ("loss", "another loss"):
        batch = _batch(probe, name)
        value = _value(probe, "quantisation_loss", batch.z, batch.book).detach().double().sum()
        require_agreement(
            "the loss, over the factor of its reduction,",
            value / first.factor,
            first.times * batch.squares,
            scale=(1 + abs(first.beta)) * (batch.z.double().abs() + batch.e.abs()).square().sum(),
            dtype=probe.dtype,
            inputs=batch.inputs,
        )
    how = _NAMES.get(first.name) or f"{first.factor:.6g} times the sum of squares"
    return Finding(facts={"quantisation loss": f"beta = {first.beta:.6g}, {how}"})


@of_loss(
    "quantisation/which-loss-moves-what",
    statement="The codebook loss moves the codebook alone, with weight 1, and the commitment loss "
    "the encoder alone, with weight beta.",
    formula=r"\frac{\partial L}{\partial z_e} = 2 \beta\, (z_e - e), \qquad "
    r"\frac{\partial L}{\partial e_k} = 2 \sum_{n:\, k_n = k} (e_k - z_{e,n})",
    needs=("quantisation_loss",),
    kind="gradient",
    tolerance="32 roundings of what each derivative adds up",
    kills=(
        "vq-weights-swapped",
        "codebook-loss-moves-encoder",
        "commitment-loss-moves-codebook",
        "vq-losses-without-detach",
        "codebook-loss-of-straight-through",
        "codebook-detached-everywhere",
        "commitment-loss-detached",
        "vq-losses-both-detached",
    ),
    builds_on=("quantisation/loss-value",),
)
def which_loss_moves_what(probe: Probe) -> None:
    batch = _batch(probe, "loss")
    gradients = _loss_gradients(probe, "quantisation_loss", batch)
    loss = _loss(probe, batch)
    pull = 2 * (batch.z.double() - batch.e)
    apart = batch.both(pull, -pull)
    _require_pulls(
        probe,
        batch,
        gradients,
        Term("the codebook loss", loss.factor, apart, {"the codebook"}),
        Term("the commitment loss", loss.factor * loss.beta, apart, {"z_e"}),
    )


def _require_pulls(probe: Probe, batch: Batch, gradients: dict[str, Tensor], *terms: Term) -> None:
    size = sum(abs(term.weight) for term in terms) * 2 * (batch.z.double().abs() + batch.e.abs())
    require_routes(
        gradients,
        terms,
        scale=batch.both(size, size),
        dtype=probe.dtype,
        inputs=batch.inputs,
    )


@of_commitment(
    "quantisation/commitment-value",
    statement="The commitment loss is proportional to the squared distances from the codes.",
    formula=r"L = \beta\, \lVert z_e - \mathrm{sg}[e] \rVert^2",
    needs=("commitment_loss",),
    kind="exact",
    tolerance=_TERMS,
    kills=("commitment-alone-not-squared",),
)
def commitment_value(probe: Probe) -> None:
    first, second = _batch(probe, "commitment"), _batch(probe, "another commitment")
    values = [
        _value(probe, "commitment_loss", b.z, b.book).detach().double().sum()
        for b in (first, second)
    ]
    sizes = [(b.z.double().abs() + b.e.abs()).square().sum() / b.squares for b in (first, second)]
    ratio = values[1] / values[0]
    require_agreement(
        "the ratio of the commitment losses of two batches",
        ratio,
        second.squares / first.squares,
        scale=ratio.abs() * (sizes[0] + sizes[1]),
        dtype=probe.dtype,
        inputs=first.inputs,
    )


@of_commitment(
    "quantisation/commitment-moves-the-encoder",
    statement="The commitment loss moves the encoder, and leaves the codebook to the averages.",
    formula=r"\frac{\partial L}{\partial z_e} = 2 \beta\, (z_e - e), \qquad "
    r"\frac{\partial L}{\partial e} = 0",
    needs=("commitment_loss",),
    kind="gradient",
    tolerance="32 roundings of what each derivative adds up",
    kills=("codebook-moved-twice", "commitment-alone-detached"),
    builds_on=("quantisation/commitment-value",),
)
def commitment_moves_the_encoder(probe: Probe) -> None:
    batch = _batch(probe, "commitment")
    gradients = _loss_gradients(probe, "commitment_loss", batch)
    value = _value(probe, "commitment_loss", batch.z, batch.book).detach().double().sum()
    pull = 2 * (batch.z.double() - batch.e)
    weight = float(value / batch.squares)
    term = Term("the commitment loss", weight, batch.both(pull, -pull), {"z_e"})
    _require_pulls(probe, batch, gradients, term)


# The moving averages.


def _smoothed(counts: Tensor, epsilon: float) -> Tensor:
    whole = counts.sum()
    return (counts + epsilon) / (whole + len(counts) * epsilon) * whole


def _updated(
    probe: Probe, name: str, decay: float, *, unused: bool = False
) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    """Return what goes into one step of the averages, and what comes out, in double precision.

    Code 0 has no encodings; with ``unused``, it never had any.
    """
    batch = _batch(probe, name)
    kept = batch.nearest > 0
    z, index = batch.z[kept], batch.nearest[kept]
    counts = 2 + 5 * probe.uniform(f"{name} counts", len(batch.book))
    sums = (counts.unsqueeze(1) * batch.book).clone()
    if unused:
        counts[0], sums[0] = 0, 0
    before = {"z_e": z, "indices": index, "counts": counts, "sums": sums}
    with probe.calling():
        answer = probe.fields.update_codebook(*(t.clone() for t in before.values()), decay)
    book, *averages = (part.detach().double() for part in answer)
    new_counts, new_sums = averages
    return before, book, new_counts.reshape(-1), new_sums


@of_update(
    "quantisation/moving-averages",
    statement="Counts and sums of encodings are exponential moving averages, also for codes "
    "without any encodings.",
    formula=r"N_k \leftarrow \gamma N_k + (1 - \gamma)\, n_k, \qquad "
    r"m_k \leftarrow \gamma m_k + (1 - \gamma) \sum_{n:\, k_n = k} z_{e,n}",
    needs=("update_codebook",),
    kind="exact",
    tolerance=_TERMS + "; the counts may be smoothed",
    kills=("ema-decay-swapped", "ema-absent-codes-not-decayed", "ema-of-means"),
)
def moving_averages(probe: Probe) -> None:
    epsilon = probe.fields.smoothing
    for decay in (0.9, 0.99):
        before, _, counts, sums = _updated(probe, f"averages {decay}", decay)
        old_counts, old_sums = before["counts"].double(), before["sums"].double()
        right_sums, right_counts = decay * old_sums, decay * old_counts
        size = decay * old_sums.abs()
        for z, k in zip(before["z_e"].double(), before["indices"].tolist(), strict=True):
            right_sums[k] += (1 - decay) * z
            right_counts[k] += 1 - decay
            size[k] += (1 - decay) * z.abs()
        agree = partial(require_agreement, dtype=probe.dtype, inputs=before)
        agree("the average of the sums", sums, right_sums, scale=size)
        smoothed = _smoothed(right_counts, _SMALL if epsilon is None else epsilon)
        near = torch.where((counts - smoothed).abs() < (counts - right_counts).abs(), 1.0, 0.0)
        right = right_counts + near * (smoothed - right_counts)
        band = (smoothed - right_counts).abs() if epsilon is None else 0 * right_counts
        allowed = right_counts.sum() + band / (ROUNDINGS * torch.finfo(probe.dtype).eps)
        agree("the average of the counts", counts, right, scale=allowed)


@of_update(
    "quantisation/codebook-of-averages",
    statement="Every code is the average sum of its encodings, divided by their average count.",
    formula=r"e_k = m_k / \tilde N_k, \qquad "
    r"\tilde N_k = \frac{N_k + \epsilon}{\sum_j N_j + K \epsilon} \sum_j N_j",
    needs=("update_codebook",),
    kind="exact",
    tolerance=_TERMS + "; more for a smoothing that is not declared",
    kills=(
        "ema-not-divided-by-counts",
        "ema-codebook-not-updated",
        "ema-divided-by-counts-of-batch",
        "ema-smoothing-not-normalised",
    ),
    builds_on=("quantisation/moving-averages",),
)
def codebook_of_averages(probe: Probe) -> None:
    epsilon = probe.fields.smoothing
    before, book, counts, sums = _updated(probe, "codebook", 0.9)
    plain = sums / counts.unsqueeze(1)
    smooth = sums / _smoothed(counts, _SMALL if epsilon is None else epsilon).unsqueeze(1)
    rounding = ROUNDINGS * torch.finfo(probe.dtype).eps
    scale = plain.abs() + smooth.abs()
    # Counts that came back may have been smoothed before.
    right = plain if _distance(book, plain) < _distance(book, smooth) else smooth
    if epsilon is None:
        scale = scale + (smooth - plain).abs() / rounding
    require_agreement("the codebook", book, right, scale=scale, dtype=probe.dtype, inputs=before)


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().sum()) if a.shape == b.shape else math.inf


@of_update(
    "quantisation/unused-code",
    statement="A code that never had an encoding stays finite.",
    formula=r"N_k = 0 \ \Rightarrow\ |e_k| < \infty",
    needs=("update_codebook",),
    kind="identity",
    tolerance="none: any finite number will do",
    kills=("ema-unused-code-divided-by-zero",),
    builds_on=("quantisation/moving-averages", "quantisation/codebook-of-averages"),
)
def unused_code(probe: Probe) -> None:
    if probe.fields.smoothing == 0:
        raise NotApplicable("the counts are declared not to be smoothed")
    _, book, _, _ = _updated(probe, "unused", 0.9, unused=True)
    if not bool(book.isfinite().all()):
        raise Violation(
            "a code without encodings becomes "
            f"{book[0, 0].item()}: its sum is divided by a count of zero",
            symptom="not-finite",
        )


# The perplexity.


@registry.claim(
    "quantisation/perplexity",
    statement="The perplexity is the exponential of the entropy of how often the codes are used.",
    formula=r"\exp\Big(-\sum_k p_k \log p_k\Big), \qquad p_k = n_k / n",
    source="Razavi, van den Oord and Vinyals 2019; Shannon 1948, section 6",
    slot="perplexity",
    needs=("perplexity",),
    kind="exact",
    tolerance=_TERMS + ", and 1e-6 for each code, which may be added inside of the logarithm",
    kills=("perplexity-of-bits", "perplexity-without-exp", "perplexity-counts-codes"),
)
def perplexity(probe: Probe) -> None:
    codes = probe.fields.codes
    skewed = (codes * probe.uniform("used", 60).double() ** 3).long()
    for index in (skewed, torch.arange(6 * codes) % codes, torch.full((9,), codes - 1)):
        with probe.calling():
            answer = torch.as_tensor(probe.fields.perplexity(index.clone(), codes))
        shares = [index.tolist().count(k) / len(index) for k in set(index.tolist())]
        right = math.exp(-math.fsum(p * math.log(p) for p in shares))
        extra = _IN_LOG * codes / (ROUNDINGS * torch.finfo(probe.dtype).eps)
        require_agreement(
            "the perplexity",
            answer.detach().double().reshape(()),
            torch.tensor(right, dtype=torch.float64),
            scale=right * (1 + math.log(codes) + extra),
            dtype=probe.dtype,
            inputs={"indices": index},
        )


# Finite scalar quantisation.


def _sweep(probe: Probe) -> Tensor:
    line = torch.linspace(-_REACH, _REACH, _STEPS, dtype=probe.dtype)
    return line.unsqueeze(1).expand(-1, len(_LEVELS)).contiguous()


def _rounded(probe: Probe, z: Tensor) -> Tensor:
    with probe.calling():
        answer: Tensor = probe.fields.round_levels(z.clone(), _LEVELS)
    if answer.shape != z.shape:
        found, right = tuple(answer.shape), tuple(z.shape)
        raise Violation(f"rounded numbers have shape {found}, not {right}", symptom="shape")
    return answer


def _values(column: Tensor) -> Tensor:
    """Return the values that a column takes, without those that differ by rounding alone."""
    values = column.sort().values
    least = 1e-3 * (values[-1] - values[0])
    return values[torch.cat([torch.tensor([True]), values.diff() > least])]


@of_levels(
    "quantisation/levels",
    statement="Every number takes as many values as it has levels, for even numbers of levels "
    "too, in order and at equal distances.",
    formula=r"\#\{q_i(z) : z \in \mathbb R\} = L_i",
    needs=("round_levels",),
    kind="identity",
    tolerance="1e-3 of the range",
    kills=("fsq-even-levels-without-shift", "fsq-rounded-after-scaling", "fsq-one-level-more"),
)
def levels(probe: Probe) -> None:
    rounded = _rounded(probe, _sweep(probe)).detach().double()
    values = [_values(column) for column in rounded.T]
    counts = tuple(map(len, values))
    if counts != _LEVELS:
        raise Violation(
            f"numbers of {_and(_LEVELS)} levels take {_and(counts)} values",
            symptom=f"{counts}",
        )
    for level, column, own in zip(_LEVELS, rounded.T, values, strict=True):
        steps = own.diff()
        if bool((steps - steps.mean()).abs().max() > 1e-3 * steps.mean()):
            raise Violation(
                f"the {level} levels are not at equal distances: {own.tolist()}",
                symptom="distances",
            )
        if bool((column.diff() < -1e-3 * steps.mean()).any()):
            raise Violation(f"of {level} levels, a larger number has a lower", symptom="order")


def _and(numbers: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


@of_levels(
    "quantisation/levels-straight-through",
    statement="The gradient of rounding to levels is that of a function that is nowhere more than "
    "half a level from the rounded value.",
    formula=r"\Big| q(z) - c - \int_0^z \frac{\partial q}{\partial z'} dz' \Big| "
    r"\le \frac{q_{l+1} - q_l}{2}",
    needs=("round_levels",),
    kind="gradient",
    tolerance="1 % of a level",
    kills=("fsq-without-straight-through", "fsq-slope-of-levels-missing"),
    builds_on=("quantisation/levels",),
)
def levels_straight_through(probe: Probe) -> None:
    probe.require_gradient("round_levels")
    z = _sweep(probe)
    rounded = _rounded(probe, z).detach().double()
    (slopes,) = probe.gradient(lambda z: _rounded(probe, z), z)
    step = 2 * _REACH / (_STEPS - 1)
    for level, column, slope in zip(_LEVELS, rounded.T, slopes.double().T, strict=True):
        if not bool(slope.any()):
            raise Violation("no gradient passes the rounding", symptom="no-gradient")
        smooth = torch.cumulative_trapezoid(slope, dx=step)
        gap = column[1:] - smooth
        spacing = float(_values(column).diff().mean())
        away = float(gap.max() - gap.min()) / (2 * spacing)
        if not away <= 0.5 + _SLACK:  # true for NaN too
            raise Violation(
                f"with {level} levels, what the gradient belongs to is {away:.3g} levels away "
                "from what is returned, not at most a half",
                symptom="slope",
            )
