"""Uses of a trained model of sequences, on batches: forecasts, imputation, smoothing and filtering.

    draws = aevb.sequences.forecast(params, key, xs, model, horizon=12)           # [N, S, 12, D]
    draws = aevb.sequences.impute(params, key, xs, model)                         # [N, S, T, D]
    found = aevb.sequences.smooth_states(params, key, xs, model)                  # moments of z_t given all of x
    found = aevb.sequences.filter_states(params, key, xs, model)                  # given x_1, ..., x_t
    past, future = aevb.sequences.cut(xs, steps=100, horizon=12)
    by_step = aevb.sequences.log_likelihood(params, key, past, xs, model)         # nats, for values missing in `past`

Sequences are `[N, T, D]`, NaN after the end of each and where a value was not observed; T may differ from the model's.
The model's prior is an `aevb.Markov` and its likelihood an `aevb.Observed`. The functions of `aevb.prediction` compute
intervals, coverage and scores from draws. The noise of a sequence depends only on the key and on its position.
"""

from aevb.sequences.lengths import cut
from aevb.sequences.paths import Method
from aevb.sequences.predictions import forecast, impute, log_likelihood
from aevb.sequences.states import FilteredStates, States, filter_states, smooth_states

__all__ = [
    "FilteredStates",
    "Method",
    "States",
    "cut",
    "filter_states",
    "forecast",
    "impute",
    "log_likelihood",
    "smooth_states",
]
