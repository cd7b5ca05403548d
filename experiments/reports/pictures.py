"""The figures of one run: which arrays go into which figure."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from aevb import figures, posterior
from aevb.data import Dataset
from aevb.data.rows import rows
from aevb.distributions import Chain
from aevb.gradients import reparameterize
from aevb.model import Datapoint, Latents, Model, Params, bind, latent_shape
from aevb.models.families import takes_images
from aevb.training import Evaluation
from experiments.configs import Config
from experiments.reports.figure_files import save_figure
from experiments.reports.sequence_pictures import draw_sequences

_NUM_SHOWN = 40
_NUM_SAMPLES = 100
_NUM_ROWS, _NUM_REDRAWN = 4, 10  # of samples with levels fixed
_NUM_OF_A_CLASS, _MOST_CLASSES = 10, 20
_MANIFOLD_MOST, _MANIFOLD_LEAST = 20, 12  # images a side: Figure 4's 20, fewer of small images
_PICTURE_SEED = 0  # of the images that are shown and the samples that are drawn
_GRID_SIZE, _MOST_CONDITIONS, _NUM_PRIOR_DRAWS = 150, 200, 500  # of a prior's density


def draw_all(
    folder: Path, config: Config, params: Params, test: Dataset, history: Sequence[Evaluation], title: str
) -> None:
    """Write every figure of a run into `folder`, those of images only where the data are images."""
    title, model = figures.literal(title), config.build_model()
    has_encoder = bool(np.isfinite(history[-1].train_elbo))
    if test.is_sequences:
        draw_sequences(folder, config, model, params, test, title, has_encoder)
    if _are_images(test):
        if config.data.condition == "label":
            _draw_samples_by_class(folder, model, params, test, title)
        else:
            _draw_samples(folder, model, params, test.image_shape, title)
            _draw_levels(folder, model, params, test.image_shape, title)
            if latent_shape(model, params) == (2,):
                _draw_manifold(folder, model, params, test.image_shape, title)
    if has_encoder:
        _draw_recognition(folder, config, params, test, history, title)


def _draw_recognition(
    folder: Path, config: Config, params: Params, test: Dataset, history: Sequence[Evaluation], title: str
) -> None:
    """Draw what needs a recognition model, which Monte Carlo EM does not train."""
    model = config.build_model()
    xs = test.datapoints(not takes_images(config.model.name), config.data.condition)
    draw_curves(folder, [("", history)], title)
    columns = {name: np.array([getattr(row, name) for row in history]) for name in Evaluation._fields}
    figure = figures.reconstruction_and_kl(
        columns["num_train_samples"], columns["test_reconstruction"], columns["test_kl"], title
    )
    save_figure(figure, folder / "reconstruction_and_kl.png")
    _draw_kl_by_level(folder, history, title)
    if _are_images(test):
        _draw_reconstructions(folder, model, params, xs, test, title)
    if latent_shape(bind(model, rows(xs, 0))[0], params) == (2,):
        means = np.asarray(jax.jit(jax.vmap(lambda x: _posterior_point(model, params, x)))(xs))
        prior = _prior_density(model, params, xs, means, config.data.condition != "none")
        words = f"{title}: posterior means, test data"
        figure = figures.latent_scatter(means, test.labels, words, _class_names(test), prior)
        save_figure(figure, folder / "latent_space.png")


def _draw_kl_by_level(folder: Path, history: Sequence[Evaluation], title: str) -> None:
    """Draw the KL divergence and the active units of each level, where there are several."""
    if len(history[-1].test_kl_by_level) < 2:
        return
    kl, active = (
        {level: np.array([getattr(row, name)[level] for row in history]) for level in getattr(history[-1], name)}
        for name in ("test_kl_by_level", "active_units_by_level")
    )
    samples = np.array([row.num_train_samples for row in history])
    save_figure(figures.levels(samples, kl, active, title), folder / "kl_by_level.png")


def curve(label: str, histories: Sequence[Sequence[Evaluation]]) -> figures.Curve:
    """Return the curve of one configuration: a history for each seed, evaluated at the same samples."""
    return figures.Curve(
        label,
        np.array([row.num_train_samples for row in histories[0]]),
        np.array([[row.train_elbo for row in history] for history in histories]),
        np.array([[row.test_elbo for row in history] for history in histories]),
    )


def draw_curves(folder: Path, runs: Sequence[tuple[str, Sequence[Evaluation]]], title: str) -> None:
    """Write the lower bounds of one or several runs, each a label and its history, as one figure."""
    curves = [
        figures.Curve(
            label,
            np.array([row.num_train_samples for row in history]),
            np.array([row.train_elbo for row in history]),
            np.array([row.test_elbo for row in history]),
            _valid(history),
        )
        for label, history in runs
    ]
    save_figure(figures.lower_bounds(curves, title), folder / "lower_bounds.png")


def _valid(history: Sequence[Evaluation]) -> np.ndarray | None:
    bounds = np.array([row.valid_elbo for row in history])
    return bounds if np.isfinite(bounds[1:]).any() else None


def _draw_reconstructions(folder: Path, model: Model, params: Params, xs: Datapoint, test: Dataset, title: str) -> None:
    # Random images: the first ones of a file need not be like the rest.
    chosen = np.random.RandomState(_PICTURE_SEED).permutation(len(test.images))[:_NUM_SHOWN]
    shown = rows(xs, chosen)

    def reconstruct(x: Datapoint) -> jax.Array:
        return bind(model, x)[0].decode(params, _posterior_point(model, params, x)).mean

    originals, images = (
        np.asarray(each).reshape(-1, *test.image_shape)
        for each in (bind(model, shown)[1], jax.jit(jax.vmap(reconstruct))(shown))
    )
    figure = figures.reconstructions(originals, images, 10, f"{title}: test images and reconstructions")
    save_figure(figure, folder / "reconstructions.png")


def _draw_samples(folder: Path, model: Model, params: Params, image_shape: tuple[int, ...], title: str) -> None:
    figure = figures.image_grid(
        sample_images(model, params, image_shape), 10, f"{title}: samples from the prior, means of p(x|z)"
    )
    save_figure(figure, folder / "samples.png")


def _draw_levels(folder: Path, model: Model, params: Params, image_shape: tuple[int, ...], title: str) -> None:
    """Draw samples with the first levels fixed, and samples with the noise of the last levels fixed."""
    prior = model.prior(params)
    if not isinstance(prior, Chain):
        return
    names = list(prior.levels)
    blocks = []
    for number in range(1, len(names)):
        fixed, redrawn = ", ".join(names[:number]), ", ".join(names[number:])
        images = level_images(model, params, names[:number], image_shape)
        blocks.append((f"{fixed} the same along each row, {redrawn} redrawn", images))
    for number in range(1, len(names)):
        redrawn, fixed = ", ".join(names[:number]), ", ".join(names[number:])
        images = level_images(model, params, names[number:], image_shape)
        blocks.append((f"noise of {fixed} the same along each row, {redrawn} redrawn", images))
    save_figure(figures.image_rows(blocks, f"{title}: samples, means of p(x|z)"), folder / "levels.png")


def level_images(model: Model, params: Params, fixed: Sequence[str], image_shape: tuple[int, ...]) -> np.ndarray:
    """Return means of p(x|z) at samples from the prior that share their `fixed` levels within each row.

    Returns:
      `[4, 10, H, W]`.
    """
    rows_of_images = [
        posterior.sample(params, key, _NUM_REDRAWN, model, fixed=fixed)
        for key in jax.random.split(jax.random.key(_PICTURE_SEED), _NUM_ROWS)
    ]
    return np.stack(rows_of_images).reshape(_NUM_ROWS, _NUM_REDRAWN, *image_shape)


def _draw_samples_by_class(folder: Path, model: Model, params: Params, test: Dataset, title: str) -> None:
    """Draw one row per class. Every row has the same noise of z, so that a column has one style."""
    names = _class_names(test) or [str(label) for label in range(test.num_classes or 0)]
    key = jax.random.key(_PICTURE_SEED)
    images = [
        posterior.sample(params, key, _NUM_OF_A_CLASS, model, condition=np.int32(label))
        for label in range(min(len(names), _MOST_CLASSES))
    ]
    images = np.stack(images).reshape(-1, _NUM_OF_A_CLASS, *test.image_shape)
    what = "samples given the class, means of p(x|z, y), one draw of noise per column"
    save_figure(figures.images_by_class(images, names, f"{title}: {what}"), folder / "samples_by_class.png")


def _draw_manifold(folder: Path, model: Model, params: Params, image_shape: tuple[int, ...], title: str) -> None:
    images, coordinates = manifold_images(model, params, image_shape)
    save_figure(figures.manifold(images, f"{title}: learned manifold", coordinates), folder / "manifold.png")


def sample_images(model: Model, params: Params, image_shape: tuple[int, ...]) -> np.ndarray:
    """Return means of p(x|z) at a hundred z from the prior, `[100, H, W]` (Figure 5)."""
    z = model.prior(params).sample(jax.random.key(_PICTURE_SEED), (_NUM_SAMPLES,))
    return _decode(model, params, z, image_shape)


def manifold_images(model: Model, params: Params, image_shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return means of p(x|z) over a grid of z whose cells have equal prior mass (Figure 4).

    The grid is uniform on the unit square, through the inverse Gaussian CDF.

    Returns:
      Images `[K, K, H, W]` by z1, then by z2; and the values `[K]` that each of the two takes.
    """
    size = _MANIFOLD_MOST if min(image_shape[:2]) >= _MANIFOLD_MOST else _MANIFOLD_LEAST
    coordinates = jax.scipy.stats.norm.ppf((jnp.arange(size) + 0.5) / size)
    z = jnp.stack(jnp.meshgrid(coordinates, coordinates, indexing="ij"), axis=-1)
    images = _decode(model, params, z.reshape(-1, 2), image_shape).reshape(size, size, *image_shape)
    return images, np.asarray(coordinates)


