"""Compile the library's programs for accelerators that need not be present."""
