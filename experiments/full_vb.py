"""Compare full variational Bayes (Appendix F) with the MAP fit on smaller and smaller parts of Frey Face.

    python -m experiments.full_vb
    python -m experiments.full_vb --num_train_images=50,200,1768 --latent_dim=10

Both train the same networks with the same optimizer for the same number of samples. Full variational Bayes has a
Gaussian posterior over the decoder's weights where the MAP fit has a point estimate. Bounds are of held-out images. For
full variational Bayes they are means over weights drawn from the posterior, which also bound the log predictive density
from below.
"""

from experiments.paper import full_vb

if __name__ == "__main__":
    full_vb.run()
