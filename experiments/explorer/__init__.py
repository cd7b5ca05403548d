"""A page that shows a latent space: what is put into it, and how it becomes one file."""
