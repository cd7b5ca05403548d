"""AEVB on MNIST with the paper's settings (section 5).

    python -m experiments.mnist --latent_dim=20
    python -m experiments.mnist --latent_dim=20 --optimizer=adam --learning_rate=1e-3
    python -m experiments.mnist --latent_dim=3,5,10,20,200 --resume

50 epochs are 3 million samples. RESULTS.md has the expected bounds and training times.
"""

from experiments import launch

if __name__ == "__main__":
    launch.main("mnist")
