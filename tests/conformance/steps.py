"""Training steps in the forms that people use: right ones, and what makes them wrong."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli, NegativeBinomial, Normal, kl_divergence

B, X, L = 5, 12, 3


def encoder(inputs=X, heads=2 * L):
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, heads))


def decoder(latents=L):
    return nn.Sequential(nn.Linear(latents, 8), nn.Tanh(), nn.Linear(8, X))


def images(*shape):
    return torch.rand(shape or (B, X), generator=torch.Generator().manual_seed(3))


def gaussian_kl(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


class Textbook(nn.Module):
    """The terms are arguments, so that a test can break one of them."""

    def __init__(self, kl=lambda mu, s: gaussian_kl(mu, s).sum(), noise=torch.randn_like):
        super().__init__()
        self.encoder, self.decoder = encoder(), decoder()
        self.kl, self.noise = kl, noise

    def sample(self, mu, logvar):
        return mu + torch.exp(logvar / 2) * self.noise(mu)

    def loss(self, x):
        mu, logvar = self.encoder(x).chunk(2, dim=-1)
        out = torch.sigmoid(self.decoder(self.sample(mu, logvar)))
        return F.binary_cross_entropy(out, x, reduction="sum") + self.kl(mu, logvar)


def textbook(**changes):
    net, x = Textbook(**changes), images()
    return lambda: net.loss(x)


def as_it_is(s):
    return s


def reconstructing(term, x=None, clamps=(as_it_is, as_it_is, as_it_is)):
    """The textbook's, with another reconstruction term.

    What bounds log sigma^2 is an argument: of the encoder, of the sampler and of the KL.
    """
    net, x = Textbook(), images() if x is None else x

    def step():
        mu, logvar = net.encoder(x).chunk(2, dim=-1)
        logvar = clamps[0](logvar)
        out = net.decoder(net.sample(mu, clamps[1](logvar)))
        return term(out, x) + gaussian_kl(mu, clamps[2](logvar)).sum()

    return step


def counts():
    return torch.poisson(3 * images(), generator=torch.Generator().manual_seed(3))


def poisson():
    return reconstructing(lambda o, x: F.poisson_nll_loss(o, x, reduction="sum"), counts())


def negative_binomial():
    """With a dispersion for each pixel, which is learned."""
    total = nn.Parameter(torch.linspace(-1, 1, X))

    def term(logits, x):
        return -NegativeBinomial(total.exp(), logits=logits).log_prob(x).sum()

    return reconstructing(term, counts())


def gaussian_with_a_scale_for_each_pixel():
    scale = nn.Parameter(torch.linspace(-1, 1, X))
    return reconstructing(lambda o, x: -Normal(o, scale.exp()).log_prob(x).sum())


def inner_products(factor=2, *, penalised=True, regrouped=lambda z: z @ z.t()):
    """The autoencoder of a graph, whose nodes are the examples; the decoder has no weights."""
    enc, x, edges = encoder(), images(), torch.eye(B).roll(1, 0)

    def step():
        mu, log_sigma = enc(x).chunk(2, dim=-1)
        z = mu + log_sigma.exp() * torch.randn_like(mu)
        nll = F.binary_cross_entropy_with_logits(regrouped(z), edges)
        return nll + (gaussian_kl(mu, factor * log_sigma).sum(1).mean() / B if penalised else 0)

    return step


def edge_by_edge():
    return inner_products(regrouped=lambda z: (z[:, None] * z[None]).sum(-1))


UNKNOWN = {
    inner_products: "the decoder multiplies codes by codes",
    edge_by_edge: "the decoder multiplies codes by codes",
    poisson: "the data are counts",
    negative_binomial: "the reconstruction has weights of its own",
    gaussian_with_a_scale_for_each_pixel: "the reconstruction has weights of its own",
}
"""Right ones with a likelihood that the kit does not know -> what is said."""


def tied():
    """The decoder has the encoder's weights, of which it takes a part."""
    net, x = Textbook(), images()
    heads, bias = nn.Linear(X, 2 * L), nn.Parameter(torch.zeros(X))

    def step():
        mu, logvar = heads(x).chunk(2, dim=-1)
        z = net.sample(mu, logvar)
        out = F.linear(z, heads.weight[:L].T, bias).sigmoid()
        return F.binary_cross_entropy(out, x, reduction="sum") + net.kl(mu, logvar)

    return step


