"""MultiVAE of RecBole on a small table of clicks: its sampler and its training step."""

import tempfile
from pathlib import Path

import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.model.general_recommender import MultiVAE

from vae_ref.conformance import Conventions, Subject

torch.manual_seed(0)
folder = Path(tempfile.mkdtemp())
(folder / "clicks").mkdir()
clicks = [f"u{user}\ti{item}" for user in range(9) for item in range(11) if (user * item) % 3]
header = "user_id:token\titem_id:token"
(folder / "clicks" / "clicks.inter").write_text("\n".join([header, *clicks]))


def made(kind):
    settings = {"data_path": str(folder), "use_gpu": False, "state": "ERROR"}
    config = Config(model=kind.__name__, dataset="clicks", config_dict=settings)
    return kind(config, create_dataset(config))


model = made(MultiVAE)
sampler = Subject(
    name="recbole, the sampler of MultiVAE",
    reparameterize=model.reparameterize,
    module=model,
    conventions=Conventions(evaluation="mean"),
)


def step(user):
    return model.calculate_loss({model.USER_ID: user})


def batch():
    return torch.arange(1, 9)
