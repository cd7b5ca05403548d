"""Figure 5: random samples of what AEVB learns of MNIST in 2, 5, 10 and 20 latent dimensions.

    python -m experiments.figure5

Means of p(x|z) at z from the prior. Shares its members with the other figures.
"""

from experiments.paper import figure5

if __name__ == "__main__":
    figure5.run()
