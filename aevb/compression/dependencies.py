"""Dependencies of a function on its inputs, read from its jaxpr."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import Literal


def needed(function: Callable[..., Any], constants: Any, variables: Mapping[str, Any]) -> set[str]:
    """Return the names of the variables that a function's outputs may depend on.

    Every output of an operation is assumed to depend on all of its inputs. A nested program, such as that of a
    `jax.jit`, counts as one operation. The result may therefore contain too many names, but never too few.

    Args:
      function: `(constants, variables) -> arrays`.
      constants: a pytree of arrays or their shapes.
      variables: one such pytree per name.
    """
    program = jax.make_jaxpr(function)(constants, dict(variables)).jaxpr
    names: list[str | None] = [None] * len(jax.tree.leaves(constants))
    for name in sorted(variables):  # as JAX sorts the entries of a dict
        names += [name] * len(jax.tree.leaves(variables[name]))
    found = {
        variable: frozenset() if name is None else frozenset([name])
        for variable, name in zip(program.invars, names, strict=True)
    }
    of = lambda variable: frozenset() if isinstance(variable, Literal) else found.get(variable, frozenset())
    for operation in program.eqns:
        inputs = frozenset().union(*map(of, operation.invars))
        found.update(dict.fromkeys(operation.outvars, inputs))
    return set().union(*map(of, program.outvars))
