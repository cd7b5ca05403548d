"""Estimate log p(x) of a trained model with several estimators, in one table.

    python -m experiments.marginal_likelihood --run=runs/mnist/seed-0/latent_3 --methods=is,hmc,ais

Uses 100 random test datapoints by default. The table says whether a method's mean is above or below log p(x) on
average: "is", "mixture", forward "ais" and, for sequences, "particle" are unbiased for p(x), so the mean of the log is
below. "hmc" (Appendix D) and reverse "ais" are unbiased for 1 / p(x), so it is above. Of the two columns of errors, the
first is the standard error of the mean over random datapoints, the second the estimator's own error for one datapoint.
"""

from experiments.studies import marginal_likelihood

if __name__ == "__main__":
    marginal_likelihood.run()
