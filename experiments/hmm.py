"""Fit hidden Markov models of several sizes by EM, the exact baseline for sequence models.

    python -m experiments.hmm --num_states=10,20,50,100
    python -m experiments.hmm --dataset=japanese_vowels --num_states=3,5
    python -m experiments.hmm --data=sequences.npz --emission=gaussian         # values [N, T, D] and lengths [N]

Each size is fitted from `--num_restarts` starting points. Validation sequences choose the iteration and the restart;
test sequences choose nothing. log p is exact, in nats per time step: the sum over sequences divided by the sum of their
lengths. Writes results.json, the parameters of each size in states_K.npz, and figures. An interrupted command resumes
with the next size when it is given again. Takes minutes on a CPU (RESULTS.md).
"""

from experiments.studies import hmm

if __name__ == "__main__":
    hmm.run()
