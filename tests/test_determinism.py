"""The same seed gives the same bits, whichever process compiled the programs; another seed changes every draw.

Each kind of draw is tested alone with everything else fixed: a whole run would already differ if one kind did.
"""

import functools
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from tests.models import DATA_DIM
from tests.processes import assert_same_run, metrics, run

MODEL = aevb.mlp_vae((DATA_DIM,), 2, 8)
SIZE, BATCH, EPOCHS = 60, 20, 4
SEEDS = range(4)


@pytest.mark.slow
def test_a_cold_and_a_warm_compilation_cache_give_the_same_bits(data_dir, tmp_path):
    """The two processes also have different orders of sets of strings."""
    compiled = tmp_path / "compiled"
    workdirs = tmp_path / "cold", tmp_path / "warm"
    programs: list[set[Path]] = []
    for number, workdir in enumerate(workdirs):
        done = run(
            [
                *(sys.executable, "-m", "experiments.digits", f"--data_dir={data_dir}", f"--workdir={workdir}"),
                *("--latent_dim=2", "--hidden_dim=8", "--num_epochs=20", "--binarization=stochastic"),
            ],
            JAX_COMPILATION_CACHE_DIR=str(compiled),
            PYTHONHASHSEED=str(number + 1),
        )
        assert done.returncode == 0, done.stderr
        programs.append({path for path in compiled.iterdir() if path.name.endswith("-cache")})
    assert programs[0] == programs[1]  # the second compiled nothing new
    assert any("train_epochs" in path.name for path in programs[0])
    assert_same_run(*workdirs)
    assert metrics(workdirs[0])[-1]["epoch"] == "20"


# One kind of draw at a time


class Seen(NamedTuple):
    """Records of a run with fixed parameters.

    Attributes:
      indices: `[steps, M]`.
      minibatches: `[steps, M, D]`.
      losses: `[steps]`.
      history: `[evaluations, (train bound, test bound, test reconstruction)]`.
    """

    indices: np.ndarray
    minibatches: np.ndarray
    losses: np.ndarray
    history: np.ndarray


@functools.cache
def seen(seed: int, binarization: str = "grey", blind_decoder: bool = False) -> Seen:
    """Run `fit` on identical datapoints, in training and test data, from fixed weights.

    Then only the noise differs. With a blind decoder, the reconstruction does not depend on z, and only targets differ.
    """
    datapoint = np.linspace(0.1, 0.9, DATA_DIM, dtype=np.float32)
    data = np.tile(datapoint, (SIZE, 1))
    params = jax.tree.map(lambda leaf: 30 * leaf, MODEL.init(jax.random.key(0)))
    if blind_decoder:
        kernel = params["decoder"]["Dense_0"]["kernel"]
        params["decoder"]["Dense_0"]["kernel"] = jnp.zeros_like(kernel)
    steps = EPOCHS * (SIZE // BATCH)

    def recording(*arguments: Any) -> aevb.Algorithm:
        algorithm = aevb.auto_encoding(*arguments)

        def init(key: jax.Array) -> aevb.TrainState:
            empty = jnp.zeros((steps, BATCH), int), jnp.zeros((steps, BATCH, DATA_DIM)), jnp.zeros(steps)
            return algorithm.init(key)._replace(params=params, carry=empty)

        def step(state: aevb.TrainState, xs: jax.Array, indices: jax.Array) -> tuple[aevb.TrainState, jax.Array]:
            after, loss = algorithm.step(state, xs, indices)
            found = (indices, xs, loss)
            carry = tuple(a.at[state.step].set(b) for a, b in zip(state.carry, found, strict=True))
            return after._replace(carry=carry), loss

        return aevb.Algorithm(init, step)

    result = aevb.fit(
        data,
        MODEL,
        key=jax.random.key(seed),
        test_data=data,
        optimizer=optax.set_to_zero(),
        algorithm=recording,
        num_epochs=EPOCHS,
        batch_size=BATCH,
        binarization=binarization,
    )
    history = [(row.train_elbo, row.test_elbo, row.test_reconstruction) for row in result.history]
    return Seen(*map(np.asarray, result.state.carry), np.array(history))


def all_different(values) -> bool:
    """Return whether all entries along the leading axis of `values` differ."""
    return len({np.asarray(value).tobytes() for value in values}) == len(values)


def test_initial_weights():
    """Every single weight differs between seeds and between layers."""
    trees = [MODEL.init(jax.random.key(seed)) for seed in SEEDS]
    weights = np.stack([np.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)]) for tree in trees])
    assert all_different(weights.reshape(-1))
    optimizer = aevb.paper_optimizer()
    state = aevb.init_train_state(jax.random.key(0), MODEL, optimizer)
    assert all_different([jax.random.key_data(key) for key in (state.key, jax.random.key(0))])


def test_the_same_seed_is_the_same_again():
    once, again = seen(0, "stochastic"), seen.__wrapped__(0, "stochastic")
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_shuffles():
    """Shuffles differ between seeds and epochs; other draws do not shift them."""
    orders = np.stack([seen(seed).indices.reshape(EPOCHS, SIZE) for seed in SEEDS])
    np.testing.assert_array_equal(np.sort(orders), np.broadcast_to(np.arange(SIZE), orders.shape))
    assert all_different(orders.reshape(-1, SIZE))


def test_noise_of_training():
    """Noise differs between seeds and steps, for the same minibatch."""
    assert len(np.unique(np.concatenate([seen(seed).minibatches.reshape(-1, DATA_DIM) for seed in SEEDS]), axis=0)) == 1
    assert all_different(np.concatenate([seen(seed).losses for seed in SEEDS]))


def test_noise_of_evaluation():
    """Noise differs between seeds, evaluations, and the training and test split, although their data are the same."""
    assert all_different(np.concatenate([seen(seed).history[:, :2].reshape(-1) for seed in SEEDS]))


def test_stochastic_binarization_of_training():
    """Targets differ between seeds, steps and datapoints, and have the right mean."""
    targets = np.concatenate([seen(seed, "stochastic").minibatches for seed in SEEDS])
    assert set(np.unique(targets)) == {0.0, 1.0}
    assert all_different(targets)
    assert min(len(np.unique(minibatch, axis=0)) for minibatch in targets) > BATCH // 2  # some coincide by chance
    targets = targets.reshape(-1, DATA_DIM)
    intensities = np.linspace(0.1, 0.9, DATA_DIM)
    error = np.sqrt(intensities * (1 - intensities) / len(targets))
    assert np.all(np.abs(targets.mean(0) - intensities) < 4.5 * error)


def test_stochastic_binarization_of_evaluation():
    """Targets differ between seeds and evaluations, where the noise of z has no effect."""
    grey = np.concatenate([seen(seed, "grey", True).history[:, 2] for seed in SEEDS])
    assert len(np.unique(grey)) == 1
    assert all_different(np.concatenate([seen(seed, "stochastic", True).history[:, 2] for seed in SEEDS]))


def test_fixed_binarization_is_one_draw_whatever_the_seed():
    """All runs have the same targets, so that their bounds are comparable."""
    by_datapoint = []
    for seed in SEEDS:
        found = seen(seed, "fixed")
        order = np.argsort(found.indices.reshape(EPOCHS, SIZE))
        epochs = found.minibatches.reshape(EPOCHS, SIZE, DATA_DIM)
        by_datapoint += [epoch[where] for epoch, where in zip(epochs, order, strict=True)]
    for targets in by_datapoint[1:]:
        np.testing.assert_array_equal(targets, by_datapoint[0])
    assert len(np.unique(by_datapoint[0], axis=0)) > SIZE // 2
