"""A training from recipe to pictures: what it computes, its state, and the files it writes."""
