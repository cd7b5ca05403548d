"""The keys that training and evaluation derive from the one they are given.

Programs, because each operation on keys by itself is one too, of 20 ms at every start.
"""

import jax

# A key that is folded with i is child i of a split: the splits and parameters of an evaluation have 0 to 3.
_NUM_CHILDREN = 4


@jax.jit
def key_pair(key: jax.Array) -> tuple[jax.Array, ...]:
    """Return two keys: of training and evaluation, or of the noise and the order of an epoch."""
    return tuple(jax.random.split(key))


def evaluation_keys(key: jax.Array, epoch: int, num_steps: int = 0) -> dict[str, jax.Array]:
    """Return the keys of each split and of the parameters, `num_steps` minibatches after `epoch` whole epochs."""
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
