"""Measure the variance of gradient estimators (section 2.1). The command is `experiments.gradient_variance`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from experiments import launch, shared_flags
from experiments.reports.provenance import provenance
from experiments.runs.folder import write_json

if TYPE_CHECKING:
    import jax

    from aevb import Model
    from aevb.gradients import Gradient
    from aevb.model import Params
    from aevb.objectives import KL

_FLAGS = flags.FLAGS
_BATCH_SIZE = 100
_PARTS = ("encoder", "decoder")


class Estimator(NamedTuple):
    """A gradient estimator of one bound; `reference` is the name of the estimator that it is compared with."""

    name: str
    bound: str
    kl: "KL"
    gradient: "Gradient"
    num_samples: int
    reference: str


class Spread(NamedTuple):
    """The mean and total variance of a gradient over draws of the noise, one entry per name in `_PARTS`.

    Attributes:
      mean: Trees of mean gradients.
      variance: The variance summed over coordinates, `[]` each.
    """

    mean: "dict[str, Params]"
    variance: "dict[str, jax.Array]"


def run() -> None:
    """Define the flags and run."""
    flags.DEFINE_enum("dataset", "mnist", ["mnist", "digits"], "The data set of the training images.")
    flags.DEFINE_integer("latent_dim", 20, "Size of z.", lower_bound=1)
    flags.DEFINE_integer("hidden_dim", 500, "Units of the hidden layer.", lower_bound=1)
    flags.DEFINE_integer("num_samples", 10, "Draws of z per datapoint, K; one draw is measured too.", lower_bound=2)
    flags.DEFINE_integer("num_draws", 100, "Draws of the noise that variances are estimated from.", lower_bound=2)
    flags.DEFINE_integer("num_epochs", 1, "Training epochs before the second measurement.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed for initial weights, training, minibatch and noise.")
    shared_flags.define_data_flags()
    shared_flags.define_figure_flags()
    flags.DEFINE_string("workdir", None, "Output folder; by default under runs/gradient_variance.")
    launch.start(_measure_all)


def _measure_all() -> None:
    start = time.perf_counter()
    workdir = Path(_FLAGS.workdir or f"runs/gradient_variance/{_FLAGS.dataset},seed-{_FLAGS.seed}")
    _check_workdir(workdir)
    import jax
    import numpy as np

    import aevb

    pixels = aevb.data.load(_FLAGS.dataset, "train", _FLAGS.data_dir, _FLAGS.source_dir).pixels()
    model = aevb.mlp_vae((pixels.shape[1],), _FLAGS.latent_dim, _FLAGS.hidden_dim)
    minibatch = pixels[np.random.RandomState(_FLAGS.seed).permutation(len(pixels))[:_BATCH_SIZE]]
    train_key, noise_key = jax.random.split(jax.random.key(_FLAGS.seed))
    stages = _stages(model, pixels, train_key)
    rows: list[dict[str, Any]] = []
    _print_heading()
    for estimators in _estimators(_FLAGS.num_samples):
        measurers = [_measurer(estimator, model, minibatch, _FLAGS.num_draws) for estimator in estimators]
        for stage, params in stages.items():
            spreads = [measure(params, jax.random.split(noise_key, _FLAGS.num_draws)) for measure in measurers]
            found = _rows(stage, estimators, spreads, _FLAGS.num_draws)
            for row in found:
                _print_row(row)
            rows += found
    _write(workdir, rows, time.perf_counter() - start)


def _check_workdir(workdir: Path) -> None:
    if (workdir / "results.json").exists():
        raise ValueError(f"{workdir} holds results already: choose another --workdir, or remove that folder")
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"{workdir} is a file, not a folder")


def _estimators(num_samples: int) -> list[list[Estimator]]:
    """Return groups of estimators of the same gradient with the same number of samples, the reference first."""
    groups = []
    for draws in (1, num_samples):
        reference = "L^B, pathwise"
        group: list[tuple[str, KL, Gradient]] = [
            (reference, "analytic", "pathwise"),
            ("L^A, pathwise", "sampled", "pathwise"),
            ("L^A, sticking the landing", "sampled", "sticking_the_landing"),
            ("L^B, score function", "analytic", "score_function"),
        ]
        if draws > 1:
            group.append(("L^B, score function, leave one out", "analytic", "score_function_leave_one_out"))
        groups.append([Estimator(name, "elbo", kl, gradient, draws, reference) for name, kl, gradient in group])
    reference = "L_K, pathwise"
    weighted: list[tuple[str, Gradient]] = [
        (reference, "pathwise"),
        ("L_K, doubly reparameterized", "doubly_reparameterized"),
        ("L_K, score function", "score_function"),
        ("L_K, score function, leave one out", "score_function_leave_one_out"),
    ]
    groups.append([Estimator(name, "iwae", "sampled", gradient, num_samples, reference) for name, gradient in weighted])
    return groups


def _stages(model: "Model", pixels: Any, key: "jax.Array") -> "dict[str, Params]":
    """Return the parameters before and after training."""
    import jax
    import numpy as np

    import aevb

    params = []
    aevb.fit(
        pixels,
        model,
        key=key,
        num_epochs=_FLAGS.num_epochs,
        eval_every=_FLAGS.num_epochs,
        # Copies, because the next epoch reuses the buffers.
        on_evaluation=lambda state, _: params.append(
            jax.tree.map(lambda leaf: np.array(leaf, copy=True), state.params)
        ),
    )
    epochs = "1 epoch" if _FLAGS.num_epochs == 1 else f"{_FLAGS.num_epochs} epochs"
    return dict(zip(("initial", f"after {epochs}"), params, strict=True))


def _measurer(estimator: Estimator, model: "Model", xs: Any, num_draws: int) -> "Callable[[Params, jax.Array], Spread]":
    """Return a compiled function `(params, keys [num_draws]) -> Spread`.

    Its memory does not grow with the number of draws: it holds one gradient and the running mean.
    """
    import jax
    import jax.numpy as jnp

    import aevb

    def bound(params: "Params", key: "jax.Array", x: "jax.Array") -> "jax.Array":
        if estimator.bound == "iwae":
            return aevb.iwae_bound(params, key, x, model, estimator.num_samples, estimator.gradient)
        return aevb.elbo(params, key, x, model, estimator.num_samples, estimator.kl, estimator.gradient)

    def mean_bound(params: "Params", key: "jax.Array") -> "jax.Array":
        keys = jax.random.split(key, len(xs))
        return jnp.mean(jax.vmap(bound, (None, 0, 0))(params, keys, jnp.asarray(xs)))

    def dot(one: "Params", other: "Params") -> "jax.Array":
        return sum((jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True)), jnp.zeros(()))

    @jax.jit
    def measure(params: "Params", keys: "jax.Array") -> Spread:
        def draw(carry: Spread, numbered: "tuple[jax.Array, jax.Array]") -> "tuple[Spread, None]":
            """Update the mean and variance by Welford's algorithm, which avoids cancellation between large sums."""
            number, key = numbered
            gradient = jax.grad(mean_bound)(params, key)
            before = jax.tree.map(jnp.subtract, gradient, carry.mean)
            mean = jax.tree.map(lambda mean, difference: mean + difference / number, carry.mean, before)
            after = jax.tree.map(jnp.subtract, gradient, mean)
            return Spread(mean, {part: carry.variance[part] + dot(before[part], after[part]) for part in _PARTS}), None

        nothing = Spread(jax.tree.map(jnp.zeros_like, params), {part: jnp.zeros(()) for part in _PARTS})
        numbers = jnp.arange(1, num_draws + 1, dtype=jnp.float32)
        (mean, squares), _ = jax.lax.scan(draw, nothing, (numbers, keys))
        return Spread(mean, {part: value / (num_draws - 1) for part, value in squares.items()})

    return measure


