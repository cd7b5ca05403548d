"""Figure 2: lower bound against training samples, AEVB and wake-sleep, MNIST and Frey Face.

    python -m experiments.figure2
    python -m experiments.figure2 --num_train_samples=300000 --latent_dim_mnist=3,20 --latent_dim_frey_face=

Each run has a folder under --workdir, and an interrupted command resumes when it is given again. On a CPU the runs are
shared among one process per core. On a cluster --shard=i/n distributes them, and the command without --shard draws the
figure at the end. On an accelerator all latent sizes and learning rates of an algorithm are trained as one program.
"""

from experiments.paper import figure2

if __name__ == "__main__":
    figure2.run()
