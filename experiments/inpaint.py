"""Restore test images that are partly hidden or noisy with a trained model.

    python -m experiments.inpaint --run=runs/mnist/seed-0/latent_20 --mask=lower
    python -m experiments.inpaint --run=DIR --mask=random --methods=hmc,encoder --num_images=100
    python -m experiments.inpaint --run=DIR --mask=hidden.npy       # [H, W], nonzero where a pixel is hidden
    python -m experiments.inpaint --run=DIR --noise=flips:0.1       # or gaussian:0.5; can be combined with --mask

Prints a table with one row per method: log p of each hidden pixel by itself, the error of the mean, R-hat of the
chains, and seconds. Below it stands log p(hidden | seen) of all hidden pixels together, the difference of two marginal
likelihoods. Writes results.json, table.csv, inpaint.png and images.npz.
"""

from experiments.studies import inpaint

if __name__ == "__main__":
    inpaint.run()
