"""Measurements across several runs and on finished runs."""
