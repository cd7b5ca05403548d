import dataclasses
import functools
import json
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
from tests.conftest import ROOT
from tests.models import DATA_DIM, MODELS

MODEL, _ = MODELS["bernoulli"]
FIT = functools.partial(aevb.fit, MODEL, key=jax.random.key(0), batch_size=20, num_epochs=3)
BLOCK = 70  # rounds to three minibatches or four of the eleven that 230 datapoints make: there is always an odd end


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (230, DATA_DIM)).astype(np.uint8)


@pytest.fixture
def floats(pixels) -> np.ndarray:
    return pixels / np.float32(255)


def assert_same_fit(one: aevb.FitResult, other: aevb.FitResult):
    assert_equal_trees(one.state, other.state)
    np.testing.assert_allclose([r[:-1] for r in one.history], [r[:-1] for r in other.history], rtol=1e-6)


def assert_equal_trees(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        is_key = jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
        np.testing.assert_array_equal(*(map(jax.random.key_data, (a, b)) if is_key else (a, b)))


@pytest.mark.parametrize("binarization", ["grey", "stochastic", "threshold"])
def test_streamed_equals_resident(pixels, floats, binarization):
    resident = FIT(floats, test_data=floats[:90], binarization=binarization)
    stream = aevb.Stream(pixels, max_value=255, block_size=BLOCK)
    test = aevb.Stream(pixels[:90], max_value=255, block_size=BLOCK)
    assert_same_fit(FIT(stream, test_data=test, binarization=binarization), resident)


@pytest.mark.parametrize("algorithm", [wake_sleep, monte_carlo_em])
def test_streamed_equals_resident_by_other_algorithms(pixels, floats, algorithm):
    """Monte Carlo EM keeps something for each datapoint: it needs to be told which ones it is given."""
    stream = aevb.Stream(pixels, max_value=255, block_size=BLOCK)
    fit = functools.partial(FIT, algorithm=algorithm)
    assert_same_fit(fit(stream), fit(floats))


def test_a_run_cut_in_mid_epoch_goes_on_to_the_same_bits(pixels, tmp_path):
    """Through checkpoints on disk, from a block of either epoch; the blocks then begin elsewhere."""
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
    for step, seconds in (seen[1], seen[4]):
        folder = tmp_path / f"{step}"
        folder.mkdir()
        (folder / f"{step}").symlink_to(tmp_path / "all" / f"{step}")
        cut = Checkpoints(folder)
        restored = cut.restore_latest(whole.state)
        assert restored is not None
        assert (int(restored.state.step), restored.seconds) == (step, seconds)
        other_blocks = dataclasses.replace(stream, block_size=100)
        rest = FIT(other_blocks, num_epochs=2, state=restored.state, seconds=seconds)
        cut.close()
        assert_equal_trees(rest.state, whole.state)
        # The last bits of a bound depend on the blocks in which it was summed.
        assert rest.history[-1].train_elbo == pytest.approx(whole.history[-1].train_elbo, rel=1e-12)
        assert rest.history[-1].seconds > seconds


def test_a_state_in_mid_epoch_is_refused_by_data_in_memory(pixels, floats):
    states = []
    keep = lambda state, _: states.append(jax.tree.map(lambda leaf: leaf.copy(), state))
    FIT(aevb.Stream(pixels, max_value=255, block_size=BLOCK), num_epochs=1, on_pause=keep, on_evaluation=keep)
    with pytest.raises(ValueError, match="in the middle of an epoch, at step 3: go on with a Stream"):
        FIT(floats, state=states[1])
    rest = FIT(floats, num_epochs=2, state=states[-1])  # that of the epoch's end is like any other
    assert_equal_trees(rest.state, FIT(floats, num_epochs=2).state)


class Records:
    """A source of dictionaries."""

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index: int):
        return {"image": self.pixels[index].reshape(3, 4), "label": 0}


class ManyRecords(Records):
    """The same, read many at a time, as TFDS's are."""

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
    """103 is a prime: there is always an odd end. A flow's posterior means are estimates, two of each."""
    model, kl = MODELS["bernoulli" if know_their_mean else "flow"]
    params = jax.tree.map(lambda leaf: 20 * leaf, model.init(jax.random.key(0)))
    evaluate = functools.partial(aevb.evaluate, params, jax.random.key(1), model=model, kl=kl, chunk_size=10)
    data = binarize_once(jnp.asarray(floats[:103]), binarization)
    whole = evaluate(data, binarization=binarization)
    for block_size in (1000, 50):
        stream = aevb.Stream(pixels[:103], max_value=255, block_size=block_size)
        np.testing.assert_allclose(evaluate(stream, binarization=binarization), whole, rtol=1e-6)


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
        ({"max_value": None}, "data must be floating-point, got uint8: give the Stream a max_value"),
        ({"max_value": 0}, "max_value of a Stream must be positive and finite, got 0"),
        ({"block_size": 0}, "block_size of a Stream must be at least 1, got 0"),
        ({"num_threads": 0}, "num_threads of a Stream must be at least 1, got 0"),
        ({"batch_size": 231}, "batch_size must be between 1 and the dataset's 230, got 231"),
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
    aevb.fit(aevb.mlp_vae((4096,), 2, 4), stream, key=jax.random.key(0), num_epochs=1, batch_size=100)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

fit(10_000)
small = fit(11_000)  # compiling takes memory too, each time less of what is new
large = fit(100_000)
print(small, large)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data():
    """100,000 images of 4 KiB are 400 MB, and 1,600 as floats; blocks of a thousand, 4 MB.

    Each fit compiles its own programs, which takes up to 150 MB that are not given back: hence half of 400.
    """
    done = subprocess.run([sys.executable, "-c", MEMORY_PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    small, large = map(float, done.stdout.split())  # MiB, the most that there were
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
def test_a_streaming_binary_killed_in_mid_epoch_ends_like_one_with_data_in_memory(real_data, data_dir, tmp_path):
    run = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=False)
    done = run(mnist(real_data, data_dir, tmp_path / "resident"))
    assert done.returncode == 0, done.stderr
    checkpoints = tmp_path / "streamed" / "checkpoints"
    in_mid_epoch = lambda: [path for path in checkpoints.glob("[0-9]*") if path.name.isdigit() and int(path.name) % 600]
    stream = mnist(real_data, data_dir, tmp_path / "streamed", "--stream", "--checkpoint_minutes=0")
    process = subprocess.Popen(stream, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not in_mid_epoch():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "streamed" / "summary.json").exists()

    refused = run([*stream[:-2], "--resume"])
    assert refused.returncode == 2
    assert "go on with a Stream" in refused.stderr
    done = run([*stream, "--resume"])
    assert done.returncode == 0, done.stderr
    ends = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("resident", "streamed")]
    for name in ("train_elbo", "test_elbo", "test_kl"):
        assert ends[1][name] == pytest.approx(ends[0][name], rel=1e-6)
    configs = [(tmp_path / name / "config.json").read_text() for name in ("resident", "streamed")]
    assert configs[0] == configs[1]
