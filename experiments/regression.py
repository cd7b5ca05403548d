"""Regression with noise of any shape: p(y | x) with latents (section 7), a Gaussian and a mixture density network.

    python -m experiments.regression --dataset=bimodal
    python -m experiments.regression --dataset=diabetes --latent_dim=2 --num_splits=10
    python -m experiments.regression --data=table.npz                          # x [N, D] and y [N] or [N, E]

Every model is trained by Adam for at most `--num_epochs`, its epoch chosen on validation rows, and tested on rows that
chose nothing: log p(y | x) in nats per datapoint and in the units of y, and the coverage of its intervals. x and y are
standardized by the training rows. Writes results.json, noise.png and calibration.png; minutes on a CPU (RESULTS.md).
"""

from experiments.studies import regression

if __name__ == "__main__":
    regression.run()
