"""Verify run folders and repair them.

    python -m experiments.check --run=runs/digits/seed-0/latent_2
    python -m experiments.check --run=runs/sweep --repair

Reads every file of a run, or of all runs under a folder. Compares the configuration with the weights, the checkpoints
with their checksums, metrics.csv with the checkpoints, and summary.json with metrics.csv. Prints one line per file: ok,
missing or damaged, and why. --repair evaluates checkpoints again to rebuild lost rows of metrics.csv and a lost
summary.json, and marks them as rebuilt. It moves what cannot be rebuilt to damaged/ in the run folder, deletes nothing,
and can be run again. No other process may be writing to the folder.

Exits with status 0 if all is well, 1 if something is wrong (with --repair: still wrong), 2 for bad input.
"""

from experiments.checks import command

if __name__ == "__main__":
    command.run()
