"""The built-in data sets. Each module defines one as `SOURCE`."""
