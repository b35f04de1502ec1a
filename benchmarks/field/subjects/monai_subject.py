"""VarAutoEncoder and AutoencoderKL of MONAI at small sizes; the package has no loss for them."""

import torch
from monai.networks.nets import AutoencoderKL, VarAutoEncoder

from vae_ref.conformance import Conventions, Subject

torch.manual_seed(0)


def var_autoencoder(**options):
    model = VarAutoEncoder(2, (1, 8, 8), 1, 3, channels=(4, 8), strides=(1, 2), **options)
    return Subject(
        name=f"monai, VarAutoEncoder {options or ''}".strip(),
        reparameterize=model.reparameterize,
        encode=model.encode_forward,
        decode=model.decode_forward,
        forward=lambda x: model(x)[:3],
        module=model,
        conventions=Conventions(pixel_shape=(1, 8, 8), evaluation="mean" if options else "sample"),
    )


as_it_is = var_autoencoder()
mean_at_inference = var_autoencoder(use_mean_at_inference=True)

kl_model = AutoencoderKL(
    spatial_dims=2,
    in_channels=1,
    out_channels=1,
    num_res_blocks=(1, 1),
    channels=(8, 8),
    attention_levels=(False, False),
    latent_channels=3,
    norm_num_groups=4,
)
autoencoder_kl = Subject(
    name="monai, AutoencoderKL",
    reparameterize=kl_model.sampling,
    encode=kl_model.encode,
    decode=kl_model.decode,
    forward=kl_model,
    module=kl_model,
    conventions=Conventions(spread="sigma", latent_shape=(3, 4, 4), pixel_shape=(1, 8, 8)),
)
