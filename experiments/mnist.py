"""AEVB on MNIST with the paper's settings (section 5).

    python -m experiments.mnist --latent_dim=20
    python -m experiments.mnist --latent_dim=20 --optimizer=adam --learning_rate=1e-3
    python -m experiments.mnist --latent_dim=3,5,10,20,200 --resume

50 epochs are 3 million samples. RESULTS.md has the bounds to expect and what they cost.
"""

from experiments import launch

DEFAULTS = launch.Defaults(
    dataset="mnist",
    title="MNIST",
    latent_dim=(20,),
    hidden_dim=(500,),
    likelihood="bernoulli",
    squash_mean=False,
    weight_init="normal_0.01",
    optimizer="adagrad",
    learning_rate=0.02,
    num_epochs=50,
    eval_every=1,
    split_rule="official",
)

if __name__ == "__main__":
    launch.main(DEFAULTS)