def _rows(stage: str, estimators: list[Estimator], spreads: list[Spread], num_draws: int) -> list[dict[str, Any]]:
    """Return the results of a group of estimators, each compared with the first, which is the reference.

    The signal-to-noise ratio is |E[g]| divided by the square root of the total variance. E[g] is the same for the whole
    group. Its squared norm is estimated from the reference, corrected for the noise of the mean:
    |mean|^2 - variance / draws.
    """
    import numpy as np

    rows = []
    for estimator, spread in zip(estimators, spreads, strict=True):
        row: dict[str, Any] = {"stage": stage, **estimator._asdict()}
        for part in _PARTS:
            variance, reference = (float(each.variance[part]) for each in (spread, spreads[0]))
            leaves = [np.asarray(leaf, np.float64) for leaf in _leaves(spreads[0].mean[part])]
            squared_signal = max(sum(float(np.sum(leaf**2)) for leaf in leaves) - reference / num_draws, 0.0)
            row[part] = {
                "total_variance": variance,
                "ratio_to_reference": variance / reference,
                "signal_to_noise": (squared_signal / variance) ** 0.5,
            }
        rows.append(row)
    return rows


def _leaves(tree: "Params") -> list[Any]:
    import jax

    return jax.tree.leaves(tree)


def _print_heading() -> None:
    print(
        f"{_FLAGS.dataset}, latent {_FLAGS.latent_dim}, hidden {_FLAGS.hidden_dim}, one minibatch of {_BATCH_SIZE}, "
        f"{_FLAGS.num_draws} draws, seed {_FLAGS.seed}:\n"
        f"total variance of the gradient (nats per datapoint), ratio to the group's first row, signal to noise"
    )
    print(f"{'':58}" + "".join(f"{part:>34}" for part in _PARTS))
    print(f"{'parameters':16}{'estimator':36}{'draws':>6}" + f"{'variance':>12}{'ratio':>12}{'SNR':>10}" * 2)


