"""Write the weights of the vectors: python -m tests.conformance.trained_weights FILE.

FILE is the checkpoint of `vae-ref train --seed 0`, the textbook's VAE on MNIST. Other machines
train to other weights, and those of an edition never change: this shows how they were made.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.conformance.test_vectors import LAYERS
from vae_ref import Run
from vae_ref.conformance.vectors import network
from vae_ref.conformance.vectors.trained_network import FILE, GRAIN


def main() -> None:
    model = Run.load(Path(sys.argv[1])).model
    state = model.state_dict()
    weights = {
        f"{layer}.{part}": (state[f"{ours}.{part}"] * GRAIN).round().float() / GRAIN
        for ours, layer in zip(LAYERS, network.LAYERS, strict=True)
        for part in ("weight", "bias")
    }
    assert sum(map(torch.numel, weights.values())) == sum(map(torch.numel, state.values()))
    save_file(weights, FILE)


if __name__ == "__main__":
    main()
