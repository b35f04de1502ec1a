"""Bugs of vector quantisation, its losses and averages, and of finite scalar quantisation."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, one_hot

from vae_ref.conformance.kinds.quantisation import VectorQuantiser
from vae_ref.conformance.mutants import bank

__all__ = ["specimen"]

BETA, SMOOTHING = 0.25, 1e-5


def _rows(z_e: Tensor) -> Tensor:
    """Return codes ``(n, dims)`` of images ``(examples, dims, height, width)``."""
    return z_e.permute(0, 2, 3, 1).reshape(-1, z_e.shape[1])


def _image(rows: Tensor, like: Tensor) -> Tensor:
    examples, dims, height, width = like.shape
    return rows.view(examples, height, width, dims).permute(0, 3, 1, 2)


def _index(z_e: Tensor, codebook: Tensor) -> Tensor:
    return torch.cdist(_rows(z_e), codebook).argmin(1)


def _codes(z_e: Tensor, codebook: Tensor) -> Tensor:
    """Return the nearest codes, which pass their gradient to the codebook."""
    return _image(codebook[_index(z_e, codebook)], z_e)


def quantise(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest codes with the gradient of z_e, and their indices."""
    return z_e + (_codes(z_e, codebook) - z_e).detach(), _index(z_e, codebook)


def _scaled(loss: Tensor, z_e: Tensor) -> Tensor:
    """Turn a mean over all numbers into a sum over an example."""
    return loss * z_e[0].numel()


def quantisation_loss(z_e: Tensor, codebook: Tensor) -> Tensor:
    """Return the loss of the codebook and that of the commitment, averaged over examples."""
    e = _codes(z_e, codebook)
    return _scaled(mse_loss(e, z_e.detach()) + BETA * mse_loss(z_e, e.detach()), z_e)


def commitment_loss(z_e: Tensor, codebook: Tensor) -> Tensor:
    """Return the loss of the commitment alone."""
    return _scaled(BETA * mse_loss(z_e, _codes(z_e, codebook).detach()), z_e)


def _averages(
    z_e: Tensor, indices: Tensor, counts: Tensor, sums: Tensor, decay: float
) -> tuple[Tensor, Tensor]:
    chosen = one_hot(indices, len(counts)).to(z_e)
    return torch.lerp(chosen.sum(0), counts, decay), torch.lerp(chosen.T @ z_e, sums, decay)


def _smoothed(counts: Tensor) -> Tensor:
    whole = counts.sum()
    return (counts + SMOOTHING) / (whole + len(counts) * SMOOTHING) * whole


Update = tuple[Tensor, Tensor, Tensor]


def update_codebook(
    z_e: Tensor, indices: Tensor, counts: Tensor, sums: Tensor, decay: float
) -> Update:
    """Return the codebook and its averages after a step."""
    counts, sums = _averages(z_e, indices, counts, sums, decay)
    return sums / _smoothed(counts)[:, None], counts, sums


def _shares(indices: Tensor, codes: int) -> Tensor:
    return one_hot(indices, codes).double().mean(0)


def perplexity(indices: Tensor, codes: int) -> Tensor:
    """Return the exponential of the entropy of the codes."""
    shares = _shares(indices, codes)
    return torch.exp(-torch.xlogy(shares, shares).sum())


def _bounded(z: Tensor, levels: tuple[int, ...]) -> Tensor:
    """Bound numbers, so that they round to as many integers as they have levels."""
    number = torch.tensor(levels).to(z)
    half, offset = (number - 1) * 1.001 / 2, (number + 1) % 2 / 2
    return half * torch.tanh(z + torch.atanh(offset / half)) - offset


