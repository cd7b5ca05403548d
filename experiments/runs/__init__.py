"""Training configurations into run folders."""
