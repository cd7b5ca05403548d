"""What a trained model makes of test images of which a part is hidden, or that are seen through noise.

    python -m experiments.inpaint --run=runs/mnist/seed-0/latent_20 --mask=lower
    python -m experiments.inpaint --run=DIR --mask=random --methods=hmc,encoder --num_images=100
    python -m experiments.inpaint --run=DIR --mask=hidden.npy       # [H, W], not 0 where a pixel is hidden
    python -m experiments.inpaint --run=DIR --noise=flips:0.1       # or gaussian:0.5; a mask may come on top

By method, in a table: log p of the hidden pixels each by itself, the error of their mean, R-hat of the chains, and
seconds; below it log p(hidden | seen) of all together, the difference of two marginal likelihoods. Writes results.json,
table.csv, inpaint.png and images.npz.
"""

from experiments.studies import inpaint

if __name__ == "__main__":
    inpaint.run()
