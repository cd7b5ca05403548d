"""Measure seconds per epoch of a deep Markov model: this project, NumPyro and Pyro take turns in one run.

    pip install pyro-ppl                                # with PyTorch: for two of the peers
    python -m experiments.benchmark.sequences           # JSB chorales, J = 64, GRU of 128 units, M = 20
    python -m experiments.benchmark.sequences --peers=numpyro_svi,pyro_svi --repeats=3
    python -m experiments.benchmark.sequences --dataset=random     # 229 random piano rolls, without the data set

All contenders have the same networks, start from the same parameters and see the same sequences, each in its own
process. They take turns, so that a machine whose speed drifts slows all alike; the result is the median of the pairwise
ratios. Compilation and the first epoch of each are not counted. This project trains once with length buckets and once
without. A contender that is not installed is left out. Writes sequences.json.
"""

import functools
import os
import platform
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from absl import flags

from experiments import launch, shared_flags
from experiments.benchmark.sequence_contenders import OURS, PACKAGES, PEERS, build
from experiments.benchmark.sequence_workload import RANDOM, SequenceWorkload, sequences
from experiments.benchmark.settings import Spread, closing_all
from experiments.benchmark.worker import Reply, Worker, WorkerError
from experiments.runs.folder import write_json

_FLAGS = flags.FLAGS
_WITHOUT_BUCKETS = "without_buckets"
_VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpyro", "pyro-ppl", "torch")
_SIZES = ("latent_dim", "emission_dim", "transition_dim", "rnn_dim", "batch_size")


def main() -> None:
    """Define the flags and run."""
    flags.DEFINE_list("peers", None, f"Comma-separated subset of {', '.join(PEERS)}; by default all installed ones.")
    flags.DEFINE_integer("repeats", 5, "Counted turns per contender.", lower_bound=1)
    flags.DEFINE_integer("num_epochs", 1, "Epochs per turn.", lower_bound=1)
    flags.DEFINE_enum(
        "dataset", "jsb_chorales", ["jsb_chorales", RANDOM], "Data set whose training sequences are used."
    )
    flags.DEFINE_integer(
        "num_sequences", 0, "Train on this many sequences, the first ones (0: all of them).", lower_bound=0
    )
    for name, text in zip(
        _SIZES,
        (
            "J, the size of each step's state.",
            "Units of the hidden layers between z_t and x_t.",
            "Units of the hidden layers between z_{t-1} and z_t.",
            "Units of the recurrent network.",
            "M, sequences per minibatch.",
        ),
        strict=True,
    ):
        flags.DEFINE_integer(name, getattr(SequenceWorkload(), name), text, lower_bound=1)
    flags.DEFINE_integer("length_buckets", 3, "Number of length buckets, in this project only.", lower_bound=1)
    shared_flags.define_data_flags()
    flags.DEFINE_string("workdir", None, "Output folder; by default a new one under runs/benchmark.")
    launch.start(_benchmark)


