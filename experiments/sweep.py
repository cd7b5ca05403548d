"""Train the cross product of any settings, and report it in one table and one figure.

    python -m experiments.sweep --dataset=mnist --latent_dim=3,5,10,20,200 --learning_rate=0.01,0.02,0.1 --num_seeds=3
    python -m experiments.sweep --dataset=digits --sweep=latent_dim=2,10 --sweep=objective.num_samples=1,5
    python -m experiments.sweep --data=images.npy --sweep=likelihood=discretized_logistic,beta_binomial --num_epochs=50
    python -m experiments.sweep ... --shard=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT

--sweep names a setting by its flag or its place in config.json. Other flags set what is not crossed; the data set's
defaults set the rest. Each run has a folder under --workdir, which the paper's figures may share. Finished runs are
reused, interrupted ones resume, and runs that another command is training are left to it. On a CPU the runs are shared
among one process per core. On an accelerator all runs that differ only in latent size, learning rate and seed are one
program, with latent sizes padded to the largest. The table includes diverging runs; sweep.csv gives the reason.
"""

from experiments.studies import sweep

if __name__ == "__main__":
    sweep.run()
