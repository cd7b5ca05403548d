"""The cross product of latent sizes, step sizes and seeds: one table, one figure.

    python -m experiments.sweep --dataset=mnist --latent_dims=3,5,10,20,200 --learning_rates=0.01,0.02,0.1 --num_seeds=3
    python -m experiments.sweep ... --shard=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT

Every run is a folder under --workdir, shared with the paper's figures where that is the same: what is there is not
trained again, and what was interrupted goes on. On a CPU a process a core shares the runs out. On an accelerator all
runs are one program, latent sizes padded to the largest. A run that diverges is said so in the table; sweep.csv says
why.
"""

from experiments.studies import sweep

if __name__ == "__main__":
    sweep.run()
