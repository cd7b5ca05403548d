"""Hidden Markov models: the exact baseline of models along time, on plain arrays.

A state s_t out of K emits x_t, and depends on the state before it:

    p(x, s) = p(s_1) p(x_1 | s_1) prod_t p(s_t | s_{t-1}) p(x_t | s_t)

Rabiner's (1989) three problems are `log_likelihood` (evaluation), `viterbi` (decoding) and `fit` (learning);
`filter_states`, `smooth_states` and `sample` are beside them. All of them are exact, and differentiable where that has
a meaning.

    emission = hidden_markov.bernoulli()
    result = hidden_markov.fit(train, emission, 50, key=key, valid_x=valid, num_restarts=5)
    hidden_markov.log_likelihood(result.best_params, test, emission).sum() / num_steps    # nats per time step

Sequences are one array `[N, T, D]`, NaN after the end of each and wherever something was not observed. A step after the
end does not exist; a missing value before it adds nothing to log p(x), and the state goes on.

dynamax does the same for whole observations, and is what tests compare with. This is a differentiable forward algorithm
of our own, because many restarts and missing entries are one program here, and because dynamax 1.0 needs a nightly
build of TensorFlow Probability and a web server.
"""

from aevb.hidden_markov.decoding import Decoded, viterbi
from aevb.hidden_markov.emissions import Emission, bernoulli, categorical, gaussian, poisson
from aevb.hidden_markov.inference import (
    ExpectedCounts,
    Filtered,
    expected_counts,
    filter_states,
    log_likelihood,
    smooth_states,
)
from aevb.hidden_markov.learning import Evaluation, FitResult, em_step, fit, initialize
from aevb.hidden_markov.parameters import Parameters
from aevb.hidden_markov.sampling import Sampled, sample

__all__ = [
    "Decoded",
    "Emission",
    "Evaluation",
    "ExpectedCounts",
    "Filtered",
    "FitResult",
    "Parameters",
    "Sampled",
    "bernoulli",
    "categorical",
    "em_step",
    "expected_counts",
    "filter_states",
    "fit",
    "gaussian",
    "initialize",
    "log_likelihood",
    "poisson",
    "sample",
    "smooth_states",
    "viterbi",
]