def with_a_border():
    """The decoder makes fewer pixels, and a border is put around them."""
    net, x = Textbook(), images(B, 4, 3)
    heads, decoder = nn.Linear(X, 2 * L), nn.Linear(L, 6)

    def step():
        mu, logvar = heads(x.flatten(1)).chunk(2, dim=-1)
        inner = decoder(net.sample(mu, logvar)).view(-1, 3, 2)
        out = F.pad(inner, (0, 1, 1, 0)).sigmoid()
        return F.binary_cross_entropy(out, x, reduction="sum") + net.kl(mu, logvar)

    return step


def with_a_classifier_of_mu():
    """The labels are told from mu, by weights of their own."""
    net, head, x = Textbook(), nn.Linear(L, 2), images()
    labels = torch.tensor([0, 1, 1, 0, 1])

    def step():
        mu, logvar = net.encoder(x).chunk(2, dim=-1)
        out = net.decoder(net.sample(mu, logvar)).sigmoid()
        elbo = F.binary_cross_entropy(out, x, reduction="sum") + net.kl(mu, logvar)
        return elbo + 10 * F.cross_entropy(head(mu), labels, reduction="sum")

    return step


def with_a_classifier_of_the_images():
    """Semi-supervised: some labels are known."""
    net, head, x = Textbook(), nn.Linear(X, 3), images()
    y, is_known = torch.arange(B) % 3, torch.tensor([1.0, 0, 1, 1, 0])

    def whole():
        classes = F.cross_entropy(head(x), y, reduction="none")
        return net.loss(x) + (classes * is_known).sum() / is_known.sum()

    return whole


def with_a_penalty_of_mu():
    """The covariance of mu is drawn to the identity, as in a DIP-VAE."""
    net, x = Textbook(), images()

    def step():
        mu, logvar = net.encoder(x).chunk(2, dim=-1)
        out = net.decoder(net.sample(mu, logvar)).sigmoid()
        elbo = F.binary_cross_entropy(out, x, reduction="sum") + net.kl(mu, logvar)
        return elbo + 3 * (torch.cov(mu.T) - torch.eye(L)).square().sum()

    return step


def averaged():
    """Means over the batch; in place; with a view that is changed afterwards."""
    net, x = Textbook(), images()

    def step():
        heads = net.encoder(x)
        mu, logvar = heads[:, :L], heads[:, L:]
        z = torch.randn_like(mu)
        z.mul_(torch.exp(0.5 * logvar))
        z += mu
        out = net.decoder(z)
        terms = torch.zeros(B, 2)
        terms[:, 0] = F.binary_cross_entropy_with_logits(out, x, reduction="none").sum(1)
        terms[:, 1] = gaussian_kl(mu, logvar).sum(1)
        return terms.sum(1).mean()

    return step


def with_distributions():
    """Torch's own, and a KL in closed form."""
    enc, dec, x = encoder(), decoder(), images()

    def step():
        loc, raw = enc(x).chunk(2, dim=-1)
        q = Normal(loc, F.softplus(raw))
        z = q.rsample()
        prior = Normal(torch.zeros_like(loc), torch.ones_like(loc))
        log_p = Bernoulli(logits=dec(z), validate_args=False).log_prob(x)
        return (kl_divergence(q, prior).sum(-1) - log_p.sum(-1)).mean()

    return step


def with_a_sampled_kl(factor=1.0):
    """A KL that is log q(z) - log p(z) for the z that was drawn."""
    enc, dec, x = encoder(), decoder(), images()

    def step():
        loc, log_sigma = enc(x).chunk(2, dim=-1)
        q = Normal(loc, log_sigma.exp())
        z = q.rsample()
        log_p = Normal(0.0, 1.0).log_prob(z).sum(-1)
        kl = q.log_prob(z).sum(-1) - factor * log_p
        return (kl + 0.5 * (dec(z) - x).square().sum(-1)).mean()

    return step


@dataclass
class Labelled:
    image: torch.Tensor
    label: torch.Tensor


