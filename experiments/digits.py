"""AEVB on the 8x8 digits inside scikit-learn: the demonstration, which needs no download and a minute or so.

    python -m experiments.digits

Trains a 2-D latent space, whose manifold can be looked at, and a 10-D one, whose bound is better. Adam brings both to
convergence sooner than the paper's Adagrad does on so few images.
"""

from experiments import launch

DEFAULTS = launch.Defaults(
    dataset="digits",
    title="Digits",
    latent_dim=(2, 10),
    hidden_dim=(200,),
    likelihood="bernoulli",
    squash_mean=False,
    weight_init="normal_0.01",
    optimizer="adam",
    learning_rate=1e-3,
    num_epochs=1200,
    eval_every=50,
    split_rule="random",
)

if __name__ == "__main__":
    launch.main(DEFAULTS)
