"""Quantisers that are right, each in a way of its own, and near misses."""

import torch
import torch.nn.functional as F
from scipy.cluster.vq import vq
from scipy.stats import entropy
from torch import nn

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import VectorQuantiser
from vae_ref.conformance.mutants.kinds.quantisation import (
    commitment_loss,
    perplexity,
    quantisation_loss,
    quantise,
    round_levels,
    specimen,
    update_codebook,
)

OFF = 1 + 1e-12


def by_scipy():
    """By the vector quantiser of SciPy, and its entropy; flat encodings, summed losses."""

    def index(z_e, codebook):
        return torch.as_tensor(vq(z_e.detach().numpy(), codebook.detach().numpy())[0]).long()

    def quantise(z_e, codebook):
        k = index(z_e, codebook)
        return z_e + (codebook[k] - z_e).detach(), k

    def loss(z_e, codebook):
        e = F.embedding(index(z_e, codebook), codebook)
        return ((e - z_e.detach()) ** 2 + 0.5 * (e.detach() - z_e) ** 2).sum()

    return VectorQuantiser(
        name="by SciPy",
        quantise=quantise,
        quantisation_loss=loss,
        perplexity=lambda k, codes: 2 ** entropy(torch.bincount(k, minlength=codes), base=2),
        commitment=0.5,
        reduction="sum",
    )


class OfImages(nn.Module):
    """A quantiser of images whose codebook is its own; the lookup is a product of one-hots."""

    def __init__(self, codes, dims):
        super().__init__()
        self.codes, self.dims = codes, dims
        self.embedding = nn.Embedding(codes, dims)

    def forward(self, inputs):
        inputs = inputs.permute(0, 2, 3, 1).contiguous()
        flat, weight = inputs.view(-1, self.dims), self.embedding.weight
        distances = flat.pow(2).sum(1, keepdim=True) + weight.pow(2).sum(1) - 2 * flat @ weight.t()
        encodings = F.one_hot(distances.argmin(1), self.codes).to(flat)
        quantised = (encodings @ weight).view_as(inputs)
        to_encoder = F.mse_loss(quantised.detach(), inputs)
        loss = F.mse_loss(quantised, inputs.detach()) + 0.25 * to_encoder
        quantised = inputs + (quantised - inputs).detach()
        shares = encodings.mean(0)
        used = torch.exp(-(shares * torch.log(shares + 1e-10)).sum())
        return loss, quantised.permute(0, 3, 1, 2).contiguous(), used, encodings


def a_module_of_images():
    """It returns everything at once, and one-hot codes; its averages keep smoothed counts."""
    module = OfImages(9, 4)

    def call(z_e, codebook):
        return torch.func.functional_call(module, {"embedding.weight": codebook}, z_e)

    def update(z_e, indices, counts, sums, decay):
        chosen = F.one_hot(indices, len(counts)).to(z_e)
        counts.mul_(decay).add_((1 - decay) * chosen.sum(0))
        n = counts.sum()
        counts = (counts + 1e-5) / (n + len(counts) * 1e-5) * n
        sums.mul_(decay).add_((1 - decay) * chosen.t() @ z_e)
        return nn.Parameter(sums / counts.unsqueeze(1)), counts, nn.Parameter(sums)

    def used(indices, codes):
        shares = F.one_hot(indices, codes).float().mean(0)
        return torch.exp(-(shares * torch.log(shares + 1e-10)).sum())

    return VectorQuantiser(
        name="a module of images",
        quantise=lambda z_e, codebook: call(z_e, codebook)[1::2],
        quantisation_loss=lambda z_e, codebook: call(z_e, codebook)[0],
        update_codebook=update,
        perplexity=used,
        positions=(4, 3),
        code_axis=1,
        codes=9,
        dims=4,
        reduction="mean",
    )


