"""Classification of sequences: Bayes' rule and calibration by hand, the learning of each class, and the command."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import Distribution

import aevb
from aevb import Given, hidden_markov
from aevb.classification import bayes_rule, reliability
from aevb.models import conditional_deep_markov_vae, deep_markov_vae
from experiments.studies import actions_data, actions_dmm_per_class, actions_hmm, actions_runs
from experiments.studies.actions_data import Task
from experiments.studies.actions_dmm import DeepMarkovSettings
from experiments.studies.actions_hmm import HiddenMarkovSettings
from experiments.studies.actions_scores import confusion, scores, summary
from tests.models import DATA
from tests.processes import assert_one_line_error, experiment
from tests.test_experiments import size_of_png

KEY = jax.random.key(0)


# Bayes' rule and calibration, by hand


def test_bayes_rule_by_hand():
    """Two sequences and two classes: 0.25 * 0.4 against 0.75 * 0.1, and 0.25 * 0.2 against 0."""
    found = bayes_rule(np.log([[0.4, 0.1], [0.2, 1e-320]]), np.log([0.25, 0.75]))
    np.testing.assert_allclose(found.probabilities, [[0.1 / 0.175, 0.075 / 0.175], [1, 0]], atol=1e-12)
    np.testing.assert_allclose(found.log_joint[0], np.log([0.1, 0.075]))
    assert found.labels.tolist() == [0, 0]
    assert bayes_rule(np.log([[0.4, 0.5]])).labels.tolist() == [1]
    # Densities of long sequences exceed the range of floats; only their differences matter.
    far = bayes_rule([[-9000.0, -9001.0], [-np.inf, 7000.0]]).probabilities
    np.testing.assert_allclose(far, [[1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))], [0, 1]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.0, np.nan]], "datapoint 0 has"),
        ([[0.0, 1.0], [0.0, np.inf]], "datapoint 1 has"),
        ([[0.0, 1.0], [-np.inf, -np.inf]], "datapoint 1 is impossible under every class"),
        ([0.0, 1.0], r"must have the shape \[N, K\], got \(2,\)"),
        ([[0.0, 1.0, 2.0]], r"log_prior must have shape \[3\]"),
    ],
)
def test_what_is_no_log_likelihood_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        bayes_rule(values, np.log([0.5, 0.5]))


def test_reliability_by_hand():
    """Five datapoints in two bins of the highest probability: [0.5, 0.75) and [0.75, 1]."""
    highest, is_right = np.array([0.6, 0.7, 0.8, 1.0, 0.9]), np.array([True, False, True, True, False])
    found = reliability(np.stack([highest, 1 - highest], axis=1), np.where(is_right, 0, 1), num_bins=4)
    np.testing.assert_allclose(found.edges, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found.counts, [0, 0, 2, 3])
    np.testing.assert_allclose(found.confidence, [np.nan, np.nan, 0.65, 0.9])
    np.testing.assert_allclose(found.accuracy, [np.nan, np.nan, 1 / 2, 2 / 3])
    assert found.expected_error == pytest.approx((2 * 0.15 + 3 * (0.9 - 2 / 3)) / 5)
    with pytest.raises(ValueError, match="each row must sum to one"):
        reliability([[0.5, 0.6]], [0])
    with pytest.raises(ValueError, match=r"got \(1, 2\) and \(2,\)"):
        reliability([[0.5, 0.5]], [0, 1])


def test_probabilities_that_are_true_are_calibrated():
    random = np.random.RandomState(0)
    probabilities = random.dirichlet([0.5, 0.5, 0.5], 20_000)
    labels = np.array([random.choice(3, p=row) for row in probabilities[:4000]])
    assert reliability(probabilities[:4000], labels).expected_error < 0.02
    sharper = probabilities[:4000] ** 3
    assert reliability(sharper / sharper.sum(1, keepdims=True), labels).expected_error > 0.1


def test_scores_by_hand():
    x = np.zeros((2, 3, 1), np.float32)
    x[1, 2:] = np.nan  # five steps in total
    values = np.log([[0.4, 0.1], [0.3, 0.2]])
    found = scores(values, Given(x, np.array([0, 1])), np.log([0.5, 0.5]))
    assert found.accuracy == 0.5
    assert found.log_class == pytest.approx((np.log(0.8) + np.log(0.4)) / 2)
    assert found.calibration_error == pytest.approx((0.2 + 0.6) / 2)
    assert found.log_likelihood_per_step == pytest.approx((np.log(0.4) + np.log(0.2)) / 5)
    assert confusion(bayes_rule(values), np.array([0, 1])).tolist() == [[1, 0], [1, 0]]
    both = summary([found._asdict(), found._replace(accuracy=1.0)._asdict()])
    assert (both["accuracy"], both["accuracy_sd"], both["seeds"]) == (0.75, pytest.approx(0.5**0.5 / 2), 2)
    assert summary([found._asdict()])["accuracy_sd"] is None


# The data


def test_training_sequences_alone_standardize():
    random = np.random.RandomState(0)
    train = (random.randn(20, 6, 3) * [1, 50, 0] + [0, 7, 3]).astype(np.float32)
    train[:, 4:] = np.nan
    one, of_test = actions_data.standardized(train, 10 * train)
    np.testing.assert_allclose(np.nanmean(one, (0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(np.nanstd(one, (0, 1)), [1, 1, 0], atol=1e-5)
    assert np.isnan(one[:, 4:]).all()
    np.testing.assert_array_equal(one, actions_data.standardized(train, train[:1])[0])
    assert np.nanmax(of_test) > 5 * np.nanmax(one)


def test_folds_divide_every_class_evenly_by_the_seed():
    labels = np.repeat([0, 1, 2], [10, 11, 4])
    folds = actions_data.stratified_folds(labels, 4, 0)
    for label, counts in ((0, [3, 3, 2, 2]), (1, [3, 3, 3, 2]), (2, [1, 1, 1, 1])):
        assert np.bincount(folds[labels == label]).tolist() == counts
    assert not np.array_equal(folds, actions_data.stratified_folds(labels, 4, 1))
    np.testing.assert_allclose(np.exp(actions_data.log_frequencies(labels, 3)), [0.4, 0.44, 0.16])


# A hidden Markov model of each class


def waves(num: int, seed: int = 0) -> Given:
    """Sequences of 3 to 8 steps: class 0 stays constant, class 1 alternates. Some are short."""
    random = np.random.RandomState(seed)
    labels = np.arange(num) % 2
    signs = np.where(labels[:, None] == 1, (-1.0) ** np.arange(8), 1.0) * random.choice([-1, 1], (num, 1))
    x = (signs[..., None] + 0.3 * random.randn(num, 8, 2)).astype(np.float32)
    x[np.arange(8) >= random.randint(3, 9, (num, 1))] = np.nan
    return Given(x, labels.astype(np.int32))


SETTINGS = HiddenMarkovSettings(num_states=2, variance_floor=1e-3, pseudo_count=0.1, num_iterations=5, num_restarts=2)


def test_all_classes_at_once_are_what_each_is_alone():
    """Padding of classes to one size changes nothing. The best restart of each class is kept."""
    x, labels = waves(15)
    params = actions_hmm.learn(x, labels, 2, SETTINGS, seed=3)
    found = actions_hmm.log_likelihoods(params, x, SETTINGS)
    for label, key in enumerate(jax.random.split(jax.random.key(3), 2)):
        of_class = jnp.asarray(x[labels == label])
        padded = actions_data.by_class(x, labels, 2)[label]
        best, highest = None, -np.inf
        for start_key in jax.random.split(key, 2):
            each = hidden_markov.initialize(start_key, jnp.asarray(padded), 2, SETTINGS.emission)
            for _ in range(5):
                each, _ = hidden_markov.em_step(each, of_class, SETTINGS.emission)
            value = float(jnp.sum(hidden_markov.log_likelihood(each, of_class, SETTINGS.emission)))
            best, highest = (each, value) if value > highest else (best, highest)
        alone = hidden_markov.log_likelihood(best, jnp.asarray(x), SETTINGS.emission)
        np.testing.assert_allclose(found[:, label], alone, rtol=1e-3, atol=1e-2)


def test_what_only_transitions_tell_apart_is_classified():
    """The two classes have the same steps in different order."""
    train, test = waves(40), waves(60, seed=1)
    settings = dataclasses.replace(SETTINGS, num_iterations=15)
    found = actions_hmm.learned_log_likelihoods(train, test.value, 2, settings, seed=0)
    assert scores(found, test, np.log([0.5, 0.5])).accuracy > 0.95


# Settings by cross-validation, and what is kept


def task_of(num: int = 12) -> Task:
    return Task("waves", waves(num), waves(6, seed=1), ("still", "swinging"))


def answers(train, x, num_classes, settings, seed, *, calls, right_share):
    """Return a classifier whose accuracy `right_share` gives by the number of states."""
    calls.append((settings.num_states, seed, len(train.condition), len(x)))
    labels = waves(12).condition if len(x) != 6 else waves(6, seed=1).condition
    known = {row.tobytes(): label for row, label in zip(waves(12).value, labels, strict=False)}
    of_x = np.array([known.get(row.tobytes(), 0) for row in x])
    found = np.full((len(x), num_classes), -1.0)
    found[np.arange(len(x)), of_x] = right_share[settings.num_states]
    return found


def test_the_most_accurate_settings_are_chosen_and_tried_once(tmp_path):
    """Ties go to the more confident settings. Each training sequence is held out once. Saved scores are reused."""
    calls: list = []
    candidates = [HiddenMarkovSettings(size, 1e-3, 0.1, 5, 1) for size in (2, 3, 4)]
    function = functools.partial(answers, calls=calls, right_share={2: -2.0, 3: 1.0, 4: 0.5})
    for _ in range(2):
        chosen, tried = actions_runs.choose(tmp_path / "s.json", task_of(), candidates, function, 3, seed=7)
        assert chosen.num_states == 3
        assert [row["accuracy"] for row in tried] == [0.0, 1.0, 1.0]
        assert calls == [(size, 7, 8, 4) for size in (2, 3, 4) for _ in range(3)]
    assert actions_runs.choose(tmp_path / "s.json", task_of(), candidates[:1], function, 3, seed=7)[0] == candidates[0]
    assert len(calls) == 9
    actions_runs.choose(tmp_path / "s.json", task_of(), candidates[:2], function, 3, seed=8)
    assert len(calls) == 15


def test_a_finished_seed_is_read_and_another_setting_is_refused(tmp_path):
    calls: list = []
    function = functools.partial(answers, calls=calls, right_share={2: 1.0, 3: 1.0})
    path, settings = tmp_path / "seed.json", HiddenMarkovSettings(2, 1e-3, 0.1, 5, 1)
    one, other = (actions_runs.test(path, task_of(), settings, function, seed=1) for _ in range(2))
    assert calls == [(2, 1, 12, 6)]
    np.testing.assert_array_equal(one.log_likelihoods, other.log_likelihoods)
    assert one.row == other.row
    changed = HiddenMarkovSettings(3, 1e-3, 0.1, 5, 1)
    with pytest.raises(aevb.checkpoints.RunError, match="holds a run with num_states 2, not 3"):
        actions_runs.test(path, task_of(), changed, function, seed=1)
    path.write_text('{"seed": 1}')
    with pytest.raises(aevb.checkpoints.RunError, match="is damaged"):
        actions_runs.test(path, task_of(), settings, function, seed=1)


# A deep Markov model given the class

SHAPE, SIZES = (6, 3), {"latent_dim": 2, "emission_dim": 6, "transition_dim": 4, "rnn_dim": 6}


def with_label_at(params, num_classes: int, label: int):
    """Return the parameters of the same model without a label, whose effect is an additional bias of each network."""

    def absorbed(dense, at):
        kernel, rows = dense["kernel"], slice(at, at + num_classes)
        bias = dense["bias"] + kernel[at + label]
        return dense | {"kernel": jnp.delete(kernel, jnp.arange(rows.start, rows.stop), axis=0), "bias": bias}

    theta, latent_dim = params["decoder"], SIZES["latent_dim"]
    transition = theta["transition"] | {
        name: absorbed(theta["transition"][name], latent_dim) for name in ("hidden", "linear")
    }
    emission = theta["emission"] | {"Dense_0": absorbed(theta["emission"]["Dense_0"], latent_dim)}
    return {"transition": transition, "emission": emission, "start": theta["start"][label]}


def markov(distribution: Distribution) -> aevb.Markov:
    assert isinstance(distribution, aevb.Markov)
    return distribution


def test_each_class_is_a_deep_markov_model_of_its_own(x64):
    """The prior and likelihood are those without a label, with the label's effect in the biases."""
    model = conditional_deep_markov_vae(SHAPE, 4, **SIZES, param_dtype="float64")
    plain = deep_markov_vae(SHAPE, **SIZES, param_dtype="float64")
    noise = lambda leaf: leaf + 0.3 * jax.random.normal(KEY, leaf.shape, leaf.dtype)
    params = jax.tree.map(noise, model.init(KEY))
    z = jax.random.normal(KEY, (6, 2), np.float64)
    x = DATA["sequences"][0].astype(np.float64)
    for label in (0, 3):
        theta = {"decoder": with_label_at(params, 4, label)}
        given, own = markov(model.prior(params, label)), markov(plain.prior(theta))
        np.testing.assert_allclose(given.log_probs(z), own.log_probs(z), rtol=1e-10)
        np.testing.assert_allclose(model.decode(params, z, label).log_prob(x), plain.decode(theta, z).log_prob(x))
    bound = jax.jit(lambda label: aevb.elbo(params, KEY, Given(x, label), model))
    assert len({round(float(bound(label)), 6) for label in range(4)}) == 4


