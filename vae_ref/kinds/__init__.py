"""Other kinds of VAE than the textbook's, a module for each: the mathematics, as functions."""
