"""Figure 4: the manifolds of Frey Face and MNIST that AEVB learns with two latent dimensions.

    python -m experiments.figure4

Draws the decoder's mean on the unit square mapped through the inverse Gaussian CDF. Shares runs with other figures.
"""

from experiments.paper import figure4

if __name__ == "__main__":
    figure4.run()
