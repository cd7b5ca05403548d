"""Train configurations into run folders."""
