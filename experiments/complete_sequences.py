"""Complete missing parts of binary sequences with a trained model, compared with models without latents.

    python -m experiments.complete_sequences --run=runs/jsb_chorales/seed-0/latent_32
    python -m experiments.complete_sequences --run=DIR --checkpoint=best --method=particle --num_sequences=20

Forecasts the second half of each test sequence from the first and imputes a stretch in the middle. For chorales it also
imputes the soprano: all keys above the second highest note of each step. Writes results.json, a picture per task, plots
of log p by steps ahead and of the calibration of the predicted probabilities, and MIDI files if mido is installed.
"""

from experiments.studies import completions

if __name__ == "__main__":
    completions.run()
