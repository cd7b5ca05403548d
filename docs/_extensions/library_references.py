"""Resolve names in signatures that have no page: private paths, aliases and type variables.

A signature names a type by the module that defines it (`aevb.model.Model`, `jax.jaxlib._jax.Array`), whereas pages use
its public name.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.ext.intersphinx import resolve_reference_any_inventory

# The documented names of names in signatures.
PUBLIC = {
    "jax.jaxlib._jax.Array": "jax.Array",
    "jax._src.basearray.Array": "jax.Array",
    "optax._src.base.GradientTransformation": "optax.GradientTransformation",
    "aevb.algorithms.base.MakeAlgorithm": "aevb.algorithms.MakeAlgorithm",
    "aevb.algorithms.base.Loss": "aevb.algorithms.Loss",
    "aevb.networks.convolution.Weights": "aevb.networks.Weights",
    "RunError": "aevb.checkpoints.RunError",
}
# Names without a page: type variables, and aliases that the surrounding text explains.
PLAIN = re.compile(
    r"^aevb\.(marginal_likelihood\.estimate\.T|likelihoods\.Number|registry\.T|sharding\.Tree|algorithms\.base\.Init)$"
)


def _resolve(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    if node.get("refdomain") != "py":
        return None
    target = node.get("reftarget", "")
    if target in PUBLIC:
        name = PUBLIC[target]
        if contnode.astext() == target:
            contnode = nodes.literal("", name.split(".")[-1])
        if not name.startswith("aevb."):
            renamed = node.deepcopy()
            renamed["reftarget"] = name
            return resolve_reference_any_inventory(env, False, renamed, contnode)
        domain, builder, document = env.get_domain("py"), app.builder, node.get("refdoc")
        return domain.resolve_xref(env, document, builder, "obj", name, node, contnode)
    if PLAIN.match(target):
        return nodes.literal("", contnode.astext())
    return None


def setup(app: Any) -> dict[str, Any]:
    """Connect the resolver before intersphinx, whose priority is 500."""
    app.connect("missing-reference", _resolve, priority=400)
    return {"parallel_read_safe": True}
