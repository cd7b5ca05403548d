"""The cross product of any settings: one table, one figure.

    python -m experiments.sweep --dataset=mnist --latent_dim=3,5,10,20,200 --learning_rate=0.01,0.02,0.1 --num_seeds=3
    python -m experiments.sweep --dataset=digits --sweep=latent_dim=2,10 --sweep=objective.num_samples=1,5
    python -m experiments.sweep --data=images.npy --sweep=likelihood=discretized_logistic,beta_binomial --num_epochs=50
    python -m experiments.sweep ... --shard=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT

--sweep names a setting by its flag or its place in config.json; flags set what is not crossed, and the data set's own
settings the rest. Every run is a folder under --workdir, shared with the paper's figures where that is the same: what
is there is not trained again, what was interrupted goes on, and what another command is training is left to it. On a
CPU a process a core shares the runs out. On an accelerator all runs that differ in latent size, step size and seed
alone are one program, latent sizes padded to the largest. A run that diverges is in the table; sweep.csv says why.
"""

from experiments.studies import sweep

if __name__ == "__main__":
    sweep.run()
