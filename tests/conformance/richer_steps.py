"""Steps whose prior is learned, that have several codes, or that draw several codes per example.

As in `steps`, there are right ones and wrong ones.
"""

import math

import torch
import torch.nn.functional as F
from steps import B, L, X, decoder, encoder, gaussian_kl, images
from torch import nn
from torch.distributions import Normal, kl_divergence

K = 4


def kl_of_gaussians(mu, logvar, prior_mu, prior_logvar):
    distance = (mu - prior_mu) ** 2
    ratio = (logvar.exp() + distance) / prior_logvar.exp()
    return 0.5 * (prior_logvar - logvar + ratio - 1)


def bits(out, x):
    return F.binary_cross_entropy_with_logits(out, x, reduction="sum")


def drawn(mu, logvar, noise=torch.randn_like):
    return mu + torch.exp(logvar / 2) * noise(mu)


def kind():
    return F.one_hot(torch.tensor([0, 1, 1, 0, 1]), 2).float()


def with_a_prior_for_each_label(kl=kl_of_gaussians, noise=torch.randn_like):
    """The prior is a network of the label."""
    enc, dec, prior, x, c = encoder(X + 2), decoder(L + 2), encoder(2), images(), kind()

    def step():
        mu, logvar = enc(torch.cat([x, c], 1)).chunk(2, 1)
        prior_mu, prior_logvar = prior(c).chunk(2, 1)
        z = drawn(mu, logvar, noise)
        return bits(dec(torch.cat([z, c], 1)), x) + kl(mu, logvar, prior_mu, prior_logvar).sum()

    return step


def with_a_prior_of_parameters():
    """The prior is a Gaussian whose mean and log sigma are parameters."""
    enc, dec, x = encoder(), decoder(), images()
    mean = nn.Parameter(torch.linspace(-1, 1, L))
    log_sigma = nn.Parameter(torch.linspace(-0.5, 0.5, L))

    def step():
        mu, log_var = enc(x).chunk(2, 1)
        q = Normal(mu, (0.5 * log_var).exp())
        kl = kl_divergence(q, Normal(mean, log_sigma.exp())).sum()
        return bits(dec(q.rsample()), x) + kl

    return step


def with_a_sampled_kl_to_a_learned_prior(factor=1.0):
    enc, dec, prior, x, c = encoder(), decoder(), encoder(2), images(), kind()

    def step():
        mu, raw = enc(x).chunk(2, 1)
        prior_mu, prior_raw = prior(c).chunk(2, 1)
        q, p = Normal(mu, F.softplus(raw)), Normal(prior_mu, F.softplus(prior_raw))
        z = q.rsample()
        kl = (q.log_prob(z) - factor * p.log_prob(z)).sum(1)
        return (kl + 0.5 * (dec(z) - x).square().sum(1)).mean()

    return step


def with_a_mixture_for_a_prior():
    """A Vamp prior: the average of the posteriors of learned images."""
    enc, dec, x = encoder(), decoder(), images()
    inputs = nn.Parameter(torch.rand(3, X))

    def step():
        mu, logvar = enc(x).chunk(2, 1)
        z = drawn(mu, logvar)
        means, logvars = enc(inputs).chunk(2, 1)
        log_p = Normal(means, torch.exp(logvars / 2)).log_prob(z[:, None]).sum(-1)
        log_p = torch.logsumexp(log_p, 1) - math.log(3)
        log_q = Normal(mu, torch.exp(logvar / 2)).log_prob(z).sum(1)
        return bits(dec(z), x) + (log_q - log_p).sum()

    return step


def with_two_codes(second=1.0, noise=torch.randn_like):
    """One for the content and one for the style, side by side."""
    first, other, dec, x = encoder(), encoder(heads=4), decoder(L + 2), images()

    def step():
        (mu, logvar), (m, s) = first(x).chunk(2, 1), other(x).chunk(2, 1)
        out = dec(torch.cat([drawn(mu, logvar), drawn(m, s, noise)], 1))
        return bits(out, x) + gaussian_kl(mu, logvar).sum() + second * gaussian_kl(m, s).sum()

    return step