def test_padding_costs_nothing_given_a_label(x64):
    longer = conditional_deep_markov_vae((11, 3), 4, **SIZES, param_dtype="float64")
    model = conditional_deep_markov_vae(SHAPE, 4, **SIZES, param_dtype="float64")
    params, xs = model.init(KEY), DATA["sequences"][:2].astype(np.float64)
    padded = np.concatenate([xs, np.full((2, 5, 3), np.nan)], axis=1)
    for x, long in zip(xs, padded, strict=True):
        one, other = markov(model.encode(params, x, 1)), markov(longer.encode(params, long, 1))
        z, prior = other.sample(KEY), markov(longer.prior(params, 1))
        np.testing.assert_allclose(one.log_probs(z[:6]), other.log_probs(z)[:6], rtol=1e-9)
        np.testing.assert_allclose(other.log_probs(z)[6:], prior.log_probs(z)[6:], rtol=1e-9)
        np.testing.assert_allclose(
            model.decode(params, z[:6], 1).log_prob(x), longer.decode(params, z, 1).log_prob(long), rtol=1e-9
        )


def test_mistakes_of_a_label_are_one_line():
    model = conditional_deep_markov_vae(SHAPE, 4, **SIZES)
    params, x = model.init(KEY), DATA["sequences"][0]
    for call, error, words in (
        (lambda: aevb.elbo(params, KEY, Given(x, 4), model), ValueError, "a label from 0 to 3, got 4"),
        (lambda: aevb.elbo(params, KEY, x, model), TypeError, "Given"),
        (lambda: conditional_deep_markov_vae(SHAPE, 1), ValueError, "num_classes must be at least 2, got 1"),
        (lambda: conditional_deep_markov_vae((18,), 3), ValueError, "data_shape must be [T, D]"),
    ):
        with pytest.raises(error) as caught:
            call()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


