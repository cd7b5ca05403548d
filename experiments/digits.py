"""AEVB on the 8x8 digits of scikit-learn: a demonstration that needs no download and takes about a minute.

    python -m experiments.digits

Trains a 2-D latent space, whose manifold can be drawn, and a 10-D one with a better bound. On so few images, Adam
converges sooner than the paper's Adagrad.
"""

from experiments import launch

if __name__ == "__main__":
    launch.main("digits", latent_dim=(2, 10))
