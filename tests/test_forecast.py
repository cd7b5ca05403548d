"""Forecasts of a series and completions of binary sequences: the baselines and scores, and the two commands."""

import itertools
import json

import numpy as np
import pytest

import aevb
from aevb import figures
from experiments.studies import key_chains, series
from experiments.studies.key_chains import KeyChains
from tests.processes import assert_one_line_error, experiment
from tests.test_experiments import size_of_png


def seasons(num_steps: int, seed: int = 0) -> np.ndarray:
    """Return a trend plus a season of 4 steps, `[T, 1]`."""
    steps = np.arange(num_steps)
    return (0.1 * steps + np.sin(np.pi / 2 * steps) + 0.1 * np.random.RandomState(seed).randn(num_steps))[:, None]


# Series


def test_changes_of_a_season_lead_back_to_the_values():
    values = seasons(30)
    differences = series.Differences.of(values[:20], 4, "mine")
    changes = differences.forward(values)
    assert changes.shape == (26, 1)
    np.testing.assert_allclose([changes[:16].mean(), changes[:16].std()], [0, 1], atol=1e-5)
    # From step 20, more than two seasons ahead.
    back = differences.back(changes[None, None, 16:26], values[None, :20])
    np.testing.assert_allclose(back[0, 0], values[20:30], atol=1e-5)
    # Each draw continues itself.
    two = np.stack([changes[16:26], changes[16:26] + 1])[None]
    others = differences.back(two, values[None, :20])[0]
    gained = np.repeat([1, 2, 3], 4)[:10, None] * differences.scale
    np.testing.assert_allclose(others[1] - others[0], gained, atol=1e-5)


def test_what_is_tested_has_no_part_in_what_is_fitted():
    values, others = seasons(40), seasons(40)
    others[30:] += 100
    of = lambda values: (
        series.Differences.of(values[:30], 4, ""),
        *(series.SeasonalNaive.of(values[:30], 4, 6, drift) for drift in ("mean", "last")),
    )
    for one, other in zip(of(values), of(others), strict=True):
        np.testing.assert_array_equal(one[-1], other[-1])


def test_a_seasonal_forecast_is_exact_where_there_is_no_noise():
    steps = np.arange(40)
    values = (2.0 * steps + np.array([0, 5, -3, 1])[steps % 4])[:, None]
    for drift in ("mean", "last"):
        naive = series.SeasonalNaive.of(values[:30], 4, 6, drift)
        draws = naive.draws(series.histories(values, np.array([30, 33]), 8), 6, 20)
        np.testing.assert_allclose(draws[0], np.broadcast_to(values[30:36], (20, 6, 1)), atol=1e-9)
        np.testing.assert_allclose(draws[1], np.broadcast_to(values[33:39], (20, 6, 1)), atol=1e-9)


def test_intervals_of_a_seasonal_forecast_hold_what_they_should():
    values = seasons(4000)
    naive = series.SeasonalNaive.of(values[:2000], 4, 6, "mean")
    origins = np.arange(2000, 3900, 7)
    draws = naive.draws(series.histories(values, origins, 8), 6, 200)
    transform = aevb.prediction.probability_integral_transform(draws, series.futures(values, origins, 6))
    np.testing.assert_allclose(aevb.prediction.coverage(transform, [0.5, 0.9]), [0.5, 0.9], atol=0.04)


def test_missing_steps_are_left_out_or_filled_by_their_season():
    values = seasons(20)
    values[[1, 9], 0] = np.nan
    found = series.filled(values, 4, np.array([0.4]))
    np.testing.assert_allclose(found[[1, 9], 0], [values[5, 0] - 0.4, values[5, 0] + 0.4])
    assert len(series.windows(np.where(np.arange(20)[:, None] < 5, np.nan, values), 3)) == 15
    np.testing.assert_array_equal(series.futures(values, np.array([18]), 3)[0, :, 0], [*values[18:, 0], np.nan])


# Keys


def test_chances_of_a_chain_are_those_of_all_its_paths():
    random = np.random.RandomState(0)
    chains = KeyChains(*random.uniform(0.1, 0.9, (3, 2)))
    xs = random.randint(0, 2, (3, 5, 2)).astype(float)
    xs[0, 1:4], xs[1, 3:], xs[2, 0, 1] = np.nan, np.nan, np.nan
    found = chains.chances(xs)
    for row, key in itertools.product(range(3), range(2)):
        first, begins, stays = (rate[key] for rate in chains)
        totals = np.zeros(5)
        whole = 0.0
        for path in itertools.product((0, 1), repeat=5):
            known = xs[row, :, key]
            if np.any(~np.isnan(known) & (known != path)):
                continue
            weight = first if path[0] else 1 - first
            for before, after in itertools.pairwise(path):
                rate = stays if before else begins
                weight *= rate if after else 1 - rate
            totals += weight * np.array(path)
            whole += weight
        np.testing.assert_allclose(found[row, :, key], totals / whole, atol=1e-12)


def test_rates_of_keys_are_their_counts():
    xs = np.tile(np.array([0, 0, 1, 1, 1, 0.0])[:, None], (1000, 1, 2))
    xs[:, 5, 1] = np.nan
    chains = KeyChains.of(xs)
    np.testing.assert_allclose(chains.frequency, [0.5, 0.6], atol=1e-3)
    np.testing.assert_allclose(chains.begins, [0.5, 0.5], atol=1e-3)
    np.testing.assert_allclose(chains.stays, [2 / 3, 1], atol=3e-3)


