"""AEVB on Frey Face with the paper's settings (section 5).

    python -m experiments.frey_face --latent_dim=2
    python -m experiments.frey_face --latent_dim=2,5,10,20

The 1,765 epochs of 17 minibatches are 3 million samples. There is no official split: see aevb/data/sources/frey_face.py
for the default and for --split_rule=first_1565. RESULTS.md has the expected bounds and training times.
"""

from experiments import launch

if __name__ == "__main__":
    launch.main("frey_face")
