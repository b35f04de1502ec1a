"""The bug zoo: what becomes of a VAE with one wrong line."""
