import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aevb
from aevb.data import DatasetError
from aevb.data.binarization import binarize_batch, binarize_once
from aevb.data.builder import builder_class, prepare
from aevb.data.cache import cache_dir
from aevb.data.sources.frey_face import read_faces
from aevb.data.sources.mnist import read_idx

# Loaded values


def test_mnist_is_the_official_one(real_data, data_dir):
    train = aevb.data.load("mnist", "train", data_dir, real_data / "mnist")
    test = aevb.data.load("mnist", "test", data_dir, real_data / "mnist")
    assert (train.images.shape, train.images.dtype, train.max_value) == ((60_000, 28, 28), np.uint8, 255)
    assert test.images.shape == (10_000, 28, 28)
    assert train.labels is not None
    assert test.labels is not None
    assert list(train.labels[:10]) == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert list(test.labels[:10]) == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    # The mean and standard deviation that are commonly used for normalization.
    assert train.pixels().mean() == pytest.approx(0.1307, abs=1e-4)
    assert train.pixels().std() == pytest.approx(0.3081, abs=1e-4)
    assert train.split_rule == "official 60000/10000"


@pytest.mark.parametrize(("rule", "sizes"), [(None, (1768, 197)), ("random", (1768, 197)), ("first_1565", (1565, 400))])
def test_frey_face_splits(real_data, data_dir, rule, sizes):
    train, test = (
        aevb.data.load("frey_face", split, data_dir, real_data / "frey_face", rule) for split in ("train", "test")
    )
    assert (train.images.shape, test.images.shape) == ((sizes[0], 28, 20), (sizes[1], 28, 20))
    assert train.labels is None
    frames = read_faces(real_data / "frey_face" / "frey_rawface.mat")
    together = np.concatenate([train.images, test.images]).reshape(1965, -1)
    assert sorted(map(bytes, together)) == sorted(map(bytes, frames.reshape(1965, -1)))
    if rule == "first_1565":
        np.testing.assert_array_equal(together.reshape(frames.shape), frames)
        assert "distribution shift" in train.split_rule
    else:
        assert train.split_rule == "random 1768/197 by seed 0"
    # Neighbouring frames are similar. With rows and columns swapped, neighbouring rows would not be.
    pixels = frames.astype(np.float64)
    assert np.abs(np.diff(pixels, axis=1)).mean() < 0.5 * np.abs(pixels - pixels[:, ::-1]).mean()


def test_digits_need_no_files(tmp_path):
    train, test = (aevb.data.load("digits", split, tmp_path) for split in ("train", "test"))
    assert (train.images.shape, test.images.shape, train.max_value) == ((1437, 8, 8), (360, 8, 8), 16)
    assert train.images.max() == 16
    assert train.pixels().dtype == np.float32
    assert train.pixels().max() == 1.0
    again = aevb.data.load("digits", "train", tmp_path)
    np.testing.assert_array_equal(train.images, again.images)
    with pytest.raises(ValueError, match="read-only"):
        train.images[0] = 0


def test_a_data_set_is_printed_in_one_line(tmp_path):
    digits = aevb.data.load("digits", "test", tmp_path)
    printed = f"<Dataset digits, test (split {digits.split_rule}): images uint8[360, 8, 8], labels int64[360]>"
    assert repr(digits) == printed