def with_two_layers_of_codes(kl=kl_of_gaussians, noise=torch.randn_like):
    """The prior of the lower code is a network of the upper one."""
    below, above, prior, dec = encoder(), encoder(L, 4), encoder(2), decoder()
    x = images()

    def step():
        mu, logvar = below(x).chunk(2, 1)
        z = drawn(mu, logvar, noise)
        m, s = above(z).chunk(2, 1)
        upper = drawn(m, s)
        prior_mu, prior_logvar = prior(upper).chunk(2, 1)
        lower = kl(mu, logvar, prior_mu, prior_logvar)
        return bits(dec(z), x) + lower.sum() + gaussian_kl(m, s).sum()

    return step


def with_a_ladder():
    """From the top down: the posterior of the lower code is one of image and upper code."""
    top, low, prior, dec, x = encoder(heads=4), encoder(X + 2), encoder(2), decoder(), images()

    def step():
        m, s = top(x).chunk(2, 1)
        upper = drawn(m, s)
        mu, logvar = low(torch.cat([x, upper], 1)).chunk(2, 1)
        prior_mu, prior_logvar = prior(upper).chunk(2, 1)
        lower = kl_of_gaussians(mu, logvar, prior_mu, prior_logvar).sum(1)
        out = dec(drawn(mu, logvar))
        nll = F.binary_cross_entropy_with_logits(out, x, reduction="none").sum(1)
        return (nll + lower + gaussian_kl(m, s).sum(1)).mean()

    return step


def with_the_average_of_several_draws(count=K, noise=torch.randn_like):
    """The ELBO is averaged over several codes for each example; the KL is analytic."""
    enc, dec, x = encoder(), decoder(), images()

    def step():
        mu, logvar = enc(x).chunk(2, 1)
        z = drawn(mu.expand(K, B, L), logvar.expand(K, B, L), noise)
        nll = F.binary_cross_entropy_with_logits(dec(z), x.expand(K, B, X), reduction="sum")
        return nll / count + gaussian_kl(mu, logvar).sum()

    return step


def with_draws_side_by_side():
    """Several codes for each example, one after the other along the batch."""
    enc, dec, x = encoder(), decoder(), images()

    def step():
        mu, logvar = enc(x).chunk(2, 1)
        z = drawn(mu.repeat_interleave(K, 0), logvar.repeat_interleave(K, 0))
        nll = (dec(z).reshape(B, K, X) - x[:, None]).square().sum(-1) / 2
        return (nll.mean(1) + gaussian_kl(mu, logvar).sum(1)).mean()

    return step


def importance_weighted(factor=1.0, mean=lambda log_w: torch.logsumexp(log_w, 0) - math.log(K)):
    """The bound of Burda and others, of several codes for each example."""
    enc, dec, x = encoder(), decoder(), images()

    def step():
        mu, logvar = enc(x).chunk(2, 1)
        q = Normal(mu, torch.exp(logvar / 2))
        z = q.rsample((K,))
        log_p = -F.binary_cross_entropy_with_logits(
            dec(z), x.expand(K, B, X), reduction="none"
        ).sum(-1)
        prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
        log_w = log_p + factor * (prior - q.log_prob(z).sum(-1))
        return -mean(log_w).mean()

    return step


def with_a_code_without_a_kl():
    """Right where its posterior is its prior by design, as in a state-space model."""
    return with_two_codes(second=0.0)


def over_time(noise=torch.randn_like):
    """A state-space model: a code for each of four steps, whose prior is a network of the last."""
    posterior, prior, dec = encoder(X + L), encoder(L), decoder()
    frames = images(4, B, X)

    def step():
        z, loss = torch.zeros(B, L), 0.0
        for x in frames:
            mu, logvar = posterior(torch.cat([x, z], 1)).chunk(2, 1)
            prior_mu, prior_logvar = prior(z).chunk(2, 1)
            z = drawn(mu, logvar, noise)
            kl = kl_of_gaussians(mu, logvar, prior_mu, prior_logvar)
            loss = loss + 0.5 * (dec(z) - x).square().sum() + kl.sum()
        return loss

    return step


def with_several_draws_of_two_codes():
    first, other, dec, x = encoder(), encoder(heads=4), decoder(L + 2), images()

    def step():
        (mu, logvar), (m, s) = first(x).chunk(2, 1), other(x).chunk(2, 1)
        codes = [
            drawn(*(head.expand(K, B, -1) for head in pair)) for pair in ((mu, logvar), (m, s))
        ]
        out = dec(torch.cat(codes, 2))
        nll = F.binary_cross_entropy_with_logits(out, x.expand(K, B, X), reduction="sum")
        return nll / K + gaussian_kl(mu, logvar).sum() + gaussian_kl(m, s).sum()

    return step


