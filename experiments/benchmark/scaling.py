"""The cost per image as one size grows at a time, and as the run gets longer, where it should stay the same."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.benchmark.settings import Settings, Spread, closing_all, start_worker
from experiments.benchmark.worker import Reply
from experiments.benchmark.workload import flops_per_image, images_per_epoch, pixels


def measure(settings: Settings, axes: Mapping[str, Sequence[int]], run_images: Sequence[int]) -> dict[str, Any]:
    """Run the measurements, print them, and return the contents of scaling.json.

    Args:
      settings: the settings of the run, with the sizes that stay the same while one changes.
      axes: fields of the workload, and the values of each.
      run_images: run lengths, in images.
    """
    num_images, data_dim = pixels(settings.workload).shape
    results: dict[str, Any] = {"axes": {}}
    for axis, values in axes.items():
        if values:
            results["axes"][axis] = _measure_axis(settings, axis, values, num_images, data_dim)
    if run_images:
        results["run_images"] = _measure_lengths(settings, sorted(run_images), num_images)
    return results


def _measure_axis(
    settings: Settings, axis: str, values: Sequence[int], num_images: int, data_dim: int
) -> list[dict[str, Any]]:
    """Return one row per value; the values take turns, each in its own process."""
    workloads = [dataclasses.replace(settings.workload, **{axis: value}) for value in values]
    workers = [start_worker(f"{axis} {value}", each) for value, each in zip(values, workloads, strict=True)]
    with closing_all(workers):
        for worker in workers:
            worker.wait_until_built()
            worker(1)
        turns = [[worker(settings.num_epochs) for worker in workers] for _ in range(settings.repeats)]
    print(f"\n{axis:>12}{'us/image':>12}{'range':>22}{'GFLOP/s':>10}{'MiB peak':>10}")
    rows = []
    for value, workload, replies in zip(values, workloads, zip(*turns, strict=True), strict=True):
        images = settings.num_epochs * images_per_epoch(workload, num_images)
        cost = Spread.of([1e6 * reply.seconds / images for reply in replies])
        flops = flops_per_image(workload, data_dim)
        row = {
            "value": value,
            "microseconds_per_image": cost._asdict(),
            "flops_per_image": flops,
            "flops_per_second": flops / cost.median * 1e6,
            "peak_memory_bytes": max(reply.peak_memory for reply in replies),
        }
        span, rate = f"{cost.low:.1f} to {cost.high:.1f}", row["flops_per_second"] / 1e9
        print(f"{value:>12}{cost.median:>12.1f}{span:>22}{rate:>10.1f}{row['peak_memory_bytes'] / 2**20:>10.0f}")
        rows.append(row)
    return rows


def _measure_lengths(settings: Settings, run_images: Sequence[int], num_images: int) -> dict[str, Any]:
    """Time runs of each length in one process, up and down, so that drift slows long and short runs alike."""
    per_epoch = images_per_epoch(settings.workload, num_images)
    lengths = [max(1, round(images / per_epoch)) for images in run_images]
    replies: dict[int, list[Reply]] = {length: [] for length in lengths}
    worker = start_worker("run length", settings.workload)
    with closing_all([worker]):
        worker.wait_until_built()
        worker(1)
        for length in [*lengths, *lengths[-2::-1]]:
            replies[length].append(worker(length))
    print(f"\n{'run_images':>12}{'us/image':>12}{'MiB peak':>10}")
    rows = []
    for length, of_length in replies.items():
        seconds = sum(reply.seconds for reply in of_length) / len(of_length)
        row = {
            "value": length * per_epoch,
            "microseconds_per_image": 1e6 * seconds / (length * per_epoch),
            "peak_memory_bytes": of_length[0].peak_memory,
        }
        print(
            f"{row['value']:>12,}{row['microseconds_per_image']:>12.1f}{row['peak_memory_bytes'] / 2**20:>10.0f}",
            flush=True,
        )
        rows.append(row)
    costs, peaks = ([row[name] for row in rows] for name in ("microseconds_per_image", "peak_memory_bytes"))
    apart = {"cost_spread": max(costs) / min(costs) - 1, "memory_growth_bytes": peaks[-1] - peaks[0]}
    print(
        f"cost per image within {100 * apart['cost_spread']:.0f} %, "
        f"peak memory grows by {apart['memory_growth_bytes'] / 2**20:.1f} MiB"
    )
    return {"rows": rows, **apart}
