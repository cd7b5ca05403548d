"""Compare this project with its peers in one run: all take turns, so that a drifting machine slows all alike."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from experiments.benchmark import matrix_multiply
from experiments.benchmark.contenders import OURS
from experiments.benchmark.settings import Settings, Spread, closing_all, start_worker
from experiments.benchmark.worker import Reply, Together, Worker, WorkerError
from experiments.benchmark.workload import Workload, flops_per_image, images_per_epoch, pixels

# Features that only this project has, measured against itself: their names, and how they change the workload.
VARIANTS: dict[str, dict[str, Any]] = {
    "stochastic_binarization": {"binarization": "stochastic"},
    "population_of_8": {"num_members": 8},
    "streaming": {"stream": True},
}
_MATRIX_MULTIPLY, _TWO_MEMBERS = "matrix_multiply", "two_members_pinned"

Replies = dict[str, list[Reply]]


def measure(settings: Settings, peers: Sequence[str], must_run: bool) -> dict[str, Any]:
    """Run and print the measurements, and return the contents of peers.json.

    Args:
      settings: the settings of the run.
      peers: names of contenders.
      must_run: whether a peer that cannot run is an error; otherwise it is left out, and a line is printed.

    Raises:
      WorkerError: this project cannot run, or a peer cannot although `must_run` is set.
    """
    print("starting all processes and compiling, which is not counted", flush=True)
    workload = settings.workload
    ours = start_worker(OURS, workload)
    others = [start_worker(name, workload, name) for name in peers]
    variants = [start_worker(name, _changed(workload, changes)) for name, changes in VARIANTS.items()]
    pinned = [start_worker(_TWO_MEMBERS, workload, cores=[core]) for core in _two_cores()]
    product = start_worker(_MATRIX_MULTIPLY, workload, make=matrix_multiply.build)
    with closing_all([ours, *others, *variants, *pinned, product]):
        others = [
            worker for worker in others if _is_ready(worker, must_run)
        ]  # first, since missing packages show at once
        for worker in (ours, *variants, *pinned):
            worker.wait_until_built()
            worker(1)
        product.wait_until_built()
        turns: dict[str, Callable[[int], Reply]] = {worker.name: worker for worker in (ours, *others, *variants)}
        if pinned:
            turns[_TWO_MEMBERS] = Together(pinned)
        replies = _take_turns(settings, turns, product)
    results = _results(settings, replies, [worker.name for worker in others])
    _print_results(results)
    return results


def _changed(workload: Workload, changes: dict[str, Any]) -> Workload:
    return Workload(**{**vars(workload), **changes})


def _two_cores() -> list[int]:
    """Return two cores, or none if there are fewer or the system cannot pin processes."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return cores[:2] if len(cores) > 1 else []


def _is_ready(worker: Worker, must_run: bool) -> bool:
    """Return whether the peer is installed and has compiled; its first epoch is not counted."""
    try:
        worker.wait_until_built()
        worker(1)
    except WorkerError as error:
        message = f'{error}; the peers\' libraries: pip install -e ".[benchmark]"'
        if must_run:
            raise WorkerError(message) from None
        print(f"left out: {message}")
        return False
    return True


def _take_turns(settings: Settings, turns: dict[str, Callable[[int], Reply]], product: Worker) -> Replies:
    replies: Replies = {name: [] for name in (*turns, _MATRIX_MULTIPLY)}
    for repeat in range(settings.repeats):
        for name, turn in turns.items():
            replies[name].append(turn(settings.num_epochs))
        replies[_MATRIX_MULTIPLY].append(product(1))
        seconds = "  ".join(f"{name} {replies[name][-1].seconds:.2f}" for name in turns)
        print(f"turn {repeat + 1} of {settings.repeats}, seconds: {seconds}", flush=True)
    return replies


def _results(settings: Settings, replies: Replies, peers: list[str]) -> dict[str, Any]:
    workload = settings.workload
    num_images, data_dim = pixels(workload).shape
    per_turn = settings.num_epochs * images_per_epoch(workload, num_images)
    products = [reply.result for reply in replies.pop(_MATRIX_MULTIPLY)]
    members = {name: changes.get("num_members", 1) for name, changes in VARIANTS.items()} | {_TWO_MEMBERS: 2}
    rates = {
        name: [per_turn * members.get(name, 1) / reply.seconds for reply in of_name]
        for name, of_name in replies.items()
    }
    flops = flops_per_image(workload, data_dim)
    by_shape = {shape: Spread.of([product[shape] for product in products]) for shape in products[0]}
    peak = max(spread.median for spread in by_shape.values())
    contenders = {
        name: {
            "images_per_second": Spread.of(of_name)._asdict(),
            "flops_per_second": Spread.of(of_name).median * flops,
            "utilisation": Spread.of(of_name).median * flops / peak,
            "peak_memory_bytes": max(reply.peak_memory for reply in replies[name]),
            "loss": _or_none(replies[name][-1].result),
            "turns_images_per_second": of_name,
        }
        for name, of_name in rates.items()
    }
    return {
        "images_per_turn": per_turn,
        "flops_per_image": flops,
        "matrix_multiply_flops_per_second": {shape: spread._asdict() for shape, spread in by_shape.items()},
        "matrix_multiply_peak": peak,
        "contenders": contenders,
        "peers": peers,
        "ours_over": {name: _ratio(rates[OURS], rates[name]) for name in (*peers, *VARIANTS)},
        **({"two_members_over_one": _ratio(rates[_TWO_MEMBERS], rates[OURS])} if _TWO_MEMBERS in rates else {}),
    }


def _or_none(loss: Any) -> Any:
    """Return `None` for NaN, which JSON lacks."""
    return None if loss != loss else loss


def _ratio(numerators: list[float], denominators: list[float]) -> dict[str, Any]:
    """Return the ratios pair by pair, each of the two turns of one repeat."""
    ratios = [one / other for one, other in zip(numerators, denominators, strict=True)]
    return {**Spread.of(ratios)._asdict(), "turns": ratios}


def _print_results(results: dict[str, Any]) -> None:
    print(f"\n{'':26}{'images/s':>10}{'range':>20}{'GFLOP/s':>9}{'of peak':>9}{'MiB peak':>10}{'ours over it':>26}")
    for name, row in results["contenders"].items():
        rate = row["images_per_second"]
        ratio = results["ours_over"].get(name)
        cells = "" if ratio is None else f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
        span = f"{rate['low']:,.0f} to {rate['high']:,.0f}"
        print(
            f"{name:26}{rate['median']:>10,.0f}{span:>20}{row['flops_per_second'] / 1e9:>9.1f}"
            f"{row['utilisation']:>9.2f}{row['peak_memory_bytes'] / 2**20:>10.0f}{cells:>26}"
        )
    print(f"{results['flops_per_image'] / 1e6:.2f} MFLOP per image in matrix products, forward and backward")
    for shape, rate in results["matrix_multiply_flops_per_second"].items():
        print(f"  product {shape:22}{rate['median'] / 1e9:>8.1f} GFLOP/s")
    for name in VARIANTS:
        ratio = results["ours_over"][name]
        low, median, high = (100 * (ratio[key] - 1) for key in ("low", "median", "high"))
        print(f"{name} costs {median:.1f} % ({low:.1f} to {high:.1f}) per image")
    if "two_members_over_one" in results:
        ratio = results["two_members_over_one"]
        print(
            f"two members on one core each, over one member on all cores: {ratio['median']:.2f} "
            f"({ratio['low']:.2f} to {ratio['high']:.2f}) images/s together"
        )
