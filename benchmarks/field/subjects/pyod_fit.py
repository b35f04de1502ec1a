"""The detector VAE of PyOD with its default settings fits a small table."""

import numpy as np
from pyod.models.vae import VAE

VAE(epoch_num=2, batch_size=20, verbose=0).fit(np.random.default_rng(0).normal(size=(60, 12)))
