"""Commands that reproduce the figures of the paper."""
