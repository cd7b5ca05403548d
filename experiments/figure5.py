"""Figure 5: random samples from AEVB models of MNIST with 2, 5, 10 and 20 latent dimensions.

    python -m experiments.figure5

Draws the means of p(x|z) at z from the prior. Shares runs with other figures.
"""

from experiments.paper import figure5

if __name__ == "__main__":
    figure5.run()
