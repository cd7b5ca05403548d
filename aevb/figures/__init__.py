"""Arrays in, matplotlib figures out. Nothing here trains, and `save` alone writes.

Figures are as wide as a column or the text of a two-column paper, with 8 pt type, and hold the numbers drawn in them.
"""

from aevb.figures.classes import confusion_matrices, reliability_diagram
from aevb.figures.curves import Curve, Panel, bound_panels, lower_bounds
from aevb.figures.densities import calibration, density_maps, density_slices
from aevb.figures.files import FORMATS, save, write_data
from aevb.figures.forecasts import Fan, by_horizon, fans, reliability
from aevb.figures.hidden_markov import LearningCurve, hidden_states, log_likelihoods
from aevb.figures.images import image_grid, image_panels, image_rows, images_by_class, reconstructions
from aevb.figures.latents import Density, latent_scatter, manifold, manifolds
from aevb.figures.measurements import costs, gradient_variances, turns
from aevb.figures.sequences import Lines, bound_by_step, rolls, sequence_lines
from aevb.figures.style import Drawing, literal
from aevb.figures.terms import error_curves, levels, reconstruction_and_kl

__all__ = [
    "FORMATS",
    "Curve",
    "Density",
    "Drawing",
    "Fan",
    "LearningCurve",
    "Lines",
    "Panel",
    "bound_by_step",
    "bound_panels",
    "by_horizon",
    "calibration",
    "confusion_matrices",
    "costs",
    "density_maps",
    "density_slices",
    "error_curves",
    "fans",
    "gradient_variances",
    "hidden_states",
    "image_grid",
    "image_panels",
    "image_rows",
    "images_by_class",
    "latent_scatter",
    "levels",
    "literal",
    "log_likelihoods",
    "lower_bounds",
    "manifold",
    "manifolds",
    "reconstruction_and_kl",
    "reconstructions",
    "reliability",
    "reliability_diagram",
    "rolls",
    "save",
    "sequence_lines",
    "turns",
    "write_data",
]
