"""On which of its inputs a function depends, by the text of its program."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import Literal


def needed(function: Callable[..., Any], constants: Any, variables: Mapping[str, Any]) -> set[str]:
    """Return the names of the variables that what a function returns may depend on.

    An operation is taken to depend on all that goes into it: a program inside of the program, that of a `jax.jit` say,
    is one operation. So there may be too many names, and never too few.

    Args:
      function: `(constants, variables) -> arrays`.
      constants: a pytree of arrays or their shapes.
      variables: a pytree of them for each name.
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
