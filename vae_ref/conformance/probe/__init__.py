"""A subject as the claims see it: its functions in nats, its networks, its draws."""
