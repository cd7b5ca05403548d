"""Draw Figure 4: learned manifolds of Frey Face and MNIST. The command is `experiments.figure4`."""

from pathlib import Path

from absl import flags

from experiments import defaults, launch
from experiments.paper import members

_FLAGS = flags.FLAGS


def run() -> None:
    """Define the flags and run."""
    members.define_flags()
    launch.start(main)


def main() -> None:
    """Train the missing runs and draw the figure."""
    # Imported late: matplotlib takes two seconds.
    from aevb import figures
    from experiments.reports import pictures
    from experiments.reports.figure_files import save_figure

    both = [members.member(dataset, latent_dim=2, **members.length()) for dataset in ("frey_face", "mnist")]
    if not members.work_through({config: config for config in both}, members.prepare):
        return
    panels = []
    for letter, config in zip("ab", both, strict=True):
        model, params = members.trained(config)
        images, coordinates = pictures.manifold_images(model, params, members.load(config).test.image_shape)
        panels.append((f"({letter}) {defaults.title_of(config.data)}", images, coordinates))
    path = Path(_FLAGS.workdir) / "figure4.png"
    save_figure(figures.manifolds(panels, "Learned manifolds, AEVB, $N_z$ = 2"), path)
    print(f"figure: {path}")
