"""Full variational Bayes against the MAP fit as the training set shrinks (Appendix F): Frey Face.

    python -m experiments.full_vb
    python -m experiments.full_vb --num_train_images=50,200,1768 --latent_dim=10

Both train the same networks by the same optimizer for as long; full variational Bayes has a Gaussian posterior over the
decoder's weights where the MAP fit has a point. Bounds are of the held-out images: for full variational Bayes the mean
over weights drawn from their posterior, which is a lower bound on the log predictive density too.
"""

from experiments.paper import full_vb

if __name__ == "__main__":
    full_vb.run()
