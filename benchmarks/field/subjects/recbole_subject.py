"""The sampler of RecBole's MultiVAE, in the mode of a module that stands for the model."""

from recbole.model.general_recommender import MultiVAE
from torch import nn

from vae_ref.conformance import Conventions, Subject

module = nn.Module()

subject = Subject(
    name="recbole, the sampler of MultiVAE",
    reparameterize=lambda mu, logvar: MultiVAE.reparameterize(module, mu, logvar),
    module=module,
    conventions=Conventions(evaluation="mean"),
)
