"""A class known for few datapoints: the bound with it summed out, against float64 NumPy, and the algorithm."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import aevb
from aevb import algorithms, discrete
from aevb.algorithms.semi_supervised import mean_log_class
from aevb.checkpoints import Checkpoints
from aevb.data.rows import rows

KEY = jax.random.key(0)
WIDTH, LATENT, CLASSES, SIZE = 6, 2, 3, 40


def build(param_dtype: str = "float32", **arguments) -> aevb.Model:
    return aevb.models.semi_supervised_vae((WIDTH,), LATENT, CLASSES, 5, param_dtype=param_dtype, **arguments)


def make_data(num_known: int = 12) -> aevb.Given:
    """Return three noisy prototypes; the labels of all but the first `num_known` are hidden."""
    rng = np.random.RandomState(0)
    labels = np.arange(SIZE) % CLASSES
    prototypes = rng.rand(CLASSES, WIDTH) > 0.5
    xs = np.where(rng.rand(SIZE, WIDTH) < 0.9, prototypes[labels], 1 - prototypes[labels])
    return aevb.Given(xs.astype(np.float32), np.where(np.arange(SIZE) < num_known, labels, -1))


def fit(data: aevb.Given, model: aevb.Model, labelled: aevb.Given, weight: float = 1.0, **settings) -> aevb.FitResult:
    algorithm = functools.partial(algorithms.semi_supervised, labelled=labelled, classifier_weight=weight)
    settings = {"optimizer": optax.adam(3e-2), "batch_size": 10, "num_epochs": 4, "map_prior": False} | settings
    return aevb.fit(data, model, key=KEY, algorithm=algorithm, **settings)


def labelled_part(data: aevb.Given) -> aevb.Given:
    return rows(data, np.flatnonzero(data.condition >= 0))


# In NumPy, from the parameters


def network(params, *inputs: np.ndarray) -> np.ndarray:
    """Return one hidden softplus layer. Every input has its own product, the first of which contains the bias."""
    hidden = inputs[0] @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    for number, other in enumerate(inputs[1:], start=1):
        hidden = hidden + other @ params[f"Dense_{number}"]["kernel"]
    head = params[f"Dense_{len(inputs)}"]
    return np.logaddexp(0, hidden) @ head["kernel"] + head["bias"]


def bound_of_class(params, x: np.ndarray, label: int, noise: np.ndarray) -> float:
    """Return L(x|y) by eq. 7 of the first paper, for one draw."""
    one_hot = np.eye(CLASSES)[label]
    mean, log_variance = np.split(network(params["encoder"]["z"], x, one_hot), 2)
    logits = network(params["decoder"], mean + np.exp(0.5 * log_variance) * noise, one_hot)
    kl = -0.5 * np.sum(1 + log_variance - mean**2 - np.exp(log_variance))
    return float(np.sum(x * logits - np.logaddexp(0, logits)) - kl)


def log_classes(params, x: np.ndarray) -> np.ndarray:
    logits = network(params["encoder"]["y"], x)
    return logits - np.logaddexp.reduce(logits)


def float64_params(model: aevb.Model, seed: int = 0):
    """Return parameters far from 0, so that no term is small."""
    shapes = jax.eval_shape(model.init, KEY)
    rng = np.random.RandomState(seed)
    return jax.tree.map(lambda leaf: rng.randn(*leaf.shape), shapes)


def noise_of(key: jax.Array, num_draws: int = 1) -> jax.Array:
    """Return the noise `[L, J]` of the one remaining level if the class is given, as a `Chain` draws it."""
    standard = dist.Normal(jnp.zeros(LATENT), jnp.ones(LATENT)).to_event(1)
    return aevb.Chain(z=standard).sample(key, (num_draws,))["z"]


summed_out = jax.jit(discrete.summed_out_elbo, static_argnums=(3, 4))


def test_a_summed_out_class_is_enumeration_in_numpy(x64):
    model = build("float64")
    params, x = float64_params(model), np.asarray(make_data().value[0], np.float64)
    noise = np.asarray(noise_of(KEY)[0])
    log_q = log_classes(params, x)
    by_class = [bound_of_class(params, x, label, noise) for label in range(CLASSES)]
    expected = np.sum(np.exp(log_q) * (np.array(by_class) - np.log(CLASSES) - log_q))
    found = summed_out(params, KEY, aevb.Given(x, -1), model)
    assert found == pytest.approx(expected, rel=1e-12)
    for label in range(CLASSES):
        of_label = summed_out(params, KEY, aevb.Given(x, label), model)
        assert of_label == pytest.approx(by_class[label], rel=1e-12)
    np.testing.assert_allclose(
        discrete.class_probabilities(params, aevb.Given(x[None], np.array([-1])), model)[0], np.exp(log_q), rtol=1e-12
    )


def test_a_summed_out_class_is_the_mean_over_draws_of_it():
    """The library's own bound and score-function gradient draw the class; their means agree."""
    model, x = build(), aevb.Given(jnp.asarray(make_data().value[0]), -1)
    params = jax.tree.map(lambda leaf: jnp.asarray(0.5 * leaf, jnp.float32), float64_params(model))
    keys = jax.random.split(KEY, 3_000)
    drawn = functools.partial(aevb.elbo, num_samples=4, kl="sampled", gradient="score_function_leave_one_out")
    exact = functools.partial(discrete.summed_out_elbo, num_samples=4, kl="analytic")
    found = {}
    for name, bound in (("drawn", drawn), ("exact", exact)):
        each = jax.jit(jax.vmap(jax.value_and_grad(bound), (None, 0, None, None)), static_argnums=3)
        values, gradients = each(params, keys, x, model)
        flat = np.concatenate([np.asarray(leaf).reshape(len(keys), -1) for leaf in jax.tree.leaves(gradients)], axis=1)
        found[name] = np.concatenate([np.asarray(values)[:, None], flat], axis=1)
    (drawn_all, exact_all) = found["drawn"], found["exact"]
    error = np.sqrt((drawn_all.var(0) + exact_all.var(0)) / len(keys))
    assert np.all(np.abs(drawn_all.mean(0) - exact_all.mean(0)) < 5 * error + 1e-6)
    assert np.sum(exact_all.var(0)) < np.sum(drawn_all.var(0))


