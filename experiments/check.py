"""Verifies run folders, and repairs them.

    python -m experiments.check --run=runs/digits/seed-0/latent_2
    python -m experiments.check --run=runs/sweep --repair

Reads every file of a run, or of all runs under a folder: the configuration against the weights, the checkpoints
against their checksums, metrics.csv against the checkpoints, summary.json against metrics.csv; prints one line for
each that says ok, missing or damaged, and why. --repair evaluates checkpoints again for the rows of metrics.csv and
the summary.json that are lost, marks them as rebuilt, and moves what cannot be rebuilt to damaged/ in the run folder.
It deletes nothing, and can be run again. No other process may be writing to the folder.

Exits with status 0 if all is well, 1 if something is wrong (with --repair: still), 2 for bad input.
"""

from experiments.checks import command

if __name__ == "__main__":
    command.run()