# A deep Markov model of each class

DEEP = DeepMarkovSettings(
    latent_dim=2, hidden_dim=8, num_epochs=250, learning_rate=1e-2, weight_decay=0.01, batch_size=10, num_particles=10
)


def test_a_deep_markov_model_of_each_class_learns_from_that_class_alone():
    """The models separate classes that have the same steps in different order."""
    train, test = waves(40), waves(40, seed=1)
    params = actions_dmm_per_class.learn(*train, 2, DEEP, seed=0)
    others = train.value.copy()
    others[train.condition == 1] *= -3.0
    again = actions_dmm_per_class.learn(others, train.condition, 2, DEEP, seed=0)
    for label, is_same in ((0, True), (1, False)):
        leaves = zip(*(jax.tree.leaves(each[label]) for each in (params, again)), strict=True)
        assert all(np.array_equal(one, other) for one, other in leaves) is is_same
    found = actions_dmm_per_class.log_likelihoods(params, test.value, DEEP, seed=0)
    assert found.shape == (40, 2)
    assert scores(found, test, np.log([0.5, 0.5])).accuracy > 0.85


# The command

SMALL = (
    "--dataset=basic_motions", "--num_states=2,3", "--variance_floor=0.01", "--num_iterations=2", "--num_folds=2",
    "--latent_dim=2", "--hidden_dim=8", "--num_epochs=2", "--num_particles=3", "--seed=0,1",
)  # fmt: skip


