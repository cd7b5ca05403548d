"""Length buckets: minibatches of sequences of similar lengths, cut at the end of the longest."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb.algorithms import bucketed
from aevb.models import deep_markov_vae, linear_gaussian_state_space, of_length
from aevb.training.epochs import epoch_batches
from tests.test_every_model import Records, assert_close

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
SIZE, LENGTH, BATCH_SIZE = 30, 8, 4
LENGTHS = np.random.RandomState(1).randint(1, LENGTH + 1, SIZE)
CUTS = (3, 5)


def sequences(padding=0):
    """Return binary sequences `[30, 8 + padding, 3]` with NaN after their ends."""
    x = (np.random.RandomState(0).rand(SIZE, LENGTH + padding, 3) > 0.5).astype(float)
    x[np.arange(LENGTH + padding) >= LENGTHS[:, None]] = np.nan
    return x


def model_of(length, **options):
    return deep_markov_vae((length, 3), 2, 6, 4, 6, **options)


def fit(model, data, algorithm, **settings):
    settings = {"batch_size": BATCH_SIZE, "optimizer": optax.adam(1e-2), "num_epochs": 2, "eval_every": 2} | settings
    return aevb.fit(data, model, key=KEY, algorithm=algorithm, **settings)


def test_a_minibatch_has_the_loss_and_the_update_that_it_has_uncut(x64):
    """This holds whichever bucket its longest sequence is in."""
    model, data = model_of(LENGTH, param_dtype="float64"), sequences()
    plain, cut = (each(model, optax.sgd(0.1), SIZE) for each in (aevb.auto_encoding, bucketed([5])))
    state = plain.init(KEY)
    steps = [jax.jit(each.step) for each in (plain, cut)]
    for longest in (3, 5, 8):
        indices = np.flatnonzero(longest >= LENGTHS)[:BATCH_SIZE]
        indices[0] = np.flatnonzero(longest == LENGTHS)[0]
        (one, loss), (other, cut_loss) = (step(state, jnp.asarray(data[indices]), indices) for step in steps)
        assert float(cut_loss) == pytest.approx(float(loss), rel=1e-11)
        assert_close(other, one, rtol=1e-10)


def test_minibatches_are_of_one_bucket_so_far_as_their_sizes_allow():
    """Every epoch has different minibatches in random order, and omits different datapoints."""
    buckets = np.searchsorted([*CUTS, LENGTH], LENGTHS)
    seen, firsts = set(), set()
    for seed in range(20):
        batches = np.asarray(epoch_batches(jax.random.key(seed), SIZE, BATCH_SIZE, jnp.asarray(buckets)))
        assert batches.shape == (SIZE // BATCH_SIZE, BATCH_SIZE)
        assert len(np.unique(batches)) == batches.size
        of_batches = [np.unique(buckets[batch]) for batch in batches]
        assert sum(len(each) - 1 for each in of_batches) <= 2  # one per border between buckets
        firsts.add(int(np.max(buckets[batches[0]])))
        seen |= set(batches.ravel())
    assert seen == set(range(SIZE))
    assert firsts == {0, 1, 2}
    plain = epoch_batches(KEY, SIZE, BATCH_SIZE)
    np.testing.assert_array_equal(plain, jax.random.permutation(KEY, SIZE)[:28].reshape(7, 4))


def test_an_algorithm_knows_the_bucket_of_a_sequence():
    bucket = bucketed(CUTS)(model_of(LENGTH), optax.sgd(0.1), SIZE).bucket
    assert bucket is not None
    data = sequences()
    data[LENGTHS > 2, 1] = np.nan  # a gap is not an end
    found = jax.vmap(bucket)(jnp.asarray(data))
    np.testing.assert_array_equal(found, np.searchsorted([*CUTS, LENGTH], LENGTHS))


def test_resumed_equals_uninterrupted_in_mid_epoch_too():
    model, data = model_of(LENGTH), sequences().astype(np.float32)
    train = functools.partial(fit, model, data, bucketed([4]))
    whole = train(num_epochs=3)
    part = train(num_epochs=None, num_steps=10)  # of seven per epoch
    rest = train(num_epochs=3, state=part.state)
    assert_close(rest.state, whole.state, rtol=0)
    assert whole.history[-1].train_elbo > whole.history[0].train_elbo


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["in_turn", "side_by_side"])
def test_a_member_of_a_population_is_what_it_is_alone(x64, execution):
    model, data = model_of(LENGTH, param_dtype="float64"), sequences()
    keys = jax.random.split(KEY, 2)
    settings = {"algorithm": bucketed([4]), "optimizer": aevb.paper_optimizer(0.1), "batch_size": 4, "num_epochs": 2}
    members = aevb.fit_population(data, model, keys=keys, execution=execution, **settings)
    for key, member in zip(keys, members, strict=True):
        assert_close(member.result.state, aevb.fit(data, model, key=key, **settings).state)


def test_of_length_keeps_the_parameters():
    model = model_of(LENGTH, posterior="mean_field")
    assert of_length(model, LENGTH) is model
    assert of_length(model, 20) == model_of(20, posterior="mean_field")
    assert of_length(linear_gaussian_state_space((5, 3), 2), 7) == linear_gaussian_state_space((7, 3), 2)


def test_refused():
    model, data = model_of(LENGTH), sequences().astype(np.float32)
    refused = functools.partial(pytest.raises, ValueError)
    with refused(match=r"lengths must be a sequence of numbers of steps such as \[64, 96\], got 3"):
        bucketed(3)
    with refused(match=r"lengths\[1\] must be at least 1, got 0"):
        bucketed([3, 0])
    with refused(match="lengths must be at most 8, the length of the model's sequences, got 9"):
        fit(model, data, bucketed([9]))
    with refused(match="'mlp' depend on the length"):
        fit(aevb.mlp_vae((LENGTH, 3), 2, 4), data, bucketed([3]))
    with refused(match=r"'mlp' with data_shape \[3\] is not a model of sequences \[T, D\]"):
        fit(aevb.mlp_vae((3,), 2, 4), data[:, 0], bucketed([3]))
    with refused(match="was not built by name"):
        fit(aevb.Model(model.init, model.encode, model.decode, model.prior), data, bucketed([3]))
    with refused(match="keeps latents for every datapoint cannot train in length buckets"):
        fit(model, data, bucketed([3], aevb.algorithms.monte_carlo_em))
    with pytest.raises(TypeError, match="length buckets need data in memory"):
        fit(model, aevb.Stream(Records(data), block_size=10), bucketed([3]))


@pytest.mark.slow
def test_padding_to_twice_the_length_costs_little():
    """Padding costs less than 1.3 times the time of unpadded sequences; without buckets it costs twice."""
    jax.config.update("jax_disable_most_optimizations", False)  # until the module's fixture ends, too
    length, size = 64, 80
    data = (np.random.RandomState(0).rand(size, length, 20) > 0.5).astype(np.float32)
    padded = np.concatenate([data, np.full_like(data, np.nan)], axis=1)

    def epochs_of(data, algorithm):
        model = deep_markov_vae(data.shape[1:], 16, 32, 32, 64)
        made = algorithm(model, optax.adam(1e-3), size)
        return aevb.make_train_epochs(made, 20), made.init(KEY), jnp.asarray(data)

    contenders = {
        "cut": epochs_of(data, aevb.auto_encoding),
        "padded": epochs_of(padded, aevb.auto_encoding),
        "buckets": epochs_of(padded, bucketed([length])),
    }
    states = {name: state for name, (_, state, _) in contenders.items()}
    best = dict.fromkeys(contenders, np.inf)
    for _ in range(6):  # alternating, taking the best of each, because other processes slow all of them down
        for name, (train, _, rows) in contenders.items():
            start = time.perf_counter()
            states[name], progress = train(states[name], rows, 3)
            assert np.isfinite(progress.loss)
            best[name] = min(best[name], time.perf_counter() - start)
    assert best["buckets"] < 1.3 * best["cut"]
    assert best["buckets"] < best["padded"]
