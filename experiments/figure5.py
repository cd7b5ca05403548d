"""Figure 5: random samples of what AEVB learns of MNIST in 2, 5, 10 and 20 latent dimensions.

    python -m experiments.figure5

Means of p(x|z) at z from the prior. Shares its members with the other figures.
"""

import string
from pathlib import Path

from absl import flags

from experiments import launch, members

_FLAGS = flags.FLAGS

flags.DEFINE_list("latent_dim", ["2", "5", "10", "20"], "Panels.")


def main() -> None:
    """Trains what is missing and draws the figure."""
    # Imported late: matplotlib takes two seconds.
    from aevb import figures
    from experiments import pictures

    num_samples = members.budget()
    shown = [members.paper_member("mnist", "aevb", latent_dim) for latent_dim in launch.integers("latent_dim")]
    if not members.work_through({member: member for member in shown}, lambda mine: members.prepare(mine, num_samples)):
        return
    panels = []
    for letter, member in zip(string.ascii_lowercase, shown, strict=False):
        model, params = members.trained(member, num_samples)
        images = pictures.sample_images(model, params, members.load(member).test.image_shape)
        panels.append((f"({letter}) $N_z$ = {member.latent_dim}", images))
    path = Path(_FLAGS.workdir) / "figure5.png"
    figures.save(figures.image_panels(panels, "Random samples, AEVB, MNIST"), path)
    print(f"figure: {path}")


if __name__ == "__main__":
    members.define_flags()
    launch.start(members.__name__, main)
