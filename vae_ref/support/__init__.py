"""What both sides may import: nothing here knows what a VAE is."""
