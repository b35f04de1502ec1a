"""The variational graph autoencoder, with the encoder of its example."""

import torch
from torch_geometric.nn import VGAE, GCNConv

from vae_ref.conformance import Conventions, Subject

torch.manual_seed(0)
NODES = 7
EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 6, 3, 6]])
MISSING = torch.tensor([[0, 0, 1, 2, 1, 3, 4, 5], [2, 4, 3, 5, 6, 5, 6, 0]])


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.mu, self.logstd = GCNConv(6, 8), GCNConv(8, 3), GCNConv(8, 3)

    def forward(self, x, edges):
        h = self.hidden(x, edges).relu()
        return self.mu(h, edges), self.logstd(h, edges)


model = VGAE(Encoder())

posterior = Subject(
    name="torch_geometric, VGAE's KL and sampler",
    kl=model.kl_loss,
    reparameterize=model.reparametrize,
    module=model,
    conventions=Conventions(spread="log_sigma", evaluation="mean"),
)


def step(x):
    z = model.encode(x, EDGES)
    return model.recon_loss(z, EDGES, MISSING) + model.kl_loss() / NODES


def batch():
    return torch.randn(NODES, 6)
