"""How an epoch is executed. Every engine computes the function that `eager` defines."""
