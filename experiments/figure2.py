"""Figure 2: lower bound against training samples, AEVB and wake-sleep, MNIST and Frey Face.

    python -m experiments.figure2
    python -m experiments.figure2 --num_train_samples=300000 --latent_dim_mnist=3,20 --latent_dim_frey_face=

Every member is a run folder under --workdir: an interrupted command goes on where it was. On a CPU a process a core
shares the members out; on a cluster --shard=i/n does, and the command without it draws them together at the end. On an
accelerator all latent sizes and step sizes of an algorithm are trained as one program.
"""

from experiments.paper import figure2

if __name__ == "__main__":
    figure2.run()
