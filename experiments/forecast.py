"""Forecast a time series with state-space models trained by AEVB, compared with seasonal naive forecasts.

    python -m experiments.forecast                                  # CO2 at Mauna Loa by month, from 1991 on
    python -m experiments.forecast --models=linear_gaussian --latent_dim=1,2,4 --horizon=60
    python -m experiments.forecast --data=own.npz --season=1        # values [T] or [T, D]

The models describe the change from one season earlier, standardized by the training part, and are trained on all
windows of `--window` steps. The last `--num_valid` steps before the test part choose the epoch, by the bound, and the
size of z, by the forecasts. Forecasts start at every `--origin_step`th step of the test part, given the window before.
Writes results.json, forecasts.png, scores.png and calibration.png. Takes minutes on a CPU (RESULTS.md).
"""

from experiments.studies import forecast

if __name__ == "__main__":
    forecast.run()
