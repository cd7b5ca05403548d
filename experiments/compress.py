"""Images to a file of about minus their lower bound in bits, by a trained model, and back, bit for bit.

    python -m experiments.compress --run=runs/mnist/seed-0/latent_20 images.npy images.aevb
    python -m experiments.compress --run=runs/mnist/seed-0/latent_20 --decompress images.aevb images.npy

Images are a .npy or .npz file, or a folder of PNG files; so is what comes back. A run with a Bernoulli likelihood takes
0 and 1, or 0 and 255; one with a likelihood over 0 to 255 any bytes. Prints the size beside the lower bound and beside
gzip, bz2, lzma, PNG and WebP of the same images. Files of models by --model=mlp can be read on any machine, others only
where they were written.
"""

from experiments.studies import compress

if __name__ == "__main__":
    compress.run()
