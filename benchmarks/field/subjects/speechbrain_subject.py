"""The variational autoencoder of SpeechBrain with its loss, with the default weight and with 1."""

import torch
from speechbrain.nnet.autoencoders import VariationalAutoencoder
from speechbrain.nnet.losses import VariationalAutoencoderLoss, mse_loss
from torch import nn

torch.manual_seed(0)
model = VariationalAutoencoder(
    encoder=nn.Linear(12, 8),
    decoder=nn.Linear(3, 12),
    mean=nn.Linear(8, 3),
    log_var=nn.Linear(8, 3),
)


def step_of(loss):
    return lambda x: loss(model.train_sample(x), x)


default = step_of(VariationalAutoencoderLoss())
equal = step_of(VariationalAutoencoderLoss(rec_loss=mse_loss, dist_loss_weight=1.0))


def batch():
    return torch.randn(5, 12)
