"""Measurements across runs, and of finished ones."""