def _benchmark() -> None:
    import jax

    peers = list(PEERS) if _FLAGS.peers is None else shared_flags.choices("peers", PEERS)
    path = Path(_FLAGS.workdir or f"runs/benchmark/{time.strftime('%Y-%m-%dT%H-%M-%S')}") / "sequences.json"
    if path.parent.exists() and not path.parent.is_dir():
        raise ValueError(f"{path.parent} is a file, not a folder")
    if path.exists():
        raise ValueError(f"{path.parent} holds {path.name} already: choose another --workdir, or remove that folder")
    names = ("dataset", "data_dir", "source_dir", "num_sequences", "length_buckets", *_SIZES)
    given: dict[str, Any] = {name: _FLAGS[name].value for name in names}
    workload = SequenceWorkload(**given)
    shape = sequences(workload).shape  # also prepares the data, so that workers find them
    if workload.batch_size > shape[0]:
        raise ValueError(f"--batch_size must be at most the {shape[0]} sequences, got {workload.batch_size}")
    # The workers use the same cache.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(jax.config.values["jax_compilation_cache_dir"])
    start = time.perf_counter()
    results = measure(workload, peers, _FLAGS.repeats, _FLAGS.num_epochs, must_run=_FLAGS.peers is not None)
    print_results(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    described = {name: value for name, value in vars(workload).items() if not name.endswith("_dir") or name in _SIZES}
    described |= {"shape": shape, "repeats": _FLAGS.repeats, "num_epochs": _FLAGS.num_epochs}
    write_json(path, described | _machine() | {"seconds": time.perf_counter() - start} | results)
    print(f"{time.perf_counter() - start:.0f} seconds; written: {path}", flush=True)


def measure(
    workload: SequenceWorkload, peers: Sequence[str], repeats: int, num_epochs: int, must_run: bool
) -> dict[str, Any]:
    """Let all contenders take turns, and return their entries in sequences.json.

    Raises:
      WorkerError: this project cannot run, or a peer cannot although `must_run` is set.
    """
    print("starting all processes and compiling, which is not counted", flush=True)
    single = SequenceWorkload(**{**vars(workload), "length_buckets": 1})
    ours = [_worker(OURS, workload), _worker(OURS, single, _WITHOUT_BUCKETS)]
    others = [_worker(name, workload) for name in peers]
    with closing_all([*ours, *others]):
        others = [
            worker for worker in others if _is_ready(worker, must_run)
        ]  # first, since missing packages show at once
        for worker in ours:
            worker.wait_until_built()
            worker(1)
        workers = [*ours, *others]
        replies: dict[str, list[Reply]] = {worker.name: [] for worker in workers}
        for repeat in range(repeats):
            for worker in workers:
                replies[worker.name].append(worker(num_epochs))
            shown = "  ".join(f"{name} {of_name[-1].seconds / num_epochs:.2f}" for name, of_name in replies.items())
            print(f"turn {repeat + 1} of {repeats}, seconds per epoch: {shown}", flush=True)
    seconds = {name: [reply.seconds / num_epochs for reply in of_name] for name, of_name in replies.items()}
    return {
        "contenders": {
            name: {
                "seconds_per_epoch": Spread.of(of_name)._asdict(),
                "over_ours": Spread.of([one / our for one, our in zip(of_name, seconds[OURS], strict=True)])._asdict(),
                "peak_memory_bytes": max(reply.peak_memory for reply in replies[name]),
                "loss": replies[name][-1].result,
                "turns_seconds_per_epoch": of_name,
            }
            for name, of_name in seconds.items()
        }
    }


def print_results(results: dict[str, Any]) -> None:
    """Print a table of what `measure` returns."""
    print(f"\n{'':18}{'seconds per epoch':>28}{'over this project':>26}{'MiB peak':>10}{'nats per sequence':>20}")
    for name, row in results["contenders"].items():
        cells = [
            f"{each['median']:.2f} ({each['low']:.2f} to {each['high']:.2f})"
            for each in (row["seconds_per_epoch"], row["over_ours"])
        ]
        memory = row["peak_memory_bytes"] / 2**20
        print(f"{name:18}{cells[0]:>28}{cells[1]:>26}{memory:>10.0f}{-row['loss']:>20.1f}")


def _worker(contender: str, workload: SequenceWorkload, name: str | None = None) -> Worker:
    """Start a worker, for this project with the XLA flag that `launch` sets, for its peers with XLA's defaults."""
    xla_flags = os.environ.get("XLA_FLAGS", "").split()
    if contender != OURS:
        xla_flags = [flag for flag in xla_flags if flag != launch.XLA_FLAG]
    return Worker(name or contender, functools.partial(build, contender), workload, " ".join(xla_flags))


def _is_ready(worker: Worker, must_run: bool) -> bool:
    """Return whether the peer is installed and has compiled; its first epoch is not counted."""
    try:
        worker.wait_until_built()
        worker(1)
    except WorkerError as error:
        message = f"{error}; install it with: pip install {PACKAGES[worker.name]}"
        if must_run:
            raise WorkerError(message) from None
        print(f"left out: {message}")
        return False
    return True


def _machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "machine": platform.machine(),
        "python_version": platform.python_version(),
        "package_versions": {name: _version(name) for name in _VERSIONS},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
