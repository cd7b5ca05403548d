"""Forecasts of a series by state spaces trained with AEVB, against the season before.

    python -m experiments.forecast                                  # CO2 at Mauna Loa by month, from 1991 on
    python -m experiments.forecast --models=linear_gaussian --latent_dim=1,2,4 --horizon=60
    python -m experiments.forecast --data=own.npz --season=1        # values [T] or [T, D]

What is modelled is the change against the step a season before, standardized by the part that is fitted: all windows of
`--window` steps of it. The last `--num_valid` steps before the test part choose the epoch, by the bound, and the size
of z, by the forecasts. Models are forecast from every `--origin_step`th step of the test part, given the window before.
Writes results.json, forecasts.png, scores.png and calibration.png; minutes on a CPU (RESULTS.md).
"""

from experiments.studies import forecast

if __name__ == "__main__":
    forecast.run()
