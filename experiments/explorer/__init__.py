"""The HTML page that shows a latent space: its content, and how it is assembled into one file."""
