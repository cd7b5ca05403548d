"""Benchmarks of speed and memory: see `experiments.benchmark.__main__`."""
