"""Data sets, one file each, with a `SOURCE`."""