def conditional():
    """Labels for encoder and decoder, in a batch that is an object; the loss is in forward."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = encoder(X + 2), decoder(L + 2)

        def forward(self, batch):
            c = F.one_hot(batch.label, 2).float()
            z_mean, z_std = self.encoder(torch.cat([batch.image, c], 1)).chunk(2, 1)
            z = z_mean + torch.randn_like(z_std) * torch.exp(z_std / 2)
            out = self.decoder(torch.cat([z, c], 1))
            recon = F.binary_cross_entropy_with_logits(out, batch.image, reduction="sum")
            return {"loss": recon + gaussian_kl(z_mean, z_std).sum(), "logits": out}

    net, batch = Net(), Labelled(images(), torch.tensor([0, 1, 1, 0, 1]))
    return lambda: net(batch)


def with_a_generator_of_its_own():
    generator = torch.Generator().manual_seed(1)
    return textbook(noise=lambda mu: torch.randn(mu.shape, generator=generator))


def with_vmap():
    """The KL of one example, mapped over the batch."""
    kls = torch.func.vmap(lambda mu, logvar: gaussian_kl(mu, logvar).sum())
    return textbook(kl=lambda mu, logvar: kls(mu, logvar).sum())


def with_a_label_added():
    """A label is added to the code, by weights of its own; it belongs to the decoder."""
    enc, dec, embed, x = encoder(), decoder(), nn.Linear(2, L), images()
    label = F.one_hot(torch.tensor([0, 1, 1, 0, 1]), 2).float()

    def step():
        mu, logvar = enc(x).chunk(2, dim=-1)
        z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
        out = dec(z + embed(label))
        recon = F.binary_cross_entropy_with_logits(out, x, reduction="sum")
        return recon + gaussian_kl(mu, logvar).sum()

    return step


def convolutional():
    """Codes are images; batch normalisation and dropout; absolute error."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
    mu_head, s_head = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)
    dec = nn.Sequential(nn.Dropout(0.3), nn.ConvTranspose2d(2, 1, 2, 2))
    x = images(B, 1, 8, 8)

    def step():
        h = net(x)
        mu, log_sigma = mu_head(h), s_head(h).clamp(-5, 5)
        z = mu + log_sigma.exp() * torch.randn_like(mu)
        kl = gaussian_kl(mu, 2 * log_sigma).flatten(1).sum(1).mean()
        return (dec(z) - x).abs().sum() / B + kl

    return step


def masked():
    """A code for each event of a sequence; padding counts nowhere."""
    net, dec = encoder(2), nn.Linear(L, 2)
    x, mask = (
        images(3, 6, 2),
        torch.tensor([[1.0] * 6, [1.0] * 4 + [0.0] * 2, [1.0] * 2 + [0.0] * 4]),
    )

    def step():
        mu, logvar = net(x).chunk(2, -1)
        z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
        error = (0.5 * (dec(z) - x).square().sum(-1) * mask).sum()
        return (error + (gaussian_kl(mu, logvar).sum(-1) * mask).sum()) / mask.sum()

    return step


def weighted(*, each_pixel=False):
    """Some examples, or pixels, count more than others, by numbers that come with the batch."""
    net, x = Textbook(), images()
    p, of_pixels = 0.9 * torch.rand(B), 0.5 + torch.rand(X)

    def step():
        w = of_pixels if each_pixel else 1 / (1 - p)
        mu, logvar = net.encoder(x).chunk(2, -1)
        logits = net.decoder(net.sample(mu, logvar))
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        kl = gaussian_kl(mu, logvar).sum(-1)
        return ((w * nll).sum(-1) + kl).mean() if each_pixel else (w * (nll.sum(-1) + kl)).mean()

    return step


def with_weighted_pixels():
    return weighted(each_pixel=True)


def with_weighted_classes():
    """The weights of the examples are those of their classes; some pixels are not known."""
    net, x, y = Textbook(), images(), torch.arange(B) % 2
    of_class, mask = torch.tensor([0.7, 1.6]), (images() > 0.3).float()

    def step():
        mu, logvar = net.encoder(x).chunk(2, -1)
        logits = net.decoder(net.sample(mu, logvar))
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none") * mask
        return (of_class[y] * (nll.sum(-1) + gaussian_kl(mu, logvar).sum(-1))).mean()

    return step


