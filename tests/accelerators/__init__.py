"""The library's programs compiled for accelerators that need not be there."""
