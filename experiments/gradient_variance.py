"""How much each gradient estimator varies: the paper's reason for its own (section 2.1), measured.

    python -m experiments.gradient_variance
    python -m experiments.gradient_variance --dataset=digits --hidden_dim=50 --num_draws=1000

One random minibatch stays fixed and the noise is drawn `--num_draws` times, at the initial parameters and after
`--num_epochs` of AEVB with the paper's settings (Adagrad 0.02, grey pixels). The gradient is that of the minibatch's
mean bound, and its total variance the sum over coordinates, the encoder's and the decoder's apart. All estimators see
the same noise. Minutes on a CPU (RESULTS.md); writes results.json and gradient_variance.png.
"""

from experiments.studies import gradient_variance

if __name__ == "__main__":
    gradient_variance.run()