def test_processes_that_start_together_prepare_once(real_data, tmp_path):
    code = (
        "import sys; from pathlib import Path; from aevb.data import load;"
        "print(load('frey_face', 'train', Path(sys.argv[1]), Path(sys.argv[2]), 'random').images.sum())"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(real_data / "frey_face")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    together = [subprocess.Popen(command, **pipes) for _ in range(4)]
    outputs = [process.communicate() for process in together]
    assert [process.returncode for process in together] == [0] * 4, outputs
    assert len({stdout for stdout, _ in outputs}) == 1


def test_preparing_and_reading_need_no_tensorflow(tmp_path):
    """A separate process must not import TensorFlow, whether it is installed or not."""
    program = (
        "import sys, aevb\n"
        f"images = aevb.data.load('digits', 'train', {str(tmp_path)!r}).images\n"
        "assert 'tensorflow_datasets' in sys.modules and 'tensorflow' not in sys.modules\n"
        "print(len(images))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1437"


def test_the_builder_serves_tfds_readers(tmp_path):
    from aevb.data.sources.digits import SOURCE

    prepare(SOURCE, tmp_path, None)
    source = builder_class(SOURCE)(data_dir=tmp_path).as_data_source(split="full")
    whole = SOURCE.read(tmp_path)["full"]
    assert whole.labels is not None
    for index in (0, 1000, 1796):
        np.testing.assert_array_equal(source[index]["image"], whole.images[index])
        assert source[index]["label"] == whole.labels[index]


def test_importing_the_library_loads_nothing_heavy():
    program = (
        "import sys, aevb; heavy = ('tensorflow_datasets', 'matplotlib', 'orbax', 'flax', 'scipy.io', 'sklearn');"
        "heavy += ('absl.app', 'aevb.data.own', 'aevb.data.originals');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Damage


def test_a_damaged_cache_is_made_again(tmp_path):
    from aevb.data.sources.digits import SOURCE

    whole = aevb.data.load("digits", "train", tmp_path)
    path = cache_dir(SOURCE, tmp_path) / "full-images.npy"
    damaged = bytearray(path.read_bytes())
    damaged[5000] ^= 1
    path.write_bytes(damaged)
    np.testing.assert_array_equal(aevb.data.load("digits", "train", tmp_path).images, whole.images)
    assert path.read_bytes() != bytes(damaged)


def test_damaged_records_are_named(tmp_path):
    from aevb.data.sources.digits import SOURCE

    aevb.data.load("digits", "train", tmp_path)
    shutil.rmtree(cache_dir(SOURCE, tmp_path))
    (records,) = tmp_path.glob("aevb_digits/1.0.0/*array_record*")
    records.write_bytes(records.read_bytes()[: records.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"aevb_digits/1\.0\.0 are damaged .*delete that folder"):
        aevb.data.load("digits", "train", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "imagenet"}, "unknown data set 'imagenet': choose from mnist, frey_face, digits"),
        ({"name": "digits", "split": "validation"}, "split must be 'train' or 'test', got 'validation'"),
        ({"name": "digits", "split_rule": "first_1565"}, r"split_rule of digits must be one of \('random',\)"),
    ],
)
def test_unknown_names_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        aevb.data.load(**arguments, data_dir=tmp_path)


def test_source_dir_with_wrong_files_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="is not a folder"):
        aevb.data.load("mnist", "train", tmp_path / "data", tmp_path / "missing")
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte\.gz is missing"):
        aevb.data.load("mnist", "train", tmp_path / "data", tmp_path)
    (tmp_path / "frey_rawface.mat").write_bytes(b"x" * 1_100_584)
    with pytest.raises(DatasetError, match="its SHA-256 is"):
        aevb.data.load("frey_face", "train", tmp_path / "data", tmp_path)
    (tmp_path / "frey_rawface.mat").write_bytes(b"x")
    with pytest.raises(DatasetError, match="1 bytes instead of 1,100,584"):
        aevb.data.load("frey_face", "train", tmp_path / "data", tmp_path)
    assert not list((tmp_path / "data").glob("aevb_*/1.0.0"))
    assert not list((tmp_path / "data").glob("aevb_arrays/*"))


def test_readers_refuse_other_contents(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"neither")
    with pytest.raises(DatasetError, match="not a complete gzip file"):
        read_idx(path, (3,))
    with pytest.raises(DatasetError, match="not a readable MATLAB file"):
        read_faces(path)


# Binarization


def test_binarizations():
    grey = jnp.asarray(np.random.RandomState(0).rand(2000, 10).astype(np.float32))
    key = jax.random.key(0)
    np.testing.assert_array_equal(binarize_batch(key, binarize_once(grey, "grey"), "grey"), grey)
    np.testing.assert_array_equal(binarize_once(grey, "threshold"), grey > 0.5)
    fixed = binarize_once(grey, "fixed")
    np.testing.assert_array_equal(fixed, binarize_once(grey, "fixed"))
    np.testing.assert_array_equal(binarize_batch(key, fixed, "fixed"), fixed)
    one, other = (
        binarize_batch(jax.random.key(seed), binarize_once(grey, "stochastic"), "stochastic") for seed in (0, 1)
    )
    assert bool(jnp.any(one != other))
    for drawn in (fixed, one, other):
        assert set(np.unique(drawn)) == {0.0, 1.0}
        # Each bin of intensities has its own rate.
        rates = [float(jnp.mean(drawn[(grey >= low) & (grey < low + 0.1)])) for low in np.arange(0, 1, 0.1)]
        np.testing.assert_allclose(rates, np.arange(0.05, 1, 0.1), atol=0.05)
    with pytest.raises(ValueError, match="binarization must be one of"):
        binarize_batch(key, grey, "binary")  # pyright: ignore[reportArgumentType]


def test_constants_of_a_compiled_program_are_binarized_and_checked():
    intensities = jnp.full((3, 4), 0.5)
    inside = jax.jit(lambda key: binarize_batch(key, intensities, "stochastic"))
    key = jax.random.key(0)
    np.testing.assert_array_equal(inside(key), binarize_batch(key, intensities, "stochastic"))
    pixels = 3 * intensities
    with pytest.raises(ValueError, match=r"data range from 1\.5 to 1\.5"):
        jax.jit(lambda key: binarize_batch(key, pixels, "stochastic"))(key)
