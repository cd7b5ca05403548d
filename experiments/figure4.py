"""Figure 4: the manifolds that AEVB learns of Frey Face and MNIST in two latent dimensions.

    python -m experiments.figure4

The decoder's mean over the unit square through the inverse Gaussian CDF. Shares its members with the other figures.
"""

from pathlib import Path

from absl import flags

from experiments import launch, members

_FLAGS = flags.FLAGS


def main() -> None:
    """Trains what is missing and draws the figure."""
    # Imported late: matplotlib takes two seconds.
    from aevb import figures
    from experiments import pictures

    num_samples = members.budget()
    both = [members.paper_member(dataset, "aevb", latent_dim=2) for dataset in ("frey_face", "mnist")]
    if not members.work_through({member: member for member in both}, lambda mine: members.prepare(mine, num_samples)):
        return
    panels = []
    for letter, member in zip("ab", both, strict=True):
        model, params = members.trained(member, num_samples)
        shape = members.load(member).test.image_shape
        images = pictures.manifold_images(model, params, shape).reshape(-1, *shape)
        panels.append((f"({letter}) {members.TITLES[member.dataset]}", images))
    path = Path(_FLAGS.workdir) / "figure4.png"
    figures.save(figures.image_panels(panels, "Learned manifolds, AEVB, $N_z$ = 2"), path)
    print(f"figure: {path}")


if __name__ == "__main__":
    members.define_flags()
    launch.start(members.__name__, main)