class StraightThrough(torch.autograd.Function):
    """A lookup whose backward pass copies the gradient."""

    @staticmethod
    def forward(ctx, z_e, codebook):
        distances = torch.addmm(
            codebook.square().sum(1).expand(len(z_e), -1), z_e, codebook.t(), alpha=-2.0
        )
        index = distances.argmin(1)
        ctx.mark_non_differentiable(index)
        return codebook.index_select(0, index), index

    @staticmethod
    def backward(ctx, by_codes, by_index):
        return by_codes, None


def a_function_of_its_own():
    """With a backward pass by hand, and losses for each code and each number."""

    def loss(z_e, codebook):
        e = codebook[torch.cdist(z_e, codebook).argmin(-1)]
        return F.mse_loss(e, z_e.detach(), reduction="none") + F.mse_loss(
            z_e, e.detach(), reduction="none"
        )

    def commitment(z_e, codebook):
        with torch.no_grad():
            e = codebook[torch.cdist(z_e, codebook).argmin(-1)]
        return (z_e - e).square().sum(1)

    return VectorQuantiser(
        name="a function of its own",
        quantise=StraightThrough.apply,
        quantisation_loss=loss,
        commitment_loss=commitment,
        commitment=1.0,
        reduction="mean",
    )


def of_one_distance():
    """With beta = 1, a single distance has the gradients of both losses."""

    def loss(z_e, codebook):
        return F.mse_loss(codebook[torch.cdist(z_e, codebook).argmin(1)], z_e)

    return VectorQuantiser(name="one distance", quantisation_loss=loss, commitment=1.0)


def sequences_of_undeclared_weights():
    """Codes over time, whose beta is inferred; z_q comes alone, and counts are clamped."""

    def codes(z_e, codebook):
        distances = (z_e.unsqueeze(-2) - codebook).norm(dim=-1)
        return codebook[distances.min(-1).indices]

    def update(z_e, indices, counts, sums, decay):
        number, total = torch.zeros_like(counts), torch.zeros_like(sums)
        number.scatter_add_(0, indices, torch.ones_like(z_e[:, 0]))
        total.index_add_(0, indices, z_e)
        counts = counts + (1 - decay) * (number - counts)
        sums = sums + (1 - decay) * (total - sums)
        return sums / counts.clamp(min=1e-6)[:, None], counts, sums

    def loss(z_e, codebook):
        e = codes(z_e, codebook)
        return 10 * (e - z_e.detach()).square().mean() + 6 * (z_e - e.detach()).square().mean()

    return VectorQuantiser(
        name="sequences",
        quantise=lambda z_e, codebook: z_e + (codes(z_e, codebook) - z_e).detach(),
        quantisation_loss=loss,
        update_codebook=update,
        commitment=None,
        positions=(5,),
    )


def another_estimator():
    """The gradient is turned from the code to the encoding, on purpose."""

    def turned(z_e, codebook):
        e = codebook[torch.cdist(z_e, codebook).argmin(1)].detach()
        u, q = F.normalize(z_e, dim=1).detach(), F.normalize(e, dim=1)
        w = F.normalize(u + q, dim=1)
        turn = (
            torch.eye(3).to(z_e) - 2 * w[:, :, None] * w[:, None] + 2 * q[:, :, None] * u[:, None]
        )
        size = (e.norm(dim=1) / z_e.norm(dim=1)).detach()
        return size[:, None] * (turn @ z_e[:, :, None])[..., 0]

    return VectorQuantiser(name="another", quantise=turned, estimator="other")


def of_single_precision():
    """Which computes with 32 bits, and adds epsilon to the counts."""

    def update(z_e, indices, counts, sums, decay):
        counts = decay * counts + (1 - decay) * torch.bincount(indices, minlength=len(counts))
        chosen = F.one_hot(indices, len(counts)).to(z_e)
        sums = decay * sums + (1 - decay) * (chosen.t() @ z_e)
        return sums / (counts + 1e-5)[:, None], counts, sums

    return specimen(
        "32 bits",
        conventions=Conventions(dtype="float32"),
        update_codebook=update,
        smoothing=None,
        reduction=None,
    )


