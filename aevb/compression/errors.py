"""The error for files that cannot be decompressed."""


class CompressionError(ValueError):
    """A file is damaged, has another format or belongs to another model. The one-line message says which."""
