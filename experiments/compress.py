"""Compress images losslessly with a trained model, to about their negative lower bound in bits, and decompress them.

    python -m experiments.compress --run=runs/mnist/seed-0/latent_20 images.npy images.aevb
    python -m experiments.compress --run=runs/mnist/seed-0/latent_20 --decompress images.aevb images.npy

Input and decompressed images are a .npy or .npz file, or a folder of PNG files. A run with a Bernoulli likelihood takes
values 0 and 1, or 0 and 255; one with a likelihood over 0 to 255 takes any bytes. Prints the size next to the lower
bound and to the sizes of gzip, bz2, lzma, PNG and WebP. Files compressed with --model=mlp can be read on any machine,
others only where they were written.
"""

from experiments.studies import compress

if __name__ == "__main__":
    compress.run()
