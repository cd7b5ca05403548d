"""log p(x) of a trained model by several estimators, in one table.

    python -m experiments.marginal_likelihood --run=runs/mnist/seed-0/latent_3 --methods=is,hmc,ais

100 random test datapoints by default. A method's mean is above or below log p(x) on average as the table says: "is",
"mixture", forward "ais" and, of sequences, "particle" are unbiased for p(x), which puts the mean of the log below;
"hmc" (Appendix D) and reverse "ais" are unbiased for 1 / p(x), which puts it above. Of the two columns of errors, the
first is that of the mean as one over random datapoints, the second the estimator's own error for a single datapoint.
"""

from experiments.studies import marginal_likelihood

if __name__ == "__main__":
    marginal_likelihood.run()