def _prior_density(
    model: Model, params: Params, xs: Datapoint, means: np.ndarray, is_conditional: bool
) -> figures.Density | None:
    """Return the density of a two-dimensional prior on a grid, `None` for N(0, I).

    Of a prior given a condition, the mean over the conditions of a few test data.
    """
    shown = rows(xs, np.arange(min(len(means), _MOST_CONDITIONS if is_conditional else 1)))

    @jax.jit
    def density(z: jax.Array) -> jax.Array:
        of_one = lambda x: jnp.exp(jnp.asarray(bind(model, x)[0].prior(params).log_prob(z)))
        return jnp.mean(jax.vmap(of_one)(shown), axis=0)

    def draws(x: Datapoint) -> jax.Array:
        return jnp.asarray(bind(model, x)[0].prior(params).sample(jax.random.key(_PICTURE_SEED), (_NUM_PRIOR_DRAWS,)))

    drawn = np.asarray(jax.vmap(draws)(shown)).reshape(-1, 2)
    low, high = np.minimum(drawn.min(0), means.min(0)), np.maximum(drawn.max(0), means.max(0))
    margin = 0.15 * (high - low)
    z1, z2 = (np.linspace(*ends, _GRID_SIZE) for ends in zip(low - margin, high + margin, strict=True))
    grid = np.stack(np.meshgrid(z1, z2, indexing="ij"), axis=-1)
    values = np.asarray(density(jnp.asarray(grid.reshape(-1, 2)))).reshape(_GRID_SIZE, _GRID_SIZE)
    standard = np.exp(-0.5 * np.sum(grid**2, axis=-1)) / (2 * np.pi)
    return None if np.allclose(values, standard, atol=1e-4) else figures.Density(z1, z2, values)


def _are_images(data: Dataset) -> bool:
    return len(data.image_shape) in (2, 3) and not data.is_sequences


def _class_names(data: Dataset) -> list[str] | None:
    return None if data.label_names is None else [figures.literal(name) for name in data.label_names]


def _decode(model: Model, params: Params, z: Latents, image_shape: tuple[int, ...]) -> np.ndarray:
    means = jax.jit(jax.vmap(lambda z: model.decode(params, z).mean))(z)
    return np.asarray(means).reshape(-1, *image_shape)


def _posterior_point(model: Model, params: Params, x: Datapoint) -> Latents:
    """Return the posterior mean, or the mean of 64 samples where the family has no closed form.

    Of levels, the mean of each given the means of those before it.
    """
    bound, value = bind(model, x)
    found = bound.encode(params, value)
    if isinstance(found, Chain):
        return found.means()
    try:
        return found.mean
    except NotImplementedError:
        return jnp.mean(reparameterize(found, jax.random.key(_PICTURE_SEED), (64,)), axis=0)
