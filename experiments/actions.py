"""Classification of sequences by Bayes' rule on log p(x | class): hidden Markov models and deep Markov models.

    python -m experiments.actions --dataset=basic_motions
    python -m experiments.actions --dataset=japanese_vowels --model=hmm,dmm --seed=0,1,2,3,4
    python -m experiments.actions --dataset=japanese_vowels --model=dmm --latent_dim=4,8 --num_epochs=50,100
    python -m experiments.actions --dataset=japanese_vowels --model=dmm_per_class

`dmm` is one deep Markov model given the class; `hmm` and `dmm_per_class` are a model for each class.
Of several values of a setting, cross-validation within the training sequences chooses, with the first seed; the test
sequences choose nothing. Writes results.json, confusion.png and calibration.png; a finished seed is not learned again
(RESULTS.md).
"""

from experiments.studies import actions

if __name__ == "__main__":
    actions.run()