def test_the_log_likelihood_of_independent_keys():
    chances, held_out = np.array([[[0.5, 0.2], [0.9, 0.1]]]), np.array([[[1, 0], [np.nan, np.nan]]])
    found = key_chains.log_likelihood(chances, held_out)
    np.testing.assert_allclose(found, [[np.log(0.5) + np.log(0.8), np.nan]])


# Figures and commands


def test_figures_of_forecasts_are_drawn(tmp_path):
    random, steps = np.random.RandomState(0), np.arange(10.0)
    fan = figures.Fan("_$a", steps, random.randn(10), steps[5:], random.randn(20, 5))
    figures.save(figures.fans([fan, fan, fan], 2, "step", "title"), tmp_path / "fans.png")
    figures.save(figures.by_horizon({"a": steps, "b": steps * np.nan}, "score", "title"), tmp_path / "scores.png")
    chances = random.uniform(size=2000)
    outcomes = np.where(random.uniform(size=2000) < chances, 1.0, 0.0)
    outcomes[:5] = np.nan
    figures.save(figures.reliability({"a": chances, "b": chances**2}, outcomes, "title"), tmp_path / "reliability.png")
    assert all(min(size_of_png(tmp_path / f"{name}.png")) > 200 for name in ("fans", "scores", "reliability"))


SMALL = (
    "--season=4", "--window=6", "--num_valid=12", "--horizon=5", "--num_epochs=2", "--num_draws=20", "--latent_dim=1,2",
    "--hidden_dim=3",
)  # fmt: skip


@pytest.mark.slow
def test_a_series_of_ones_own(tmp_path):
    values = 10 * seasons(80)
    values[33] = np.nan
    np.savez(tmp_path / "mine.npz", values=values[:, 0])
    arguments = (f"--data={tmp_path / 'mine.npz'}", f"--workdir={tmp_path / 'run'}", *SMALL)
    done = experiment("forecast", *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["num_steps"] == {"fit": 52, "valid": 12, "test": 16}
    assert [row["latent_dim"] for row in results["tried"]["deep_markov"]] == [1, 2]
    by_horizon = results["by_horizon"]["season before + mean drift"]
    assert [row["horizon"] for row in by_horizon] == [1, 2, 3, 4, 5]
    assert by_horizon[0]["mae"] < 3  # the noise of a change is 10 * 0.1 * 2^0.5
    assert all((tmp_path / "run" / f"{name}.png").stat().st_size > 1e4 for name in ("forecasts", "scores"))
    assert_one_line_error(experiment("forecast", *arguments), "holds results already")


@pytest.mark.slow
def test_sequences_of_a_run_are_completed(tmp_path):
    random = np.random.RandomState(0)
    values = random.randint(0, 2, (30, 8, 7)).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", values=values, lengths=random.randint(4, 9, 30))
    run = tmp_path / "run"
    sizes = ("--latent_dim=2", "--emission_dim=3", "--transition_dim=3", "--rnn_dim=3", "--num_epochs=1")
    trained = experiment("sequences", f"--data={tmp_path / 'mine.npz'}", f"--workdir={run}", *sizes)
    assert trained.returncode == 0, trained.stderr
    arguments = (f"--run={run}", "--num_draws=5", "--num_particles=10", "--horizon=3", "--stretch=2")
    done = experiment("complete_sequences", *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads((run / "completions" / "results.json").read_text())
    assert [row["missing"] for row in results["rows"]] == [
        "the second half, 3 steps", "1 ahead", "2 ahead", "a stretch in the middle",
    ]  # fmt: skip
    for row in results["rows"]:  # a coin for each of 7 values
        assert row["frequency of each key"] == pytest.approx(7 * np.log(0.5), abs=0.5)
        assert row["the run's model"] == pytest.approx(7 * np.log(0.5), abs=2)
    assert (run / "completions" / "forecast_reliability.png").stat().st_size > 1e4
    assert_one_line_error(experiment("complete_sequences", *arguments), "holds results already")


def test_mistakes_of_the_commands_are_one_line(tmp_path):
    short, table = tmp_path / "short.npz", tmp_path / "table.npz"
    np.savez(short, values=seasons(60))
    np.savez(table, x=np.zeros(60))
    for command, flags, message in (
        ("forecast", (f"--data={short}",), "short is too short: 0 steps are left to fit"),
        ("forecast", (f"--data={table}",), "has no array `values`, but x"),
        ("forecast", (f"--data={short}", "--dataset=co2"), "give one of them"),
        ("forecast", ("--models=forest",), "--models takes one or more of deep_markov,linear_gaussian, got forest"),
        ("complete_sequences", (), "--run must name a run folder"),
        ("complete_sequences", (f"--run={tmp_path}",), "is not a run folder"),
    ):
        assert_one_line_error(experiment(command, *flags, f"--workdir={tmp_path / 'run'}"), message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 30, 1)), "numbers of one series"),
        (np.array(["a"] * 30), "numbers of one series"),
        (np.full(30, np.inf), "infinite somewhere"),
    ],
)
def test_bad_series_are_refused(tmp_path, values, message):
    np.savez(tmp_path / "mine.npz", values=values)
    with pytest.raises(aevb.data.DatasetError, match=message):
        series.own(str(tmp_path / "mine.npz"), None)