def _print_row(row: dict[str, Any]) -> None:
    cells = "".join(
        f"{part['total_variance']:>12.4g}{part['ratio_to_reference']:>12,.4g}{part['signal_to_noise']:>10.3g}"
        for part in (row["encoder"], row["decoder"])
    )
    print(f"{row['stage']:16}{row['name']:36}{row['num_samples']:>6}{cells}", flush=True)


def _write(workdir: Path, rows: list[dict[str, Any]], seconds: float) -> None:
    import numpy as np

    from aevb import figures
    from experiments import defaults
    from experiments.reports.figure_files import save_figure

    stages = list(dict.fromkeys(row["stage"] for row in rows))
    of_first = [row for row in rows if row["stage"] == stages[0]]
    groups = [
        (
            "${}$, {}".format(*row["name"].split(", ", 1)),
            f"{'K' if row['bound'] == 'iwae' else 'L'} = {row['num_samples']}",
        )
        for row in of_first
    ]
    variances = np.array(
        [[[r[part]["total_variance"] for r in rows if r["stage"] == stage] for stage in stages] for part in _PARTS]
    )
    title = f"{defaults.TITLES[_FLAGS.dataset]}, latent {_FLAGS.latent_dim}: total variance of a minibatch's gradient"
    save_figure(figures.gradient_variances(variances, _PARTS, stages, groups, title), workdir / "gradient_variance.png")
    names = ("dataset", "latent_dim", "hidden_dim", "num_samples", "num_draws", "num_epochs", "seed")
    results = {
        **{name: _FLAGS[name].value for name in names},
        "batch_size": _BATCH_SIZE,
        "binarization": "grey",
        "seconds": seconds,
        **provenance(),
        "rows": rows,
    }
    write_json(workdir / "results.json", results)
    print(f"{seconds:.0f} seconds; written: {workdir}")