def levels_by_a_sigmoid():
    """Levels from 0 on, by another bound, cut off by a floor."""

    def levels(z, levels):
        bounded = torch.sigmoid(z) * torch.tensor(levels).to(z)
        cut = torch.minimum(bounded.floor(), torch.tensor(levels).to(z) - 1)
        return bounded + (cut - bounded).detach()

    only = {"round_levels": levels}
    return VectorQuantiser(name="a sigmoid", **only)


def levels_in_between():
    """Symmetric levels, also if they are even; z is clamped."""

    def levels(z, levels):
        steps = torch.tensor(levels).to(z) - 1
        place = (z.clamp(-1, 1) + 1) / 2 * steps
        return (place + (place.round() - place).detach()) / steps * 2 - 1

    only = {"round_levels": levels}
    return VectorQuantiser(name="symmetric", **only)


RIGHT = [
    by_scipy,
    a_module_of_images,
    a_function_of_its_own,
    of_one_distance,
    sequences_of_undeclared_weights,
    another_estimator,
    of_single_precision,
    levels_by_a_sigmoid,
    levels_in_between,
]


def _one_second_nearest(z_e, codebook):
    rows = z_e.permute(0, 2, 3, 1).reshape(-1, 3)
    near = torch.cdist(rows, codebook).topk(2, largest=False).indices
    z_q, index = quantise(z_e, codebook)
    return z_q, torch.cat([near[:1, 1], index[1:]])


def _scaled_code(z_e, codebook):
    z_q, index = quantise(z_e, codebook)
    return OFF * z_q, index


def _steep(function):
    """Return a function with the same value, whose gradient is a little too large."""

    def steep(*inputs):
        value = function(*inputs)
        return value + (OFF - 1) * (value - value.detach())

    return steep


def _steep_code(z_e, codebook):
    z_q, index = quantise(z_e, codebook)
    return z_q + (OFF - 1) * (z_q - z_q.detach()), index


def _codebook_off(*inputs):
    codebook, counts, sums = update_codebook(*inputs)
    return OFF * codebook, counts, sums


def _infinite_where_unused(*inputs):
    codebook, counts, sums = update_codebook(*inputs)
    return torch.where(counts[:, None] == 0, torch.inf, codebook), counts, sums


def _a_level_more_at_the_end(z, levels):
    half = (torch.tensor(levels).to(z) - 1) * 1.15 / 2
    offset = (torch.tensor(levels).to(z) + 1) % 2 / 2
    return (half * torch.tanh(z) - offset).round()


def _steep_levels(z, levels):
    q = round_levels(z, levels)
    return q + 0.05 * (q - q.detach())


NEAR = {
    "quantisation/nearest-code": {"quantise": _one_second_nearest},
    "quantisation/z-q-is-the-code": {"quantise": _scaled_code},
    "quantisation/straight-through": {"quantise": _steep_code},
    "quantisation/loss-value": {"quantisation_loss": lambda *a: OFF * quantisation_loss(*a)},
    "quantisation/which-loss-moves-what": {"quantisation_loss": _steep(quantisation_loss)},
    "quantisation/commitment-value": {
        "commitment_loss": lambda *a: commitment_loss(*a) ** (1 + 1e-11)
    },
    "quantisation/commitment-moves-the-encoder": {"commitment_loss": _steep(commitment_loss)},
    "quantisation/moving-averages": {
        "update_codebook": lambda *a: update_codebook(*a[:4], a[4] - 1e-12)
    },
    "quantisation/codebook-of-averages": {"update_codebook": _codebook_off},
    "quantisation/unused-code": {"update_codebook": _infinite_where_unused},
    "quantisation/perplexity": {"perplexity": lambda *a: (1 + 3e-5) * perplexity(*a)},
    "quantisation/levels": {"round_levels": _a_level_more_at_the_end},
    "quantisation/levels-straight-through": {"round_levels": _steep_levels},
}
"""Name of a claim -> changes of the specimen that are off by a few tolerances."""