def round_levels(z: Tensor, levels: tuple[int, ...]) -> Tensor:
    """Round numbers to integers, between -1 and 1."""
    bounded = _bounded(z, levels)
    rounded = bounded + (bounded.round() - bounded).detach()
    return rounded / (torch.tensor(levels) // 2)


def specimen(name: str = "specimen", **changes: Any) -> VectorQuantiser:
    """Return a correct subject, some of whose functions are replaced."""
    functions: dict[str, Any] = {
        "quantise": quantise,
        "quantisation_loss": quantisation_loss,
        "commitment_loss": commitment_loss,
        "update_codebook": update_codebook,
        "perplexity": perplexity,
        "round_levels": round_levels,
    }
    return VectorQuantiser(
        name=name,
        **{
            "positions": (2, 3),
            "code_axis": 1,
            "reduction": "example",
            "smoothing": SMOOTHING,
            **functions,
            **changes,
        },
    )


bank.describe(
    "quantisation",
    specimen,
    quantise="z_q = z_e + sg[e_k − z_e],  k = argmin_j ‖z_e − e_j‖²",
    quantisation_loss="‖sg[z_e] − e‖² + β‖z_e − sg[e]‖²",
    commitment_loss="β‖z_e − sg[e]‖²",
    update_codebook="N ← γN + (1 − γ)n,  m ← γm + (1 − γ)Σ z_e,  e = m/N",
    perplexity="exp(−Σ_k p_k log p_k)",
    round_levels="f + sg[round(f) − f],  f = ½(L − 1) tanh(z + shift) − offset",
)

of_quantise = partial(bank.mutant, "quantise")
of_loss = partial(bank.mutant, "quantisation_loss")
of_commitment = partial(bank.mutant, "commitment_loss")
of_update = partial(bank.mutant, "update_codebook")
of_perplexity = partial(bank.mutant, "perplexity")
of_levels = partial(bank.mutant, "round_levels")


@of_quantise(
    "quantise-furthest-code",
    "your code is the furthest one: the sign of the distances is wrong, or argmax is taken",
    wrong="k = argmax_j ‖z_e − e_j‖²",
)
def quantise_furthest(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    k = torch.cdist(_rows(z_e), codebook).argmax(1)
    return z_e + (_image(codebook[k], z_e) - z_e).detach(), k


@of_quantise(
    "quantise-without-code-norm",
    "your distances lack the squared length of the codes: the code with the largest inner "
    "product is taken for the nearest",
    wrong="k = argmax_j z_e·e_j",
    seen=("lucidrains/vector-quantize-pytorch#120",),
)
def quantise_without_norm(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    k = (_rows(z_e) @ codebook.T).argmax(1)
    return z_e + (_image(codebook[k], z_e) - z_e).detach(), k


@of_quantise(
    "quantise-channels-mixed",
    "your z_e is flattened with the channels in front: a code is looked up for numbers of several "
    "positions",
    wrong="rows = z_e.view(−1, D), with z_e of shape (N, D, H, W)",
    seen=(
        "lucidrains/vector-quantize-pytorch#70",
        "uuembodiedsocialai/ProbTalk3D#12 (asked about)",
    ),
)
def quantise_mixed(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    k = torch.cdist(z_e.reshape(-1, z_e.shape[1]), codebook).argmin(1)
    return z_e + (codebook[k].view_as(z_e) - z_e).detach(), k


@of_quantise(
    "quantise-positions-mixed",
    "your codes are right, but their axes are in the wrong order: they are not moved back",
    wrong="z_q = codes.view(N, D, H, W), with codes of shape (N·H·W, D)",
    seen=("LatentActionPretraining/LAPA#48 (asked about)",),
)
def quantise_mixed_after(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    k = _index(z_e, codebook)
    return z_e + (codebook[k].view_as(z_e) - z_e).detach(), k


@of_quantise(
    "quantise-after-update",
    "your codes are taken from the codebook after its moving average, not from the one in which "
    "they are the nearest",
    wrong="k = argmin_j ‖z_e − e_j‖²,  update e,  z_q = e_k",
    seen=("zalandoresearch/pytorch-vq-vae#5",),
)
def quantise_after_update(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    k, ones = _index(z_e, codebook), torch.ones(len(codebook)).to(codebook)
    after, _, _ = update_codebook(_rows(z_e), k, ones, codebook, 0.99)
    return z_e + (_image(after[k], z_e) - z_e).detach(), k


@of_quantise(
    "straight-through-missing",
    "your code comes from the codebook alone: the decoder's gradient moves the codebook, and "
    "never reaches the encoder",
    wrong="z_q = e_k, or z_e + (e_k − z_e) with nothing detached",
    seen=("NTU-AIoT-Lab/EfficientFi#4 (asked about)",),
)
def straight_through_missing(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    return _codes(z_e, codebook), _index(z_e, codebook)


@of_quantise(
    "straight-through-moves-codebook",
    "the decoder's gradient moves the codebook as well as the encoder",
    wrong="∂z_q/∂z_e = 1 and ∂z_q/∂e = 1",
    seen=("ritheshkumar95/pytorch-vqvae#7",),
)
def straight_through_both(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    return _codes(z_e, codebook) + z_e - z_e.detach(), _index(z_e, codebook)


@of_quantise(
    "straight-through-reversed",
    "z_e and the code are swapped in your straight-through estimator: the decoder is given what "
    "is not quantised",
    wrong="z_q = e_k + sg[z_e − e_k]",
)
def straight_through_reversed(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    e = _codes(z_e, codebook)
    return e + (z_e - e).detach(), _index(z_e, codebook)


@of_quantise(
    "straight-through-detached",
    "your code is detached: the decoder's gradient reaches neither the encoder nor the codebook",
    wrong="z_q = sg[e_k]",
    seen=("Justin-Tan/generative-compression#27 (asked about)",),
)
def straight_through_detached(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    return _codes(z_e, codebook).detach(), _index(z_e, codebook)


@of_loss(
    "vq-weights-swapped",
    "your beta is the weight of the codebook loss, not that of the commitment loss; or their "
    "detached sides are swapped, which is the same",
    wrong="β‖sg[z_e] − e‖² + ‖z_e − sg[e]‖²",
    seen=(
        "CompVis/taming-transformers#46",
        "CompVis/taming-transformers#57",
        "bytedance/1d-tokenizer#120 (asked about)",
        "karpathy/deep-vector-quantization#2",
        "andylolu2/jax-vqvae-gpt#3 (asked about)",
        "MishaLaskin/vqvae#20 (asked about)",
        "sczhou/CodeFormer#427 (asked about)",
        "dome272/MaskGIT-pytorch#8 (asked about)",
    ),
)
def vq_weights_swapped(z_e: Tensor, codebook: Tensor) -> Tensor:
    e = _codes(z_e, codebook)
    return _scaled(BETA * mse_loss(e, z_e.detach()) + mse_loss(z_e, e.detach()), z_e)


@of_loss(
    "codebook-loss-moves-encoder",
    "z_e is not detached in your codebook loss: it moves the encoder too, with weight 1 + beta",
    wrong="‖z_e − e‖² + β‖z_e − sg[e]‖²",
    seen=("lucidrains/vector-quantize-pytorch#236 (asked about)",),
)
def codebook_loss_moves_encoder(z_e: Tensor, codebook: Tensor) -> Tensor:
    e = _codes(z_e, codebook)
    return _scaled(mse_loss(e, z_e) + BETA * mse_loss(z_e, e.detach()), z_e)


@of_loss(
    "commitment-loss-moves-codebook",
    "the code is not detached in your commitment loss: it moves the codebook too, with weight "
    "1 + beta",
    wrong="‖sg[z_e] − e‖² + β‖z_e − e‖²",
)
def commitment_loss_moves_codebook(z_e: Tensor, codebook: Tensor) -> Tensor:
    e = _codes(z_e, codebook)
    return _scaled(mse_loss(e, z_e.detach()) + BETA * mse_loss(z_e, e), z_e)


@of_loss(
    "vq-losses-without-detach",
    "nothing is detached in your two losses: both move both, with weight 1 + beta",
    wrong="(1 + β)‖z_e − e‖²",
    seen=("NTU-AIoT-Lab/EfficientFi#4 (asked about)",),
)
def vq_losses_without_detach(z_e: Tensor, codebook: Tensor) -> Tensor:
    return _scaled((1 + BETA) * mse_loss(_codes(z_e, codebook), z_e), z_e)


@of_loss(
    "codebook-loss-of-straight-through",
    "your codebook loss is computed from the straight-through code: it pushes z_e away from the "
    "code, and the codebook never moves",
    wrong="‖sg[z_e] − z_q‖² + β‖z_e − sg[z_q]‖²,  z_q = z_e + sg[e − z_e]",
    seen=("andylolu2/jax-vqvae-gpt#2", "showlab/Olaf-World#8 (asked about)"),
)
def codebook_loss_of_straight_through(z_e: Tensor, codebook: Tensor) -> Tensor:
    z_q, _ = quantise(z_e, codebook)
    return _scaled(mse_loss(z_q, z_e.detach()) + BETA * mse_loss(z_e, z_q.detach()), z_e)


@of_loss(
    "codebook-detached-everywhere",
    "the codebook is detached in both of your losses: nothing moves it",
    wrong="‖sg[z_e] − sg[e]‖² + β‖z_e − sg[e]‖²",
    seen=("EdoardoBotta/RQ-VAE-Recommender#24",),
)
def codebook_detached(z_e: Tensor, codebook: Tensor) -> Tensor:
    return quantisation_loss(z_e, codebook.detach())


@of_loss(
    "commitment-loss-detached",
    "z_e is detached in your commitment loss too: nothing keeps the encoder near the codes",
    wrong="‖sg[z_e] − e‖² + β‖sg[z_e] − sg[e]‖²",
)
def commitment_detached(z_e: Tensor, codebook: Tensor) -> Tensor:
    return quantisation_loss(z_e.detach(), codebook)


@of_loss(
    "vq-losses-both-detached",
    "both of your losses are detached: they move neither the codebook nor the encoder",
    wrong="sg[(1 + β)‖z_e − e‖²]",
)
def vq_losses_detached(z_e: Tensor, codebook: Tensor) -> Tensor:
    return quantisation_loss(z_e, codebook).detach()


@of_loss(
    "vq-loss-averaged-over-dims",
    "your loss is averaged over all numbers, though you declare that those of an example are "
    "added up: next to a reconstruction that is a sum, it counts for nothing",
    wrong="1/(N·P·D) Σ (z_e − e)², for 1/N Σ (z_e − e)²",
    seen=("clementchadebec/benchmark_VAE#125",),
)
def vq_loss_averaged(z_e: Tensor, codebook: Tensor) -> Tensor:
    return quantisation_loss(z_e, codebook) / z_e[0].numel()


@of_loss(
    "vq-loss-not-squared",
    "your losses are distances, not their squares",
    wrong="‖sg[z_e] − e‖ + β‖z_e − sg[e]‖",
)
def vq_loss_not_squared(z_e: Tensor, codebook: Tensor) -> Tensor:
    e = _codes(z_e, codebook)
    to_code, to_encoding = (e - z_e.detach()).norm(dim=1), (z_e - e.detach()).norm(dim=1)
    whole: Tensor = (to_code + BETA * to_encoding).sum()
    return whole / len(z_e)


@of_loss(
    "commitment-weight-ignored",
    "your commitment loss has the weight 1, not the beta that you declare",
    wrong="‖sg[z_e] − e‖² + ‖z_e − sg[e]‖²",
)
def commitment_weight_ignored(z_e: Tensor, codebook: Tensor) -> Tensor:
    e = _codes(z_e, codebook)
    return _scaled(mse_loss(e, z_e.detach()) + mse_loss(z_e, e.detach()), z_e)


@of_commitment(
    "codebook-moved-twice",
    "the code is not detached in your commitment loss: the optimiser moves the codebook, which "
    "the averages move already",
    wrong="β‖z_e − e‖²",
    seen=("lucidrains/vector-quantize-pytorch#97 (asked about)",),
)
def codebook_moved_twice(z_e: Tensor, codebook: Tensor) -> Tensor:
    return _scaled(BETA * mse_loss(z_e, _codes(z_e, codebook)), z_e)


@of_commitment(
    "commitment-alone-detached",
    "z_e is detached in your commitment loss: it moves nothing",
    wrong="β‖sg[z_e] − sg[e]‖²",
    seen=("facebookresearch/encodec#25",),
)
def commitment_alone_detached(z_e: Tensor, codebook: Tensor) -> Tensor:
    return commitment_loss(z_e, codebook).detach()


@of_commitment(
    "commitment-alone-not-squared",
    "your commitment loss is a distance, not its square",
    wrong="β‖z_e − sg[e]‖",
)
def commitment_not_squared(z_e: Tensor, codebook: Tensor) -> Tensor:
    distances: Tensor = (z_e - _codes(z_e, codebook).detach()).norm(dim=1)
    return BETA * distances.mean()


@of_update(
    "ema-decay-swapped",
    "decay and 1 - decay are swapped in your averages: they forget nearly everything at every "
    "step",
    wrong="N ← (1 − γ)N + γn,  m ← (1 − γ)m + γΣ z_e",
)
def ema_decay_swapped(
    z_e: Tensor, indices: Tensor, counts: Tensor, sums: Tensor, decay: float
) -> Update:
    return update_codebook(z_e, indices, counts, sums, 1 - decay)


@of_update(
    "ema-absent-codes-not-decayed",
    "only codes of the batch are averaged: the counts of the others never fall, so that dead "
    "codes look alive",
    wrong="N_k ← γN_k + (1 − γ)n_k for n_k > 0 alone",
    seen=("umran666/UniqToken#12",),
)
def ema_absent_not_decayed(
    z_e: Tensor, indices: Tensor, counts: Tensor, sums: Tensor, decay: float
) -> Update:
    new_counts, new_sums = _averages(z_e, indices, counts, sums, decay)
    present = one_hot(indices, len(counts)).any(0)
    counts = torch.where(present, new_counts, counts)
    sums = torch.where(present[:, None], new_sums, sums)
    return sums / _smoothed(counts)[:, None], counts, sums


@of_update(
    "ema-of-means",
    "your average is one of the means of the encodings, not of their sums: divided by the counts, "
    "it is too small",
    wrong="m ← γm + (1 − γ) mean z_e",
    seen=("lucidrains/vector-quantize-pytorch#220 (asked about)",),
)
def ema_of_means(
    z_e: Tensor, indices: Tensor, counts: Tensor, sums: Tensor, decay: float
) -> Update:
    new_counts, _ = _averages(z_e, indices, counts, sums, decay)
    chosen = one_hot(indices, len(counts)).to(z_e)
    means = (chosen.T @ z_e) / chosen.sum(0).clamp(min=1)[:, None]
    sums = torch.lerp(means, sums, decay)
    return sums / _smoothed(new_counts)[:, None], new_counts, sums


@of_update(
    "ema-not-divided-by-counts",
    "your codebook is the average of the sums: it is not divided by the counts",
    wrong="e = m",
)
def ema_not_divided(
    z_e: Tensor, indices: Tensor, counts: Tensor, sums: Tensor, decay: float
) -> Update:
    counts, sums = _averages(z_e, indices, counts, sums, decay)
    return sums, counts, sums


@of_update(
    "ema-codebook-not-updated",
    "your averages are updated, but not the codebook: it stays what it was",
    wrong="e = m/N of before",
    seen=("IDSIA/kohonen-vae#1",),
)
def ema_codebook_not_updated(
    z_e: Tensor, indices: Tensor, counts: Tensor, sums: Tensor, decay: float
) -> Update:
    before = sums / _smoothed(counts)[:, None]
    return before, *_averages(z_e, indices, counts, sums, decay)


@of_update(
    "ema-divided-by-counts-of-batch",
    "your average of the sums is divided by the counts of the batch, not by their average",
    wrong="e_k = m_k / n_k",
    seen=("lucidrains/vector-quantize-pytorch#48 (asked about)",),
)
def ema_divided_by_batch(
    z_e: Tensor, indices: Tensor, counts: Tensor, sums: Tensor, decay: float
) -> Update:
    counts, sums = _averages(z_e, indices, counts, sums, decay)
    own = one_hot(indices, len(counts)).sum(0).clamp(min=1)
    return sums / own[:, None], counts, sums


@of_update(
    "ema-smoothing-not-normalised",
    "your smoothed counts are shares: they lack the factor of the sum of all counts",
    wrong="e_k = m_k (Σ_j N_j + Kε) / (N_k + ε)",
)
def ema_not_normalised(
    z_e: Tensor, indices: Tensor, counts: Tensor, sums: Tensor, decay: float
) -> Update:
    counts, sums = _averages(z_e, indices, counts, sums, decay)
    return sums / (_smoothed(counts) / counts.sum())[:, None], counts, sums


@of_update(
    "ema-unused-code-divided-by-zero",
    "a code without encodings is divided by its count of zero, and becomes NaN: the counts are "
    "not smoothed",
    wrong="e_k = m_k / N_k = 0/0",
)
def ema_divided_by_zero(
    z_e: Tensor, indices: Tensor, counts: Tensor, sums: Tensor, decay: float
) -> Update:
    counts, sums = _averages(z_e, indices, counts, sums, decay)
    smoothed = torch.where(counts > 0, _smoothed(counts), 0)
    return sums / smoothed[:, None], counts, sums


@of_perplexity(
    "perplexity-of-bits",
    "your entropy is in bits, but its exponential has the base e",
    wrong="exp(−Σ_k p_k log₂ p_k)",
)
def perplexity_of_bits(indices: Tensor, codes: int) -> Tensor:
    return perplexity(indices, codes) ** (1 / torch.log(torch.tensor(2.0)))


@of_perplexity(
    "perplexity-without-exp",
    "your perplexity is the entropy: its exponential is missing",
    wrong="−Σ_k p_k log p_k",
)
def perplexity_without_exp(indices: Tensor, codes: int) -> Tensor:
    return perplexity(indices, codes).log()


@of_perplexity(
    "perplexity-counts-codes",
    "your perplexity is how many codes are used, however rarely",
    wrong="#{k : n_k > 0}",
)
def perplexity_counts(indices: Tensor, codes: int) -> Tensor:
    return (_shares(indices, codes) > 0).sum().double()


def _as_code(bounded: Tensor, levels: tuple[int, ...]) -> Tensor:
    return (bounded + (bounded.round() - bounded).detach()) / (torch.tensor(levels) // 2)


@of_levels(
    "fsq-even-levels-without-shift",
    "your even numbers of levels lack the shift by a half: they round to one value more",
    wrong="f = ½(L − 1)(1 + ε) tanh z",
    seen=("lucidrains/vector-quantize-pytorch#74",),
)
def fsq_without_shift(z: Tensor, levels: tuple[int, ...]) -> Tensor:
    return _as_code((torch.tensor(levels) - 1) * 1.001 / 2 * torch.tanh(z), levels)


@of_levels(
    "fsq-rounded-after-scaling",
    "you round what is scaled to [-1, 1] already: it takes three values, whatever the levels",
    wrong="round(tanh z)",
    seen=("lucidrains/vector-quantize-pytorch#200 (asked about)",),
)
def fsq_rounded_after(z: Tensor, levels: tuple[int, ...]) -> Tensor:
    bounded = torch.tanh(z)
    return bounded + (bounded.round() - bounded).detach()


@of_levels(
    "fsq-one-level-more",
    "your bound is half of the levels, not half of the levels less one: there is one value more",
    wrong="f = ½L tanh z",
)
def fsq_one_more(z: Tensor, levels: tuple[int, ...]) -> Tensor:
    number = torch.tensor(levels).to(z)
    half, offset = number * 1.001 / 2, number % 2 / 2
    return _as_code(half * torch.tanh(z + torch.atanh(offset / half)) - offset, levels)


@of_levels(
    "fsq-without-straight-through",
    "your rounding has no straight-through gradient: nothing reaches the encoder",
    wrong="round(f)",
)
def fsq_without_straight_through(z: Tensor, levels: tuple[int, ...]) -> Tensor:
    return _bounded(z, levels).round() / (torch.tensor(levels) // 2)


@of_levels(
    "fsq-slope-of-levels-missing",
    "your straight-through gradient goes past the bound too: numbers that are saturated are moved "
    "as if they were not",
    wrong="z + sg[round(f) − z]",
)
def fsq_slope_missing(z: Tensor, levels: tuple[int, ...]) -> Tensor:
    return z + (round_levels(z, levels) - z).detach()
