"""Training and evaluation of a `Stream` against data in memory, in double precision."""

import dataclasses
import functools
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb.algorithms import monte_carlo_em, wake_sleep
from aevb.checkpoints import Checkpoints
from aevb.data.binarization import binarize_once
from tests.comparisons import assert_same_history, assert_trees_close
from tests.conftest import ROOT
from tests.models import DATA_DIM
from tests.processes import assert_same_run, metrics
from tests.runs import tiny_config, tiny_splits, train_into

MODEL = aevb.mlp_vae((DATA_DIM,), 3, 8, param_dtype="float64")
FIT = functools.partial(aevb.fit, model=MODEL, key=jax.random.key(0), batch_size=20, num_epochs=3)
BLOCK = 70  # rounds to three or four of the eleven minibatches of 230 datapoints, which leaves a smaller last block
RTOL = 1e-9  # of two programs in double precision

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (230, DATA_DIM)).astype(np.uint8)


@pytest.fixture
def floats(pixels) -> np.ndarray:
    return pixels / np.float32(255)


def assert_same_fit(one: aevb.FitResult, other: aevb.FitResult):
    assert_trees_close(one.state, other.state, RTOL)
    assert_same_history(one.history, other.history, RTOL)


@pytest.mark.parametrize("binarization", ["grey", "stochastic", "threshold"])
def test_streamed_equals_resident(pixels, floats, binarization):
    resident = FIT(floats, test_data=floats[:90], binarization=binarization)
    stream = aevb.Stream(pixels, max_value=255, block_size=BLOCK)
    test = aevb.Stream(pixels[:90], max_value=255, block_size=BLOCK)
    assert_same_fit(FIT(stream, test_data=test, binarization=binarization), resident)


@pytest.mark.parametrize("algorithm", [wake_sleep, monte_carlo_em])
def test_streamed_equals_resident_by_other_algorithms(pixels, floats, algorithm):
    """Monte Carlo EM stores something per datapoint, so it must know which datapoints it is given."""
    stream = aevb.Stream(pixels, max_value=255, block_size=BLOCK)
    fit = functools.partial(FIT, algorithm=algorithm)
    assert_same_fit(fit(stream), fit(floats))


def test_a_run_cut_in_mid_epoch_goes_on_to_the_same_bits(pixels, tmp_path):
    """It resumes from checkpoints on disk, from a block of either epoch.

    With blocks of another size it agrees to rounding.
    """
    stream = aevb.Stream(pixels, max_value=255, block_size=BLOCK)
    checkpoints, seen = Checkpoints(tmp_path / "all", keep_all=True), []

    def save(state, seconds):
        assert state.shuffle_key is not None
        seen.append((int(state.step), seconds))
        checkpoints.save(state, float("nan"), seconds)

    whole = FIT(stream, num_epochs=2, on_pause=save)
    checkpoints.close()
    assert [step for step, _ in seen] == [3, 6, 9, 14, 17, 20]
    assert sorted(seen) == sorted(seen, key=lambda row: row[1])
    for block_size, (step, seconds) in ((BLOCK, seen[1]), (BLOCK, seen[4]), (100, seen[4])):
        folder = tmp_path / f"{block_size} {step}"
        folder.mkdir()
        (folder / f"{step}").symlink_to(tmp_path / "all" / f"{step}")
        cut = Checkpoints(folder)
        restored = cut.restore_latest(whole.state)
        assert restored is not None
        assert (int(restored.state.step), restored.seconds) == (step, seconds)
        blocks = dataclasses.replace(stream, block_size=block_size)
        rest = FIT(blocks, num_epochs=2, state=restored.state, seconds=seconds)
        cut.close()
        rtol = 0.0 if block_size == BLOCK else RTOL
        assert_trees_close(rest.state, whole.state, rtol)
        assert_same_history(rest.history[-1:], whole.history[-1:], rtol)
        assert rest.history[-1].seconds > seconds


def test_a_state_of_a_stream_goes_on_with_data_in_memory(pixels, floats):
    states = []
    keep = lambda state, _: states.append(jax.tree.map(lambda leaf: leaf.copy(), state))
    FIT(aevb.Stream(pixels, max_value=255, block_size=BLOCK), num_epochs=1, on_pause=keep, on_evaluation=keep)
    whole = FIT(floats, num_epochs=2)
    assert [int(states[index].step) for index in (1, -1)] == [3, 11]
    for state in (states[1], states[-1]):  # in mid-epoch and at the end of an epoch
        assert_trees_close(FIT(floats, num_epochs=2, state=state).state, whole.state, RTOL)


