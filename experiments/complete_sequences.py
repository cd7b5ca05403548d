"""What a trained model of sequences of 0 and 1 makes of their missing parts, beside models without latents.

    python -m experiments.complete_sequences --run=runs/jsb_chorales/seed-0/latent_32
    python -m experiments.complete_sequences --run=DIR --checkpoint=best --method=particle --num_sequences=20

Of test sequences, the second half is forecast from the first, a stretch in the middle is imputed, and of chorales the
soprano: all keys above the second highest note of each step. Writes results.json, a picture of each, log p by steps
ahead, and how often what was given a probability came true; and MIDI files where mido is installed.
"""

from experiments.studies import completions

if __name__ == "__main__":
    completions.run()
