"""How the claims see a subject: its functions in nats, its networks and its draws."""