def test_the_gradient_is_that_of_finite_differences(x64):
    model = build("float64")
    params, x = float64_params(model), aevb.Given(np.asarray(make_data().value[1], np.float64), -1)
    direction = float64_params(model, seed=1)
    bound = jax.jit(lambda step: discrete.summed_out_elbo(
        jax.tree.map(lambda a, b: a + step * b, params, direction), KEY, x, model
    ))  # fmt: skip
    slope = (bound(1e-5) - bound(-1e-5)) / 2e-5
    assert jax.grad(bound)(0.0) == pytest.approx(float(slope), rel=1e-6)


def test_a_known_class_is_the_conditional_bound_and_the_prior_of_it(x64):
    """L(x, y) is the bound on log p(x|y) plus log p(y), which `Given` omits. No class is drawn."""
    model = build("float64")
    params, x = float64_params(model), np.asarray(make_data().value[0], np.float64)
    noises = np.asarray(noise_of(KEY, 20))
    by_level = jax.jit(functools.partial(aevb.elbo_terms, kl="sampled", gradient="score_function"), static_argnums=3)
    for label in range(CLASSES):
        given = aevb.Given(x, label)
        terms = by_level(params, KEY, given, model)
        assert terms.kl_by_level["y"] == 0
        log_joint = summed_out(params, KEY, given, model, 20) - np.log(CLASSES)
        expected = np.mean([bound_of_class(params, x, label, noise) for noise in noises])
        assert log_joint == pytest.approx(expected - np.log(CLASSES), rel=1e-10)


def test_the_loss_is_the_papers_objective_per_datapoint(x64):
    """It is J^a / N of eq.

    9 without the constant log p(y) of labelled data. With all labelled it is the supervised one.
    """
    model, weight = build("float64"), 0.7
    for num_known in (12, SIZE):
        data = make_data(num_known)
        data = data._replace(value=data.value.astype(np.float64))
        labelled = labelled_part(data)
        algorithm = algorithms.semi_supervised(
            model, optax.sgd(0.0), SIZE, False, labelled=labelled, num_labelled=SIZE, classifier_weight=weight
        )
        state = algorithm.init(KEY)
        _, loss = jax.jit(algorithm.step)(state, jax.tree.map(jnp.asarray, data), jnp.arange(SIZE))
        bound_key = jax.random.split(jax.random.split(state.key)[1])[1]
        bounds = []
        params = jax.tree.map(np.asarray, state.params)
        noises = jax.vmap(noise_of)(jax.random.split(bound_key, SIZE))
        for x, label, noise in zip(*data, np.asarray(noises)[:, 0], strict=True):
            by_class = np.array([bound_of_class(params, x, each, noise) for each in range(CLASSES)])
            log_q = log_classes(params, x)
            unknown = np.sum(np.exp(log_q) * (by_class - np.log(CLASSES) - log_q))
            bounds.append(unknown if label < 0 else by_class[label])
        log_class = np.mean([log_classes(params, x)[label] for x, label in zip(*labelled, strict=True)])
        assert loss == pytest.approx(-np.mean(bounds) - weight * log_class, rel=1e-10)
        assert mean_log_class(state.params, jax.tree.map(jnp.asarray, labelled), model) == pytest.approx(log_class)


