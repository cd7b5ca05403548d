"""What a coder needs of a model: distributions of x and of each level of latents, with integer parameters."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from aevb.compression.coders import Coder
from aevb.compression.grids import Grid

X = "x"
"""The name of the datapoint among the variables."""

NUM_DIGEST_BYTES = 16
"""Of a SHA-256: enough that nothing else has the same by chance."""

Known: TypeAlias = Mapping[str, np.ndarray]
"""Variables by name: `x` `[b, D]`, values, and levels `[b, J]`, bins of their grids."""

Grids: TypeAlias = Mapping[str, Grid]


class Step(NamedTuple):
    """Pop a level by q, or push a variable by p."""

    is_pop: bool
    name: str


class Probabilities(Protocol):
    """A model as integers.

    Attributes:
      data_size: D, the number of values of a datapoint.
      num_values: how many values there are: 2, or 256.
      num_outputs: numbers that the decoder makes for each value of x: what memory depends on.
      steps: the order in which an encoder pops and pushes. A decoder does the opposite from the end.
      levels: J of each level, by name, in the order of q.
      digest: 16 bytes that are other ones for another model.
      environment: 16 bytes that are other ones where the model computes other numbers; none where it cannot.
    """

    data_size: int
    num_values: int
    num_outputs: int
    steps: Sequence[Step]
    levels: Mapping[str, int]
    digest: bytes
    environment: bytes

    def grids(self, x: np.ndarray, num_datapoints: int) -> Grids:
        """Return the grids that suit so many datapoints, of which `x` `[b, D]` are the first."""
        ...

    def posterior(self, level: str, known: Known, grids: Grids) -> Coder:
        """Return q of a level given x and the levels before it."""
        ...

    def prior(self, level: str, known: Known, grids: Grids, num_datapoints: int) -> Coder:
        """Return p of a level of so many datapoints given the levels that p draws before it."""
        ...

    def likelihood(self, known: Known, grids: Grids) -> Coder:
        """Return p of x given the levels."""
        ...


def order(
    levels: Sequence[str], needed_by_q: Mapping[str, set[str]], needed_by_p: Mapping[str, set[str]]
) -> list[Step]:
    """Return the order of steps that needs the fewest bits to begin with: Bit-Swap (Kingma et al. 2019).

    A variable is pushed as soon as that can be undone: the variables that its p is given are there, and every
    distribution that is given the variable itself has been used. Levels that q draws from the data up alternate with
    what is below them; those that q draws from the top down are all popped first.

    Args:
      levels: in the order of q.
      needed_by_q: for each level the variables that its q is given.
      needed_by_p: for x and each level the variables that its p is given.
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
