"""Classify sequences by Bayes' rule on log p(x | class), with hidden Markov models or deep Markov models.

    python -m experiments.actions --dataset=basic_motions
    python -m experiments.actions --dataset=japanese_vowels --model=hmm,dmm --seed=0,1,2,3,4
    python -m experiments.actions --dataset=japanese_vowels --model=dmm --latent_dim=4,8 --num_epochs=50,100
    python -m experiments.actions --dataset=japanese_vowels --model=dmm_per_class

`dmm` is one deep Markov model given the class; `hmm` and `dmm_per_class` are one model per class. Where a setting has
several values, cross-validation within the training sequences chooses one, with the first seed. The test sequences
choose nothing. Writes results.json, confusion.png and calibration.png; finished seeds are reused. RESULTS.md has the
numbers.
"""

from experiments.studies import actions

if __name__ == "__main__":
    actions.run()
