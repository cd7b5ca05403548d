"""Figure 3: estimated marginal likelihood against training samples, AEVB, wake-sleep and Monte Carlo EM.

    python -m experiments.figure3
    python -m experiments.figure3 --num_train_images=1000 --num_train_samples=1000000
    python -m experiments.figure3 --num_train_samples=1000000,3000000 --num_train_samples_mcem=1000000,300000

MNIST, 100 hidden units and 3 latents, so that the estimator of Appendix D works. A sample is one visit of a datapoint,
as in the paper, but not the same work: of AEVB it is one gradient of both networks, of wake-sleep one gradient of each
and a dream, of Monte Carlo EM 10 leapfrogs and 5 updates. The lower row has wall time instead.

Estimates are of a random part of both splits by seed 0, and are kept beside the checkpoint that they are of.
"""

from experiments.paper import figure3

if __name__ == "__main__":
    figure3.run()
