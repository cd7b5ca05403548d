"""What is raised of files that cannot be decompressed."""


class CompressionError(ValueError):
    """A file is damaged, something else, or of another model; the message is one line that says which."""