@pytest.mark.slow
def test_both_models_from_one_command_and_again(real_data, data_dir, tmp_path):
    command = (*SMALL, f"--data_dir={data_dir}", f"--source_dir={real_data}", f"--workdir={tmp_path}")
    done = experiment("actions", *command)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["num_train"], results["num_test"]) == (40, 40)
    hmm, dmm = results["models"]["hmm"], results["models"]["dmm"]
    assert [row["num_states"] for row in hmm["tried"]] == [2, 3]
    assert hmm["summary"]["accuracy"] > 0.6  # of four classes, after two steps of EM
    assert hmm["summary"]["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in hmm["seeds"]]))
    assert dmm["tried"] == []
    assert "published: nearest neighbour, dynamic time warping" in done.stdout
    assert all(min(size_of_png(tmp_path / f"{name}.png")) > 300 for name in ("confusion", "calibration"))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*seed-*.json")}
    assert len(kept) == 4
    next(iter(kept)).unlink()  # as if it had been killed before that seed
    again = experiment("actions", *command)
    assert again.returncode == 0, again.stderr
    assert sum(path.stat().st_mtime_ns == before for path, before in kept.items()) == 3
    repeated = json.loads((tmp_path / "results.json").read_text())["models"]
    for model in ("hmm", "dmm"):
        assert repeated[model]["summary"]["accuracy"] == results["models"][model]["summary"]["accuracy"]
    other = experiment("actions", *command, "--latent_dim=3", "--model=dmm")
    assert_one_line_error(other, "holds a run with latent_dim 2, not 3: choose another --workdir")


def test_mistakes_of_the_command_are_one_line(real_data, data_dir, tmp_path):
    data = (f"--data_dir={data_dir}", f"--source_dir={real_data}")
    (tmp_path / "file").write_text("")
    for flags, message in {
        ("--model=forest",): "--model takes one or more of hmm,dmm,dmm_per_class, got forest",
        ("--seed=0,0",): "--seed takes different integers separated by commas",
        ("--dataset=mnist",): "value should be one of <basic_motions|japanese_vowels>",
        ("--num_states=2,x",): "--num_states takes integers separated by commas, got 2,x",
        ("--variance_floor=0",): "--variance_floor must be positive",
        ("--num_folds=11", "--dataset=basic_motions", *data): "--num_folds must be at most 10",
        (f"--workdir={tmp_path / 'file'}", "--dataset=basic_motions", *data): "file: File exists",
    }.items():
        workdir = () if any("workdir" in flag for flag in flags) else (f"--workdir={tmp_path / 'run'}",)
        assert_one_line_error(experiment("actions", *flags, *workdir), message)
    assert not (tmp_path / "run").exists()
