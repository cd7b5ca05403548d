"""The figures of a run on sequences, and MIDI files of piano rolls."""

import functools
from pathlib import Path

import jax
import numpy as np

import aevb
from aevb import figures, posterior
from aevb.data import Dataset
from aevb.data.rows import rows
from aevb.data.sources.jsb_chorales import LOWEST_PITCH
from aevb.distributions.levels import ONE_LEVEL
from aevb.model import Datapoint, Model, Params
from experiments.configs import Config
from experiments.reports import midi
from experiments.reports.figure_files import save_figure
from experiments.reports.per_step import lengths_of

_SEED = 0  # of the sequences that are shown and the samples that are drawn
_NUM_SHOWN, _NUM_SAMPLES, _MOST_VALUES, _MOST_STEPS = 2, 4, 6, 400
_NUM_DRAWS = 16  # of z, for the mean of p(x|z)
_MOST_EVALUATED, _NUM_EVALUATED_DRAWS, _CHUNK_SIZE = 500, 10, 20
_ROLLS = "rolls"  # the name of the arrays of a data set of piano rolls


def draw_sequences(
    folder: Path, config: Config, model: Model, params: Params, test: Dataset, title: str, has_encoder: bool
) -> None:
    """Write the figures of sequences into `folder`, and for piano rolls MIDI files of samples beside it.

    Args:
      folder: of the figures.
      config: of the run.
      model: the model of one sequence.
      params: of the state that is drawn.
      test: the test split.
      title: of the figures.
      has_encoder: whether q was trained, so that there are reconstructions and a bound.
    """
    lengths = lengths_of(test)
    end = min(int(np.median(lengths)), _MOST_STEPS)
    samples = {name: each[:end] for name, each in _samples(config, model, params, test).items()}
    chosen = np.random.RandomState(_SEED).permutation(len(lengths))
    shown = chosen[:_NUM_SHOWN]
    originals = [test.lazy_sequences()[row][: lengths[row]] for row in shown]
    _draw(folder / "samples.png", test, list(samples.items()), f"{title}: samples of z, and of x given z")
    if test.main == _ROLLS:
        named = {name.replace(" ", "_"): each for name, each in samples.items()}
        midi.write_all(folder.parent / "midi", named | {f"test_{shown[0]}": originals[0]}, LOWEST_PITCH)
    if has_encoder:
        _draw_reconstructions(folder, config, model, params, test, shown, title)
        _draw_by_step(folder, config, model, params, test, np.sort(chosen[:_MOST_EVALUATED]), title)


def _samples(config: Config, model: Model, params: Params, test: Dataset) -> dict[str, np.ndarray]:
    """Return samples `[T, D]` by name; of a model given labels, one for each of the first classes."""
    sample = functools.partial(posterior.sample, params, jax.random.key(_SEED), model=model, mean=False)
    if config.data.condition == "none":
        return {f"sample {number}": np.asarray(each) for number, each in enumerate(sample(_NUM_SAMPLES), 1)}
    labels = range(min(config.model.arguments["num_classes"], _NUM_SAMPLES))
    names = test.label_names or [str(label) for label in labels]
    return {
        f"sample of class {figures.literal(names[label])}": np.asarray(sample(1, condition=np.int32(label)))[0]
        for label in labels
    }


def _datapoints(config: Config, test: Dataset, chosen: np.ndarray) -> Datapoint:
    return rows(test.datapoints(condition=config.data.condition, lazy=True), chosen)


def _draw_reconstructions(
    folder: Path, config: Config, model: Model, params: Params, test: Dataset, shown: np.ndarray, title: str
) -> None:
    xs, key = test.lazy_sequences()[shown], jax.random.key(_SEED)
    data = _datapoints(config, test, shown)
    means = posterior.reconstruct(params, data, model, key=key, num_samples=_NUM_DRAWS, chunk_size=_NUM_SHOWN)
    path = folder / "reconstructions.png"
    panels = []
    for row, x, mean, length in zip(shown, xs, np.asarray(means), lengths_of(test)[shown], strict=True):
        end = min(length, _MOST_STEPS)
        panels.append((f"test sequence {row}", x[:end], mean[:end]))
    if _are_rolls(test):
        whole = [each for name, x, mean in panels for each in ((name, x), ("mean of p(x|z), z from q(z|x)", mean))]
        _draw(path, test, whole, f"{title}: reconstructions")
        return
    lines = [figures.Lines(f"{name}, and the mean of p(x|z), z from q(z|x)", x, mean) for name, x, mean in panels]
    _draw_lines(path, lines, f"{title}: reconstructions")


def _draw(path: Path, test: Dataset, panels: list[tuple[str, np.ndarray]], title: str) -> None:
    if not _are_rolls(test):
        _draw_lines(path, [figures.Lines(name, None, values) for name, values in panels], title)
        return
    label, first = ("MIDI pitch", LOWEST_PITCH) if test.main == _ROLLS else ("value", 0)
    save_figure(figures.rolls(panels, title, label, first), path)


def _draw_lines(path: Path, panels: list[figures.Lines], title: str) -> None:
    count = min(panels[0].lines.shape[1], _MOST_VALUES)
    cut = [figures.Lines(name, None if x is None else x[:, :count], lines[:, :count]) for name, x, lines in panels]
    save_figure(figures.sequence_lines(cut, [f"value {number}" for number in range(1, count + 1)], title), path)


def _are_rolls(test: Dataset) -> bool:
    """Tell whether sequences are shown as pictures rather than lines: they have many values, all 0 or 1."""
    return test.image_shape[1] > _MOST_VALUES and test.images.dtype == np.uint8 and test.max_value == 1


def _draw_by_step(
    folder: Path, config: Config, model: Model, params: Params, test: Dataset, chosen: np.ndarray, title: str
) -> None:
    """Draw what each step adds to the bound, if the model's likelihood is a sum over steps."""
    estimator = aevb.Estimator(_NUM_EVALUATED_DRAWS, config.objective.reported_kl or config.objective.kl)
    xs = _datapoints(config, test, chosen)
    bound = aevb.evaluate(params, jax.random.key(_SEED), xs, model, estimator, chunk_size=_CHUNK_SIZE)
    if bound.reconstruction_by_step is None:
        return
    lengths = lengths_of(test)[chosen]
    counts = np.sum(lengths[:, None] > np.arange(test.image_shape[0]), axis=0)
    terms = (bound.reconstruction_by_step, bound.kl_by_level[ONE_LEVEL])
    reconstruction, kl = (len(chosen) * np.asarray(each) for each in terms)
    title = f"{title}: {test.split} bound by step, {len(chosen)} sequences"
    figure = figures.bound_by_step(reconstruction, kl, counts, title)
    save_figure(figure, folder / "bound_by_step.png")
