"""The interface between a coder and a model: integer distributions of x and of each level of latents."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from aevb.compression.coders import Coder
from aevb.compression.grids import Grid

X = "x"
"""The name of the datapoint among the variables."""

NUM_DIGEST_BYTES = 16
"""The number of bytes kept of a SHA-256 digest, enough to rule out accidental collisions."""

Known: TypeAlias = Mapping[str, np.ndarray]
"""Variables by name: the values `x` `[b, D]`, and for each level the indices of its bins, `[b, J]`."""

Grids: TypeAlias = Mapping[str, Grid]


class Step(NamedTuple):
    """One step of an encoder: popping a level with q, or pushing a variable with p."""

    is_pop: bool
    name: str


class Probabilities(Protocol):
    """A model whose distributions have integer parameters.

    Attributes:
      data_size: D, the number of values in a datapoint.
      num_values: the number of possible values: 2 or 256.
      num_outputs: the number of decoder outputs per value of x, which determines the memory needed.
      steps: the order in which an encoder pops and pushes. A decoder inverts the steps in reverse order.
      levels: the size J of each level, by name, in the order of q.
      digest: 16 bytes that identify the model.
      environment: 16 bytes that identify the environment in which the model computes these numbers; empty if it
        computes the same numbers everywhere.
    """

    data_size: int
    num_values: int
    num_outputs: int
    steps: Sequence[Step]
    levels: Mapping[str, int]
    digest: bytes
    environment: bytes

    def grids(self, x: np.ndarray, num_datapoints: int) -> Grids:
        """Return the grids for `num_datapoints` datapoints, the first of which are `x` `[b, D]`."""
        ...

    def posterior(self, level: str, known: Known, grids: Grids) -> Coder:
        """Return q of a level, given x and the levels before it."""
        ...

    def prior(self, level: str, known: Known, grids: Grids, num_datapoints: int) -> Coder:
        """Return p of a level for `num_datapoints` datapoints, given the levels that p draws before it."""
        ...

    def likelihood(self, known: Known, grids: Grids) -> Coder:
        """Return p of x, given the levels."""
        ...


def order(
    levels: Sequence[str], needed_by_q: Mapping[str, set[str]], needed_by_p: Mapping[str, set[str]]
) -> list[Step]:
    """Return the order of steps that needs the fewest initial bits: Bit-Swap (Kingma et al. 2019).

    A variable is pushed as soon as the push can be undone, that is, once the variables that condition its p are known
    and every distribution conditioned on the variable itself has been used. Levels that q draws from the data upwards
    are popped in turn with pushes of the variables below them. Levels that q draws from the top down are all popped
    first.

    Args:
      levels: the names of the levels, in the order of q.
      needed_by_q: for each level, the variables that condition its q.
      needed_by_p: for x and each level, the variables that condition its p.
    """
    steps, known, pushed = [], {X}, set()

    def can_be_pushed(name: str, remaining: Sequence[str]) -> bool:
        users = {each for each, needed in needed_by_p.items() if name in needed}
        is_free = users <= pushed and not any(name in needed_by_q[level] for level in remaining)
        return name in known - pushed and needed_by_p[name] <= known - pushed and is_free

    for number in range(len(levels) + 1):
        remaining = levels[number:]
        while ready := [name for name in (X, *levels) if can_be_pushed(name, remaining)]:
            steps.append(Step(False, ready[0]))
            pushed.add(ready[0])
        if remaining:
            steps.append(Step(True, remaining[0]))
            known.add(remaining[0])
    return steps
