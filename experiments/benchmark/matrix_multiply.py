"""The rate of float32 matrix products through JAX on this machine, the reference for the rate of a training step."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.benchmark.workload import Workload, matrix_products, pixels

_SQUARES = (512, 1024, 2048)
_SECONDS = 0.1  # target duration of one measurement


def build(workload: Workload) -> Callable[[int], dict[str, float]]:
    """Return `times -> {"M x K x N": FLOP/s}`, which takes the best of `times` measurements of each product."""
    shapes = dict.fromkeys(matrix_products(workload, pixels(workload).shape[1]))
    shapes.update(dict.fromkeys((size, size, size) for size in _SQUARES))
    operands = {(m, k, n): (jnp.full((m, k), 1 / k), jnp.ones((k, n))) for m, k, n in shapes}
    repetitions = {shape: _repetitions(*operands[shape]) for shape in shapes}

    def measure(times: int) -> dict[str, float]:
        rates = {}
        for (m, k, n), pair in operands.items():
            count = repetitions[m, k, n]
            seconds = min(_time(*pair, count) for _ in range(times))
            rates[f"{m} x {k} x {n}"] = 2 * m * k * n * count / seconds
        return rates

    return measure


def _repetitions(a: jax.Array, b: jax.Array) -> int:
    """Return how many products take about `_SECONDS`."""
    _time(a, b, 1)
    count = 1
    while (seconds := _time(a, b, count)) < _SECONDS / 4:
        count *= 4
    return max(1, round(count * _SECONDS / seconds))


def _time(a: jax.Array, b: jax.Array, count: int) -> float:
    start = time.perf_counter()
    _multiply(a, b, count).block_until_ready()
    return time.perf_counter() - start


@jax.jit
def _multiply(a: jax.Array, b: jax.Array, count: int) -> jax.Array:
    """Compute `a @ b` `count` times in one program; each needs an entry of the one before, so none can be left out."""

    def body(_: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        a, product = carry
        a = a.at[0, 0].set(0.5 * product[0, 0])
        return a, a @ b

    return jax.lax.fori_loop(0, count, body, (a, jnp.zeros((a.shape[0], b.shape[1]), a.dtype)))[1]
