"""A deep Markov model of Bach's chorales (Krishnan et al. 2017), AEVB along time.

    python -m experiments.jsb_chorales
    python -m experiments.jsb_chorales --posterior=mean_field
    python -m experiments.jsb_chorales --posterior=flow --kl=sampled
    python -m experiments.jsb_chorales --latent_dim=16,32,64 --resume
    python -m experiments.marginal_likelihood --run=runs/jsb_chorales/seed-0/latent_32 --methods=is,particle

229 chorales to train on, 76 for validation, 77 to test, a quarter note a step. Bounds are reported per chorale and per
step: the sum over chorales by the sum of their lengths. RESULTS.md has those to expect and what they cost.
"""

from experiments import launch

if __name__ == "__main__":
    launch.main("jsb_chorales")