class Records:
    """A source of dictionaries."""

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index: int):
        return {"image": self.pixels[index].reshape(3, 4), "label": 0}


class ManyRecords(Records):
    """The same, with many records per read, like those of TFDS."""

    def __getitem__(self, index: int):
        raise AssertionError("where many can be read at once, they are")

    def __getitems__(self, indices: list[int]):
        return [Records.__getitem__(self, index) for index in indices]


@pytest.mark.parametrize("source", [Records, ManyRecords])
def test_records_are_transformed(pixels, floats, source):
    flat = lambda record: record["image"].reshape(-1)
    stream = aevb.Stream(source(pixels), flat, max_value=255, block_size=BLOCK, num_threads=1)
    assert_same_fit(FIT(stream, num_epochs=1), FIT(floats, num_epochs=1))


def test_floating_point_records_are_taken_as_they_are(floats, tmp_path):
    np.save(tmp_path / "data.npy", floats)
    mapped = np.load(tmp_path / "data.npy", mmap_mode="r")
    assert_same_fit(FIT(aevb.Stream(mapped, block_size=BLOCK), num_epochs=1), FIT(floats, num_epochs=1))


@pytest.mark.parametrize("binarization", ["grey", "stochastic", "threshold"])
@pytest.mark.parametrize("know_their_mean", [True, False])
def test_evaluation_in_blocks_equals_evaluation_at_once(pixels, floats, binarization, know_their_mean):
    """103 is prime, so there is always a smaller last block.

    A flow's posterior means are estimates from two draws each.
    """
    posterior, kl = ("gaussian", "analytic") if know_their_mean else ("flow", "sampled")
    model = aevb.mlp_vae((DATA_DIM,), 3, 8, posterior=posterior, param_dtype="float64")
    params = jax.tree.map(lambda leaf: 20 * leaf, model.init(jax.random.key(0)))
    settings = {"model": model, "estimator": aevb.Estimator(kl=kl), "chunk_size": 10, "active_units": True}
    evaluate = functools.partial(aevb.evaluate, params, jax.random.key(1), **settings)
    data = binarize_once(jnp.asarray(floats[:103]), binarization)
    whole = evaluate(data, binarization=binarization)
    for block_size in (1000, 50):
        stream = aevb.Stream(pixels[:103], max_value=255, block_size=block_size)
        found = evaluate(stream, binarization=binarization)
        assert jax.tree.structure(found) == jax.tree.structure(whole)
        np.testing.assert_allclose(jax.tree.leaves(found), jax.tree.leaves(whole), rtol=RTOL)


def test_every_level_scales_as_in_numpy():
    for dtype, max_value in ((np.uint8, 255), (np.uint8, 16), (np.uint16, 65535)):
        levels = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
        stream = aevb.Stream(levels, max_value=max_value)
        scaled = jax.jit(functools.partial(stream.intensities, binarization="grey"))(levels)
        np.testing.assert_array_equal(scaled, levels / np.float32(max_value))


def test_divergence_names_the_step_that_it_names_for_data_in_memory(pixels, floats):
    diverge = functools.partial(FIT, optimizer=optax.sgd(1e25), eval_every=3)
    steps = []
    for data in (floats, aevb.Stream(pixels, max_value=255, block_size=BLOCK)):
        with pytest.raises(aevb.DivergedError, match="became NaN or infinite at step") as caught:
            diverge(data)
        steps.append(caught.value.step)
    assert steps[0] == steps[1] > 0


