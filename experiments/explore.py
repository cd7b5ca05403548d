"""One HTML file to explore the latent space of a trained model of images: it works offline, by double click.

    python -m experiments.explore --run=runs/mnist/seed-0/latent_20
    python -m experiments.explore --run=DIR --checkpoint=best --output=explore.html

The networks run in the page. Drag a point through the plane of the latents and see what it decodes to, with its
uncertainty; move every latent by a slider, interpolate between images, draw one and see it encoded and reconstructed,
and save the latents as TSV for the embedding projector. The page compares itself with JAX when it opens.
"""

from experiments.studies import explore

if __name__ == "__main__":
    explore.run()
