"""AEVB on Bach's chorales with a deep Markov model (Krishnan et al. 2017).

    python -m experiments.jsb_chorales
    python -m experiments.jsb_chorales --num_epochs=2500 --eval_every=50
    python -m experiments.jsb_chorales --bound=fivo --num_samples=4 --num_epochs=400
    python -m experiments.jsb_chorales --posterior=mean_field
    python -m experiments.jsb_chorales --posterior=flow --kl=sampled
    python -m experiments.jsb_chorales --latent_dim=16,32,64 --resume
    python -m experiments.marginal_likelihood --run=runs/jsb_chorales/seed-0/latent_32 --methods=is,particle

There are 229 chorales for training, 76 for validation and 77 for testing, with one step per quarter note. Bounds are
reported per chorale and per step: the sum over chorales divided by the sum of their lengths. RESULTS.md has the
expected bounds and training times.
"""

from experiments import launch

if __name__ == "__main__":
    launch.main("jsb_chorales")