def test_an_error_of_the_source_is_raised_as_it_is(pixels):
    class Broken(Records):
        def __getitem__(self, index: int):
            if index == 123:
                raise OSError("record 123 cannot be read")
            return self.pixels[index]

    with pytest.raises(OSError, match="record 123 cannot be read"):
        FIT(aevb.Stream(Broken(pixels), max_value=255, block_size=BLOCK))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"binarization": "fixed"}, "which a Stream does not hold"),
        ({"max_value": None}, "data are pixels of uint8: give the Stream a max_value to scale them"),
        ({"max_value": 0}, "max_value of a Stream must be positive and finite, got 0"),
        ({"block_size": 0}, "block_size of a Stream must be at least 1, got 0"),
        ({"num_threads": 0}, "num_threads of a Stream must be at least 1, got 0"),
        ({"batch_size": 231}, "batch_size must be between 1 and the size of the data set, 230, got 231"),
        ({"source": np.zeros((40, DATA_DIM), np.float32)}, "scales uint8 and uint16, not float32"),
    ],
)
def test_bad_streams_are_refused_before_training(pixels, arguments, message):
    names = {"source", "max_value", "block_size", "num_threads"} & set(arguments)
    with pytest.raises(ValueError, match=message):
        FIT(
            aevb.Stream(**({"source": pixels, "max_value": 255} | {name: arguments[name] for name in names})),
            **{name: value for name, value in arguments.items() if name not in names},
        )


MEMORY_PROGRAM = """
import resource, sys
import jax, numpy as np
import aevb

class Noise:
    # As many images as one likes, none of which is kept.
    def __init__(self, size): self.size = size
    def __len__(self): return self.size
    def __getitems__(self, indices): return [np.full(4096, index % 256, np.uint8) for index in indices]
    def __getitem__(self, index): return self.__getitems__([index])[0]

def fit(size):
    stream = aevb.Stream(Noise(size), max_value=255, block_size=1000)
    aevb.fit(stream, aevb.mlp_vae((4096,), 2, 4), key=jax.random.key(0), num_epochs=1, batch_size=100)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

fit(10_000)
small = fit(11_000)  # compiling takes memory too, each time less of what is new
large = fit(100_000)
print(small, large)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data():
    """100,000 images of 4 KiB take 400 MB, and 1,600 as floats; blocks of a thousand take 4 MB.

    Each fit compiles its own programs, which takes up to 150 MB that are not freed; hence the limit of half of 400.
    """
    done = subprocess.run([sys.executable, "-c", MEMORY_PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    small, large = map(float, done.stdout.split())  # peak memory in MiB
    assert large - small < 200


def mnist(real_data, data_dir, workdir, *arguments) -> list[str]:
    flags = ("--latent_dim=2", "--hidden_dim=8", "--num_epochs=2", f"--workdir={workdir}", *arguments)
    return [
        sys.executable,
        "-m",
        "experiments.mnist",
        f"--data_dir={data_dir}",
        f"--source_dir={real_data / 'mnist'}",
        *flags,
    ]


@pytest.mark.slow
def test_a_streaming_binary_killed_in_mid_epoch_ends_like_one_that_was_not(real_data, data_dir, tmp_path):
    """The end is equal to the bit.

    A run with data in memory begins with the same bounds; how data are held is not part of a run.
    """
    run = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=False)
    whole = ("--stream", "--checkpoint_minutes=0")
    for name, flags in (("resident", ()), ("whole", whole)):
        done = run(mnist(real_data, data_dir, tmp_path / name, *flags))
        assert done.returncode == 0, done.stderr
    checkpoints = tmp_path / "streamed" / "checkpoints"
    in_mid_epoch = lambda: [path for path in checkpoints.glob("[0-9]*") if path.name.isdigit() and int(path.name) % 600]
    stream = mnist(real_data, data_dir, tmp_path / "streamed", *whole)
    process = subprocess.Popen(stream, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not in_mid_epoch():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "streamed" / "summary.json").exists()

    done = run([*stream, "--resume"])
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "streamed")
    start, resident = (metrics(tmp_path / name)[0] for name in ("streamed", "resident"))
    for name in ("train_elbo", "test_elbo", "test_kl"):
        assert float(start[name]) == pytest.approx(float(resident[name]), rel=1e-6)
    configs = [(tmp_path / name / "config.json").read_text() for name in ("resident", "streamed")]
    assert configs[0] == configs[1]


def test_a_streamed_run_folder_has_the_numbers_of_one_with_data_in_memory(tmp_path):
    """It trains as the binaries do, but in double precision."""
    splits = tiny_splits()
    resident, streamed = (
        train_into(tmp_path / name, tiny_config(splits), splits, stream=name == "streamed")
        for name in ("resident", "streamed")
    )
    assert [row.epoch for row in streamed] == [0, 1, 2]
    assert_same_history(streamed, resident, RTOL)
    found, expected = (aevb.load_run(tmp_path / name)[1] for name in ("streamed", "resident"))
    assert_trees_close(found, expected, RTOL)
