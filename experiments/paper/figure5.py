"""Draw Figure 5: random samples by latent size. The command is `experiments.figure5`."""

import string
from pathlib import Path

from absl import flags

from experiments import launch, shared_flags
from experiments.paper import members

_FLAGS = flags.FLAGS


def run() -> None:
    """Define the flags and run."""
    flags.DEFINE_list("latent_dim", ["2", "5", "10", "20"], "Latent sizes, one panel per size.")
    members.define_flags()
    launch.start(main)


def main() -> None:
    """Train the missing runs and draw the figure."""
    # Imported late: matplotlib takes two seconds.
    from aevb import figures
    from experiments.reports import pictures
    from experiments.reports.figure_files import save_figure

    sizes = shared_flags.integers("latent_dim")
    shown = [members.member("mnist", latent_dim=latent_dim, **members.length()) for latent_dim in sizes]
    if not members.work_through({config: config for config in shown}, members.prepare):
        return
    panels = []
    for letter, latent_dim, config in zip(string.ascii_lowercase, sizes, shown, strict=False):
        model, params = members.trained(config)
        images = pictures.sample_images(model, params, members.load(config).test.image_shape)
        panels.append((f"({letter}) $N_z$ = {latent_dim}", images))
    path = Path(_FLAGS.workdir) / "figure5.png"
    save_figure(figures.image_panels(panels, "Random samples, AEVB, MNIST"), path)
    print(f"figure: {path}")
