"""AEVB on sequences of your own, by a deep Markov model.

    python -m experiments.sequences --data=series.npz               # values [N, T, D] and lengths [N]
    python -m experiments.sequences --data=series.npz --latent_dim=4,8 --patience=10
    python -m experiments.sequences --data=series.npz --posterior=mean_field --num_valid_images=50

Values are 0 or 1, integers or floats, which are modelled as they are: scale them to about unit variance first. NaN is
what was not observed, and lengths say where each sequence ends. A random tenth is kept for testing where the file has
no `values_test` and `lengths_test`. The likelihood that suits is chosen and named, --resume goes on, and everything
else is as for the other commands.
"""

from experiments import launch

if __name__ == "__main__":
    launch.main("sequences")
