"""Trainings that claims share, and what is measured of the trained models."""
