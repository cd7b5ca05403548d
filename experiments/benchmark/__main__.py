"""Measure speed, memory, scaling and start-up time of this project, and compare it with its peers in the same run.

    pip install -e ".[benchmark]"                       # PyTorch, for two of the peers
    python -m experiments.benchmark                     # this project and its peers, in turn: minutes
    python -m experiments.benchmark --peers=numpyro_svi,flax_per_step
    python -m experiments.benchmark --suite=scaling     # cost against each size and the run length: an hour
    python -m experiments.benchmark --suite=startup     # from process start to first training step
    python -m experiments.benchmark --suite=convolutions --num_images=2000  # as products, and as XLA's convolutions

784-500-20 tanh VAE on grey MNIST, M = 100, Adagrad 0.02. All contenders start from the same initial parameters, each in
its own process. They take turns, so that a machine whose speed drifts slows all alike; the result is the median of the
pairwise ratios. Compilation and the first epoch of each are not counted. Writes one JSON file per suite, and figures.
"""

import os
import platform
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from absl import flags

from experiments import launch, shared_flags
from experiments.benchmark.contenders import PEERS
from experiments.benchmark.settings import Settings
from experiments.benchmark.workload import Workload
from experiments.runs.folder import write_json

_FLAGS = flags.FLAGS
_SUITES = ("peers", "scaling", "startup", "convolutions")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpyro", "torch")
_AXES = {  # field of the workload: its flag, its default values
    "batch_size": ("batch_sizes", (10, 30, 100, 300, 1000)),
    "hidden_dim": ("hidden_dims", (100, 200, 500, 1000, 2000)),
    "latent_dim": ("latent_dims", (2, 5, 10, 20, 50, 100, 200)),
    "num_members": ("members", (1, 2, 4, 8)),
}


def main() -> None:
    """Define the flags and run."""
    flags.DEFINE_list("suite", ["peers"], f"What to measure: one or more of {','.join(_SUITES)}, or all.")
    flags.DEFINE_list("peers", None, f"One or more of {','.join(PEERS)}; by default all that are installed.")
    flags.DEFINE_integer("repeats", 5, "Counted turns per contender.", lower_bound=1)
    flags.DEFINE_integer("num_epochs", 1, "Epochs per turn.", lower_bound=1)
    flags.DEFINE_enum("dataset", "mnist", ["mnist", "digits"], "Data set whose training images are used.")
    flags.DEFINE_integer(
        "num_images", 0, "Train on this many images, drawn with seed 0 (0: all of them).", lower_bound=0
    )
    flags.DEFINE_integer("latent_dim", 20, "Size of z.", lower_bound=1)
    flags.DEFINE_integer("hidden_dim", 500, "Units of the hidden layer.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 100, "M, datapoints per minibatch.", lower_bound=1)
    for axis, (flag, values) in _AXES.items():
        flags.DEFINE_list(
            flag, [str(value) for value in values], f"Values of {axis} for --suite=scaling; may be empty."
        )
    flags.DEFINE_list(
        "run_images", ["100000", "1000000", "10000000"], "Run lengths in images for --suite=scaling; may be empty."
    )
    shared_flags.define_data_flags()
    shared_flags.define_figure_flags()
    flags.DEFINE_string("workdir", None, "Output folder; by default a new one under runs/benchmark.")
    launch.start(_benchmark)


def _benchmark() -> None:
    import jax

    suites = _SUITES if _FLAGS.suite == ["all"] else shared_flags.choices("suite", _SUITES)
    workdir = Path(_FLAGS.workdir or f"runs/benchmark/{time.strftime('%Y-%m-%dT%H-%M-%S')}")
    _check_workdir(workdir, suites)
    peers = list(PEERS) if _FLAGS.peers is None else shared_flags.choices("peers", PEERS)
    axes = {axis: shared_flags.integers(flag, may_be_empty=True) for axis, (flag, _) in _AXES.items()}
    run_images = shared_flags.integers("run_images", may_be_empty=True)
    settings = _settings()
    # The workers use the same cache.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(jax.config.values["jax_compilation_cache_dir"])
    for suite in suites:
        start = time.perf_counter()
        match suite:
            case "peers":
                from experiments.benchmark import throughput

                results = throughput.measure(settings, peers, must_run=_FLAGS.peers is not None)
            case "scaling":
                from experiments.benchmark import scaling

                results = scaling.measure(settings, axes, run_images)
            case "convolutions":
                from experiments.benchmark import convolutions

                results = convolutions.measure(settings)
            case _:
                from experiments.benchmark import startup

                results = startup.measure(settings)
        _write(workdir, suite, results, settings, time.perf_counter() - start)


def _check_workdir(workdir: Path, suites: Sequence[str]) -> None:
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"{workdir} is a file, not a folder")
    for suite in suites:
        if (workdir / f"{suite}.json").exists():
            raise ValueError(f"{workdir} holds {suite}.json already: choose another --workdir, or remove that folder")


def _settings() -> Settings:
    """Return the settings; also prepares the data, so that workers find them."""
    from aevb import data as datasets

    names = ("dataset", "data_dir", "source_dir", "num_images", "latent_dim", "hidden_dim", "batch_size")
    named: dict[str, Any] = {name: _FLAGS[name].value for name in names}
    workload = Workload(**named)
    train = datasets.load(workload.dataset, "train", workload.data_dir, workload.source_dir)
    num_images = len((train.subset(workload.num_images) if workload.num_images else train).images)
    if workload.batch_size > num_images:
        raise ValueError(f"--batch_size must be at most the {num_images} images, got {workload.batch_size}")
    return Settings(workload, _FLAGS.repeats, _FLAGS.num_epochs)


def _write(workdir: Path, suite: str, results: dict[str, Any], settings: Settings, seconds: float) -> None:
    from experiments.benchmark import drawing

    workdir.mkdir(parents=True, exist_ok=True)
    drawing.draw(suite, results, workdir)
    described = {
        "suite": suite,
        **{name: value for name, value in vars(settings.workload).items() if not name.endswith("_dir")},
        "repeats": settings.repeats,
        "num_epochs": settings.num_epochs,
        "seconds": seconds,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "machine": platform.machine(),
        "python_version": platform.python_version(),
        "package_versions": {name: _version(name) for name in _PACKAGES},
    }
    write_json(workdir / f"{suite}.json", described | results)
    print(f"{seconds:.0f} seconds; written: {workdir / suite}.json", flush=True)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