def with_the_largest_weight():
    return importance_weighted(mean=lambda log_w: log_w.max(0).values)


RIGHT = [
    with_a_prior_for_each_label,
    with_two_layers_of_codes,
    with_a_prior_of_parameters,
    with_a_sampled_kl_to_a_learned_prior,
    with_two_codes,
    with_a_code_without_a_kl,
    with_a_ladder,
    with_the_average_of_several_draws,
    importance_weighted,
    with_draws_side_by_side,
]


def multiplied_by_the_variance_of_the_prior(mu, logvar, prior_mu, prior_logvar):
    ratio = (logvar.exp() + (mu - prior_mu) ** 2) * prior_logvar.exp()
    return 0.5 * (prior_logvar - logvar + ratio - 1)


def without_the_variance_of_the_posterior(mu, logvar, prior_mu, prior_logvar):
    return 0.5 * (prior_logvar - logvar + (mu - prior_mu) ** 2 / prior_logvar.exp())


def with_log_sigma_for_log_variance(mu, logvar, prior_mu, prior_logvar):
    return kl_of_gaussians(mu, 2 * logvar, prior_mu, 2 * prior_logvar)


def of_a_prior_in_the_wrong_place():
    """The variances have changed places."""
    return with_a_prior_for_each_label(lambda m, s, p, t: kl_of_gaussians(p, t, m, s))


def of_a_prior_that_multiplies():
    return with_a_prior_for_each_label(multiplied_by_the_variance_of_the_prior)


def of_layers_without_a_variance():
    return with_two_layers_of_codes(without_the_variance_of_the_posterior)


def of_layers_with_log_sigma():
    return with_two_layers_of_codes(with_log_sigma_for_log_variance)


def of_two_codes_with_uniform_noise():
    return with_two_codes(noise=torch.rand_like)


def of_a_learned_prior_of_half_a_weight():
    return with_a_sampled_kl_to_a_learned_prior(factor=0.5)


def of_draws_that_are_summed():
    return with_the_average_of_several_draws(count=1)


def of_uniform_draws():
    return with_the_average_of_several_draws(noise=torch.rand_like)


def of_half_the_divergence_in_the_weights():
    return importance_weighted(factor=0.5)


WRONG = {
    of_draws_that_are_summed: "objective/beta",
    of_uniform_draws: "reparameterization/",
    of_half_the_divergence_in_the_weights: "objective/beta",
    of_a_prior_in_the_wrong_place: "kl/",
    of_a_prior_that_multiplies: "kl/",
    of_layers_without_a_variance: "kl/",
    of_layers_with_log_sigma: "kl/",
    of_two_codes_with_uniform_noise: "reparameterization/",
    of_a_learned_prior_of_half_a_weight: "kl/",
}
"""What is wrong -> the beginning of the claim that has to break."""


def of_weights_that_differ():
    return with_two_codes(second=0.5)


def with_encoders_of_each_part(weight=0.1):
    """The posterior of the whole is drawn to those of its parts, too, as in the JMVAE."""
    whole, left, right, dec, x = encoder(), encoder(5), encoder(X - 5), decoder(), images()

    def step():
        mu, logvar = whole(x).chunk(2, 1)
        parts = left(x[:, :5]).chunk(2, 1), right(x[:, 5:]).chunk(2, 1)
        beside = sum(kl_of_gaussians(mu, logvar, *part).sum() for part in parts)
        kl = gaussian_kl(mu, logvar).sum() + weight * beside
        return (bits(dec(drawn(mu, logvar)), x) + 0.1 * kl) / len(x)

    return step


SAID = {
    with_encoders_of_each_part: "of several priors",
    with_a_mixture_for_a_prior: "as that of a flow, of a mixture or",
    with_several_draws_of_two_codes: "there are several codes, of which several are drawn",
    with_the_largest_weight: "the draws of an example are combined as neither",
    of_weights_that_differ: "the KLs of the codes have other weights",
}
"""What is not judged in full -> what is said."""
