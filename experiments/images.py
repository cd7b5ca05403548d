"""AEVB on images of your own.

    python -m experiments.images --data=photographs/ --image_size=32   # a folder of PNG or JPEG; subfolders are classes
    python -m experiments.images --data=images.npy                     # [N, H, W], [N, H, W, C] or [N, D]
    python -m experiments.images --data=images.npz --latent_dim=2,10   # images and labels, or x_train, x_test, ...
    python -m experiments.images --data=tfds:cifar10 --data_dir=...    # prepared as ArrayRecord
    python -m experiments.images --data=hf:NAME --patience=10          # Hugging Face, with its own validation split

Values are uint8, or floats in [0, 1]. A random tenth is held out for testing if the data have no test split. A suitable
likelihood is chosen and printed. Figures are in colour. Everything else, such as --resume, works as in the other
commands.
"""

from experiments import launch

if __name__ == "__main__":
    launch.main("images")
