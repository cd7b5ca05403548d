"""Hidden Markov models on plain arrays, an exact baseline for models along time.

Each of the T steps has one of K states s_t, which depends on the state before it and emits x_t:

    p(x, s) = p(s_1) p(x_1 | s_1) prod_t p(s_t | s_{t-1}) p(x_t | s_t)

`log_likelihood` (evaluation), `viterbi` (decoding) and `fit` (learning) solve Rabiner's (1989) three problems. There
are also `filter_states`, `smooth_states` and `sample`. All are exact, and differentiable where that is meaningful.

    emission = hidden_markov.bernoulli()
    result = hidden_markov.fit(train, emission, 50, key=key, valid_x=valid, num_restarts=5)
    hidden_markov.log_likelihood(result.best_params, test, emission).sum() / num_steps    # nats per time step

Sequences are one array `[N, T, D]`, with NaN after the end of each and where a value was not observed. Steps after the
end do not exist. A missing value before the end contributes nothing to log p(x), but the state still makes its
transition.

dynamax solves the same problems for complete observations, and tests compare with it. It is not used here because this
forward algorithm handles many restarts and missing entries in one program, and because dynamax 1.0 needs a nightly
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
