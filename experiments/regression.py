"""Regression with noise of any shape: p(y | x) with latents (section 7), Gaussian and mixture density networks.

    python -m experiments.regression --dataset=bimodal
    python -m experiments.regression --dataset=diabetes --latent_dim=2 --num_splits=10
    python -m experiments.regression --data=table.npz                          # x [N, D] and y [N] or [N, E]

Every model is trained with Adam for at most `--num_epochs`; validation rows choose the epoch. Test rows, which choose
nothing, give log p(y | x) in nats per datapoint and in the units of y, and the coverage of intervals. x and y are
standardized by the training rows. Writes results.json, noise.png and calibration.png. Takes minutes on a CPU
(RESULTS.md).
"""

from experiments.studies import regression

if __name__ == "__main__":
    regression.run()
