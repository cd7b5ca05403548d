"""AEVB on the 8x8 digits inside scikit-learn: the demonstration, which needs no download and a minute or so.

    python -m experiments.digits

Trains a 2-D latent space, whose manifold can be looked at, and a 10-D one, whose bound is better. Adam brings both to
convergence sooner than the paper's Adagrad does on so few images.
"""

from experiments import launch

if __name__ == "__main__":
    launch.main("digits", latent_dim=(2, 10))
