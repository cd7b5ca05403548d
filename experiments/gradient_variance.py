"""Measure the variance of each gradient estimator, the paper's reason for its own estimator (section 2.1).

    python -m experiments.gradient_variance
    python -m experiments.gradient_variance --dataset=digits --hidden_dim=50 --num_draws=1000

One random minibatch stays fixed and the noise is drawn `--num_draws` times, at the initial parameters and after
`--num_epochs` of AEVB with the paper's settings (Adagrad 0.02, grey pixels). The gradient is that of the minibatch's
mean bound. Its total variance is the sum over coordinates, separately for the encoder and the decoder. All estimators
see the same noise. Writes results.json and gradient_variance.png. Takes minutes on a CPU (RESULTS.md).
"""

from experiments.studies import gradient_variance

if __name__ == "__main__":
    gradient_variance.run()
