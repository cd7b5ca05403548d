"""Figure 3: estimated marginal likelihood against training samples, AEVB, wake-sleep and Monte Carlo EM.

    python -m experiments.figure3
    python -m experiments.figure3 --num_train_images=1000 --num_train_samples=1000000
    python -m experiments.figure3 --num_train_samples=1000000,3000000 --num_train_samples_mcem=1000000,300000

MNIST with 100 hidden units and 3 latents, so that the estimator of Appendix D works. A sample is one visit to a
datapoint, as in the paper, but its cost differs: one gradient of both networks for AEVB, one gradient of each and a
dream for wake-sleep, 10 leapfrog steps and 5 updates for Monte Carlo EM. The lower row shows wall time instead.

Estimates use a random subset of both splits, drawn with seed 0, and are stored next to their checkpoint.
"""

from experiments.paper import figure3

if __name__ == "__main__":
    figure3.run()
