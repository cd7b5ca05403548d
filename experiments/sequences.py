"""AEVB on sequences of your own, with a deep Markov model.

    python -m experiments.sequences --data=series.npz               # values [N, T, D] and lengths [N]
    python -m experiments.sequences --data=series.npz --latent_dim=4,8 --patience=10
    python -m experiments.sequences --data=series.npz --posterior=mean_field --num_valid_images=50

Values are 0 or 1, integers or floats. They are modelled as they are, so scale them to about unit variance first. NaN
marks values that were not observed, and lengths say where each sequence ends. A random tenth is held out for testing if
the file has no `values_test` and `lengths_test`. A suitable likelihood is chosen and printed. Everything else, such as
--resume, works as in the other commands.
"""

from experiments import launch

if __name__ == "__main__":
    launch.main("sequences")
