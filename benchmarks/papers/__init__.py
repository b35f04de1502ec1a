"""Recipes that reproduce published figures, each a command of its own."""
