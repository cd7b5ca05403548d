"""The keys that training and evaluation derive from the given key.

The functions are jitted, because otherwise each single operation on keys is compiled separately, which takes 20 ms at
every start.
"""

import jax

# Folding i into a key gives child i of its split: the splits and parameters of an evaluation use children 0 to 3.
_NUM_CHILDREN = 4


@jax.jit
def key_pair(key: jax.Array) -> tuple[jax.Array, ...]:
    """Return two keys: one for training and one for evaluation, or for the noise and the order of an epoch."""
    return tuple(jax.random.split(key))


def evaluation_keys(key: jax.Array, epoch: int, num_steps: int = 0) -> dict[str, jax.Array]:
    """Return the keys for each split and the parameters, `num_steps` minibatches after `epoch` whole epochs."""
    return _in_mid_epoch(key, epoch, num_steps) if num_steps else _after_epochs(key, epoch)


@jax.jit
def _after_epochs(key: jax.Array, epoch: int | jax.Array) -> dict[str, jax.Array]:
    return _of_splits(jax.random.fold_in(key, epoch))


@jax.jit
def _in_mid_epoch(key: jax.Array, epoch: int | jax.Array, num_steps: int | jax.Array) -> dict[str, jax.Array]:
    return _of_splits(jax.random.fold_in(jax.random.fold_in(key, epoch), _NUM_CHILDREN + num_steps))


def _of_splits(key: jax.Array) -> dict[str, jax.Array]:
    train, test, params = jax.random.split(key, 3)
    return {"train": train, "test": test, "params": params, "valid": jax.random.fold_in(key, 3)}
