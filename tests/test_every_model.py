"""Every kind of model through every function: it works, or it is refused with the reason."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb import algorithms, marginal_likelihood
from aevb.checkpoints import Checkpoints
from aevb.data.rows import num_rows, rows
from tests.conftest import ROOT
from tests.models import CASES, SIZE, Case

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
BATCH_SIZE = 8
SCALARS = ("elbo", "reconstruction", "kl", "iwae")


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def widened(case: Case) -> Case:
    """Convert a case to double precision, where rounding does not matter; needs the fixture `x64`."""
    widen = lambda leaf: leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf
    model = case.model
    if model.recipe is not None:
        name, arguments = aevb.models.recipe_of(model)
        model = aevb.models.build(name, **(arguments | {"param_dtype": "float64"}))
    return case._replace(model=model, data=jax.tree.map(widen, case.data))


def trained_by(case: Case, **options):
    return functools.partial(algorithms.auto_encoding, estimator=case.estimator, **options)


def fit(case: Case, data=None, **settings) -> aevb.FitResult:
    settings = {"algorithm": trained_by(case), "optimizer": optax.adam(3e-2), "batch_size": BATCH_SIZE} | settings
    return aevb.fit(case.data if data is None else data, case.model, key=KEY, **settings)


def assert_close(one, other, rtol: float = 1e-9) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = map(jax.random.key_data, (a, b))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def test_bounds_and_their_gradients(case):
    """Single bounds and minibatches under jit agree, also by level.

    On average they are below the importance weighted bound.
    """
    params = case.model.init(KEY)
    keys = jax.random.split(KEY, SIZE)
    options = {"num_samples": 2, "kl": case.estimator.kl, "gradient": case.estimator.gradient}
    elbo = functools.partial(aevb.elbo, **options)
    batched = jax.jit(jax.vmap(jax.value_and_grad(elbo), (None, 0, 0, None)), static_argnums=3)
    values, gradients = batched(params, keys, case.data, case.model)
    assert values.shape == (SIZE,)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))
    assert case.is_exact or any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradients["encoder"]))
    terms = aevb.elbo_terms(params, keys[0], rows(case.data, 0), case.model, **options)
    np.testing.assert_allclose(terms.reconstruction - terms.kl, values[0], rtol=1e-4)
    np.testing.assert_allclose(sum(jnp.sum(kl) for kl in terms.kl_by_level.values()), terms.kl, rtol=1e-5)
    gradient = "score_function" if case.discrete else "pathwise"
    weighted = functools.partial(aevb.iwae_bound, num_samples=50, gradient=gradient)
    weighted_values = jax.jit(jax.vmap(weighted, (None, 0, 0, None)), static_argnums=3)(
        params, keys, case.data, case.model
    )
    if case.is_exact:
        np.testing.assert_allclose(weighted_values, values, rtol=1e-4)
    else:
        assert np.mean(weighted_values) > np.mean(values)


def test_discrete_levels_are_named_where_a_gradient_is_needed(case):
    params, x = case.model.init(KEY), rows(case.data, 0)
    if case.discrete:
        with pytest.raises(TypeError, match=rf"level '{case.discrete[0]}' \(Categorical"):
            aevb.elbo(params, KEY, x, case.model)
    else:
        assert np.isfinite(aevb.elbo(params, KEY, x, case.model, kl="sampled"))


def test_training_raises_the_bound_and_evaluation_is_a_mean_over_datapoints(case):
    result = fit(case, num_epochs=30, eval_every=15, test_data=rows(case.data, slice(10)), map_prior=False)
    first, last = result.history[0], result.history[-1]
    assert last.train_elbo > first.train_elbo
    assert last.test_elbo == pytest.approx(last.test_reconstruction - last.test_kl, rel=1e-4)
    assert sum(last.test_kl_by_level.values()) == pytest.approx(last.test_kl, rel=1e-4)
    params = result.state.params
    for chunk_size in (SIZE, 7):
        found = aevb.evaluate(params, KEY, case.data, case.model, case.estimator, chunk_size=chunk_size)
        keys = [jax.random.split(jax.random.fold_in(KEY, position), 3)[1] for position in range(SIZE)]
        options = {
            "num_samples": case.estimator.num_samples,
            "kl": case.estimator.kl,
            "gradient": case.estimator.gradient,
        }
        elbo = jax.jit(functools.partial(aevb.elbo, **options))
        values = [elbo(params, key, rows(case.data, i), case.model) for i, key in enumerate(keys)]
        assert found.elbo == pytest.approx(np.mean(values), rel=1e-4)
    counted = aevb.evaluate(params, KEY, case.data, case.model, case.estimator, active_units=True)
    assert counted.active_units == sum(counted.active_units_by_level.values())
    assert counted.active_units is not None


@pytest.mark.slow
def test_training_on_the_weighted_bound(case):
    gradient = "score_function_leave_one_out" if case.discrete else "doubly_reparameterized"
    estimator = aevb.Estimator(4, case.estimator.kl, gradient, "iwae")
    algorithm = functools.partial(algorithms.auto_encoding, estimator=estimator)
    result = fit(case, algorithm=algorithm, num_epochs=20, eval_every=20, map_prior=False)
    first, last = result.history[0], result.history[-1]
    assert last.train_iwae > first.train_iwae
    if case.is_exact:
        assert last.train_iwae == pytest.approx(last.train_elbo, rel=1e-4)
    else:
        assert last.train_iwae > last.train_elbo


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wake_sleep", "monte_carlo_em", "full_vb"])
def test_other_algorithms(case, name):
    algorithm = algorithms.ALGORITHMS.get(name)
    if name == "full_vb":
        algorithm = functools.partial(algorithm, estimator=case.estimator)
    settings = {"algorithm": algorithm, "evaluation": case.estimator, "num_epochs": 3, "eval_every": 3}
    if case.discrete and name == "monte_carlo_em":
        with pytest.raises(
            TypeError, match="Monte Carlo EM moves z along the gradient of its density, but level 'y' is"
        ):
            fit(case, **settings)
        return
    result = fit(case, **settings)
    before = algorithm(case.model, optax.adam(3e-2), SIZE, True).init(KEY, rows(case.data, 0)).params
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before["decoder"], result.state.params["decoder"])
    assert all(jax.tree.leaves(moved))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result.state.params))
    assert np.isnan(result.history[-1].train_elbo) == (name == "monte_carlo_em")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["is", "hmc", "ais"])
def test_the_marginal_likelihood(case, method):
    """The estimate is above the bound and agrees with importance sampling with many draws."""
    params, data = case.model.init(KEY), rows(case.data, slice(2))
    evaluate = functools.partial(marginal_likelihood.evaluate, params, KEY, data, case.model)
    options = {"num_distributions": 40} if method == "ais" else {}
    if case.discrete and method != "is":
        with pytest.raises(TypeError, match="along the gradient of its density, but level 'y' is discrete"):
            evaluate(method, **options)
        return
    reference = evaluate("is", num_samples=20_000)
    found = evaluate(method, **options)
    for each in found if method == "ais" else (found,):
        error = np.hypot(each.per_datapoint.standard_error, reference.per_datapoint.standard_error)
        difference = np.abs(each.per_datapoint.log_marginal - reference.per_datapoint.log_marginal)
        assert np.all(difference < 4.5 * error + 0.1)
    bound = aevb.evaluate(params, KEY, data, case.model, aevb.Estimator(100, case.estimator.kl))
    assert reference.mean > bound.elbo - 0.1


@pytest.mark.slow
def test_a_member_of_a_population_is_what_it_is_alone(x64, case):
    case = widened(case)
    keys, optimizer = jax.random.split(KEY, 2), aevb.paper_optimizer(0.1)
    settings = {"algorithm": trained_by(case), "optimizer": optimizer, "batch_size": BATCH_SIZE, "num_epochs": 2}
    members = aevb.fit_population(case.data, case.model, keys=keys, execution="side_by_side", **settings)
    for key, member in zip(keys, members, strict=True):
        alone = aevb.fit(case.data, case.model, key=key, **settings)
        assert_close(member.result.state, alone.state)
        assert member.result.history[-1].train_elbo == pytest.approx(alone.history[-1].train_elbo, rel=1e-9)


class Records:
    """A source of records with one datapoint each."""

    def __init__(self, data):
        self._data = jax.tree.map(np.asarray, data)

    def __len__(self) -> int:
        return num_rows(self._data)

    def __getitem__(self, index):
        return rows(self._data, index)


@pytest.mark.slow
def test_streamed_equals_resident(x64, case):
    case = widened(case)
    stream = aevb.Stream(Records(case.data), block_size=10)
    settings = {"num_epochs": 2, "optimizer": optax.adam(1e-2)}
    streamed, resident = fit(case, stream, **settings), fit(case, **settings)
    assert_close(streamed.state, resident.state)
    assert streamed.history[-1].train_elbo == pytest.approx(resident.history[-1].train_elbo, rel=1e-9)


@pytest.mark.slow
def test_resumed_equals_uninterrupted(case, tmp_path):
    """The run resumes from a checkpoint on disk, to the bit, in the same program."""
    checkpoints = Checkpoints(tmp_path)
    whole = fit(case, num_epochs=4, eval_every=2)
    half = fit(case, num_epochs=2, eval_every=2)
    checkpoints.save(half.state, 0.0, 0.0)
    restored = checkpoints.restore_latest(half.state)
    assert restored is not None
    rest = fit(case, num_epochs=4, eval_every=2, state=restored.state)
    assert_close(rest.state, whole.state, rtol=0)
    checkpoints.close()


@aevb.models.register("a_case_of_the_tests")
def case_by_name(name: str) -> aevb.Model:
    return CASES[name].model


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_saved_and_loaded(name, tmp_path):
    model = case_by_name(name)
    params = model.init(KEY)
    aevb.save(tmp_path / "saved", model, params)
    loaded, loaded_params = aevb.load(tmp_path / "saved")
    assert loaded == model
    assert_close(loaded_params, params, rtol=0)


EIGHT_DEVICES = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
from aevb import sharding
from tests.models import CASES
from tests.test_every_model import assert_close, fit, widened

assert len(jax.devices()) == 8
for name in sys.argv[1:]:
    case = widened(CASES[name])
    settings = {"num_epochs": 2, "eval_every": 2}
    alone = fit(case, **settings)
    with jax.set_mesh(sharding.make_mesh()):
        split = fit(case, **settings)
        assert len(split.state.step.sharding.device_set) == 8
    assert_close(jax.device_get(split.state.params), jax.device_get(alone.state.params))
    assert abs(split.history[-1].train_elbo - alone.history[-1].train_elbo) < 1e-9
    print(name)
"""


@pytest.mark.slow
def test_eight_devices_give_what_one_gives():
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-c", EIGHT_DEVICES, *CASES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == list(CASES)
