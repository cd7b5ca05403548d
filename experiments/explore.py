"""Write an HTML file to explore the latent space of a trained model of images; it opens offline in a browser.

    python -m experiments.explore --run=runs/mnist/seed-0/latent_20
    python -m experiments.explore --run=DIR --checkpoint=best --output=explore.html

The networks run in the page. Drag a point through the latent plane to see its decoded image with the uncertainty, move
each latent with a slider, interpolate between images, draw an image to see it encoded and reconstructed, and save the
latents as TSV for the embedding projector. The page compares its results with JAX's when it opens.
"""

from experiments.studies import explore

if __name__ == "__main__":
    explore.run()