def events(*, of_all=False):
    """A code and a number for each event; some are padding, which does not count."""
    enc, dec, x = encoder(inputs=1), nn.Linear(L, 1), images(4, 6)
    mask = (torch.arange(6) < torch.tensor([[6], [4], [5], [2]])).float()

    def step():
        mu, logvar = enc(x[..., None]).chunk(2, -1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        logits = dec(z)[..., 0]
        error = F.binary_cross_entropy_with_logits(logits, x, reduction="none") * mask
        kl = gaussian_kl(mu, logvar)
        return (error + (kl.sum() if of_all else kl.sum(-1)) * mask).sum() / mask.sum()

    return step


def kl_of_all_events():
    """The sum of the KL lacks its axis: each event has that of all."""
    return events(of_all=True)


def returning_the_elbo():
    step = averaged()
    return lambda: -step()


class Lightning(nn.Module):
    """What a LightningModule looks like to a caller."""

    def __init__(self):
        super().__init__()
        self.vae = Textbook()

    def forward(self, x):
        return self.vae.encoder(x)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        return {"loss": self.vae.loss(x) / len(x)}


def in_a_module():
    net = Lightning()
    return lambda: net.training_step((images(), torch.zeros(B)), 0)


def in_half_precision():
    step = averaged()

    def half():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return step()

    return half


RIGHT = [
    textbook,
    tied,
    with_a_classifier_of_mu,
    with_a_classifier_of_the_images,
    with_a_penalty_of_mu,
    with_a_border,
    averaged,
    with_distributions,
    with_a_sampled_kl,
    conditional,
    with_a_label_added,
    with_vmap,
    convolutional,
    with_a_generator_of_its_own,
    masked,
    weighted,
    with_weighted_pixels,
    with_weighted_classes,
    events,
    returning_the_elbo,
    in_a_module,
]


def mean_for_sum():
    return textbook(kl=lambda mu, s: gaussian_kl(mu, s).mean())


def no_half():
    return textbook(kl=lambda mu, s: (2 * gaussian_kl(mu, s)).sum())


def log_sigma_in_the_kl():
    return textbook(kl=lambda mu, s: gaussian_kl(mu, 2 * s).sum())


def uniform_noise():
    return textbook(noise=torch.rand_like)


def detached_kl():
    return textbook(kl=lambda mu, s: gaussian_kl(mu.detach(), s.detach()).sum())


def a_prior_of_another_width():
    return with_a_sampled_kl(factor=0.5)


def swapped_arguments():
    net, x = Textbook(), images()

    def step():
        mu, logvar = net.encoder(x).chunk(2, dim=-1)
        out = net.decoder(net.sample(mu, logvar))
        wrong = F.binary_cross_entropy_with_logits(x, out, reduction="sum")
        return wrong + gaussian_kl(mu, logvar).sum()

    return step


WRONG = {
    mean_for_sum: "objective/beta",
    no_half: "objective/beta",
    log_sigma_in_the_kl: "kl/closed-form",
    uniform_noise: "reparameterization/",
    detached_kl: "kl/",
    a_prior_of_another_width: "kl/closed-form",
    swapped_arguments: "likelihood/named",
}
"""What is wrong -> the claim, or the beginning of one, that has to break."""


def autoencoder():
    enc, dec, x = encoder(heads=L), decoder(), images()
    return lambda: F.mse_loss(dec(enc(x)), x)


def vector_quantized():
    enc, dec, x, book = encoder(heads=L), decoder(), images(), nn.Parameter(torch.randn(7, L))

    def step():
        h = enc(x)
        nearest = book[torch.cdist(h, book).argmin(1)]
        code = h + (nearest - h).detach()
        return F.mse_loss(dec(code), x) + F.mse_loss(nearest, h.detach())

    return step


def generator():
    dec = decoder()
    return lambda: dec(torch.randn(B, L)).square().mean()


def categorical():
    enc, dec, x = encoder(heads=L), decoder(), images()

    def step():
        code = F.gumbel_softmax(enc(x), hard=True)
        return F.mse_loss(dec(code), x)

    return step


def of_another_scale():
    """Right, but sigma is no function that is known, and never below 1e-5."""
    enc, dec, x = encoder(), decoder(), images()

    def step():
        mu, raw = enc(x).chunk(2, dim=-1)
        sigma = F.softplus(raw) + 1e-5
        z = mu + sigma * torch.randn_like(mu)
        kl = gaussian_kl(mu, 2 * torch.log(F.softplus(raw) + 1e-5)).sum()
        return F.mse_loss(dec(z), x, reduction="sum") + kl + 0 * raw.sum()

    return step


NONE = {
    of_another_scale: "sigma is no usual function of what the encoder outputs",
    autoencoder: "no noise enters this loss",
    vector_quantized: "discrete codes are not judged yet",
    generator: "not between an encoder and a decoder",
    categorical: "discrete codes are not judged yet",
}
"""What has no VAE that can be judged -> what is said."""
