"""Measurements of the reference, made by commands that anyone can repeat."""
