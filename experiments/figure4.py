"""Figure 4: the manifolds that AEVB learns of Frey Face and MNIST in two latent dimensions.

    python -m experiments.figure4

The decoder's mean over the unit square through the inverse Gaussian CDF. Shares its members with the other figures.
"""

from experiments.paper import figure4

if __name__ == "__main__":
    figure4.run()