def test_labelled_data_may_weigh_more_in_the_bound(x64):
    """The further term is b times the mean of L(x|y) over labelled data, by NumPy."""
    model, weight = build("float64"), 0.3
    data = make_data()
    data = data._replace(value=data.value.astype(np.float64))
    labelled = labelled_part(data)
    losses = []
    for each in (0.0, weight):
        algorithm = algorithms.semi_supervised(
            model, optax.sgd(0.0), SIZE, False, labelled=labelled, classifier_weight=0.7, labelled_weight=each
        )
        state = algorithm.init(KEY)
        losses.append(jax.jit(algorithm.step)(state, jax.tree.map(jnp.asarray, data), jnp.arange(SIZE))[1])
    known_key = jax.random.fold_in(jax.random.split(jax.random.split(state.key)[1])[0], 2)
    noises = jax.vmap(noise_of)(jax.random.split(known_key, len(labelled.condition)))
    params = jax.tree.map(np.asarray, state.params)
    bounds = [
        bound_of_class(params, x, label, noise)
        for x, label, noise in zip(*labelled, np.asarray(noises)[:, 0], strict=True)
    ]
    assert losses[0] - losses[1] == pytest.approx(weight * np.mean(bounds), rel=1e-10)


def test_it_learns_classes_from_few_labels():
    """With unlabelled data and one label per prototype, nearly all are classified, and samples have their class."""
    data, model = make_data(), build()
    result = fit(data, model, labelled_part(data), num_epochs=150, eval_every=150)
    assert result.history[-1].train_elbo > result.history[0].train_elbo + 0.5
    probabilities = discrete.class_probabilities(
        result.state.params, data._replace(condition=np.full(SIZE, -1)), model, chunk_size=7
    )
    assert probabilities.shape == (SIZE, CLASSES)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert np.mean(probabilities.argmax(1) == np.arange(SIZE) % CLASSES) > 0.8
    made_up = aevb.posterior.sample(result.state.params, KEY, 200, model, condition=1)
    of_class = data.value[np.arange(SIZE) % CLASSES == 1]
    assert np.abs(made_up.mean(0) - of_class.mean(0)).max() < 0.25


def test_resumed_equals_uninterrupted_and_test_data_change_nothing(tmp_path):
    data, model = make_data(), build()
    settings = {"labelled": labelled_part(data), "binarization": "stochastic", "eval_every": 2}
    whole = fit(data, model, num_epochs=4, **settings)
    half = fit(data, model, num_epochs=2, test_data=rows(data, slice(5)), **settings)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(half.state, 0.0, 0.0)
    restored = checkpoints.restore_latest(half.state)
    checkpoints.close()
    assert restored is not None
    rest = fit(data, model, num_epochs=4, state=restored.state, test_data=rows(data, slice(20)), **settings)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), rest.state.params, whole.state.params))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 3]), "labels of labelled data must be from 0 to 2, got 0 to 3"),
        (np.array([-1, 1]), "labels of labelled data must be from 0 to 2, got -1 to 1"),
    ],
)
def test_labels_out_of_range_are_refused(labels, message):
    data = make_data()
    with pytest.raises(ValueError, match=message):
        fit(data, build(), aevb.Given(data.value[:2], labels))


def test_what_has_no_class_to_sum_out_is_refused():
    data, plain = make_data(), aevb.mlp_vae((WIDTH,), LATENT, 5)
    with pytest.raises(TypeError, match=r"encode must return an aevb\.Chain of a class and other levels"):
        discrete.summed_out_elbo(plain.init(KEY), KEY, data.value[0], plain)
    with pytest.raises(TypeError, match=r"labelled must be aevb\.Given\(x, label\)"):
        fit(data, build(), data.value)
    with pytest.raises(ValueError, match="classifier_weight must be non-negative"):
        fit(data, build(), labelled_part(data), weight=-1.0)
    with pytest.raises(ValueError, match="labelled_weight must be non-negative and finite, got nan"):
        algorithms.semi_supervised(
            build(), optax.sgd(0.1), SIZE, labelled=labelled_part(data), labelled_weight=float("nan")
        )
    with pytest.raises(ValueError, match="the label must be from 0 to 2, or -1 if it is unknown, got 3"):
        aevb.elbo(build().init(KEY), KEY, aevb.Given(data.value[0], 3), build())
    with pytest.raises(TypeError, match="the label must be an integer, -1 if it is unknown"):
        aevb.elbo(build().init(KEY), KEY, aevb.Given(data.value[0], 1.0), build())
