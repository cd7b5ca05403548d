"""Compressed files of images: the same images come back, at about -ELBO bits, and other files are refused."""

import hashlib
import itertools
import math
import sys

import jax
import numpy as np
import pytest
from scipy import special

import aevb
from aevb.compression import CompressionError, compress, decompress, files, summary, tables
from aevb.compression.rans import TOTAL, Stack, pack_heads, random_words, unpack_heads
from tests.processes import run

SIZE = 36
OVERHEAD = 50  # bytes of a file besides its message
LIKELIHOODS = {"bernoulli": 1, "discretized_logistic": 2, "spiked_logistic": 4, "beta_binomial": 2, "categorical": 256}


def weights(sizes, rng, scale=1.0):
    """Return parameters of an MLP from NumPy's legacy generator, whose stream is the same in every version."""
    layers = {}
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        kernel = scale * rng.randn(inputs, outputs) / math.sqrt(inputs)
        layers[f"Dense_{number}"] = {"kernel": kernel.astype(np.float32), "bias": np.zeros(outputs, np.float32)}
    return layers


def model_and_params(likelihood="bernoulli", latent_dim=4):
    """Return a model of data that take few bits. Its q is close to the posterior, because x says little about z."""
    model = aevb.mlp_vae((SIZE,), latent_dim, 12, likelihood=likelihood)
    rng, num_outputs = np.random.RandomState(0), LIKELIHOODS[likelihood]
    params = {
        "encoder": weights((SIZE, 12, 2 * latent_dim), rng, 0.3),
        "decoder": weights((latent_dim, 12, SIZE * num_outputs), rng, 0.1 if num_outputs in (2, 4) else 0.5),
    }
    offsets = {"bernoulli": [-2.0], "discretized_logistic": [0.0, -2.0], "beta_binomial": [-1.0, 3.0]}
    offsets["spiked_logistic"] = [0.0, -2.0, 1.0, -1.0]
    bias = 0.3 * rng.randn(num_outputs, SIZE) + np.reshape(offsets.get(likelihood, 3 * rng.randn(256)), (-1, 1))
    params["decoder"]["Dense_1"]["bias"] = bias.ravel().astype(np.float32)
    return model, params


def images_of(model, params, number):
    """Return images `[N, D]` of integers drawn from the model itself."""
    images = aevb.posterior.sample(params, jax.random.key(0), number, model, mean=False)
    largest = 1 if np.array_equal(images, np.round(images)) else 255
    return np.round(largest * images).astype(np.uint8)


def near_the_mean(params, likelihood):
    """Return images `[400, D]` of 0 to 255 that take few bits under a decoder's biases, drawn by NumPy."""
    bias = params["decoder"]["Dense_1"]["bias"].reshape(-1, SIZE)
    rng = np.random.RandomState(2)
    if likelihood == "categorical":
        likely = np.argsort(-bias, axis=0)[:20]
        return likely[rng.randint(20, size=(400, SIZE)), np.arange(SIZE)].astype(np.uint8)
    mean = bias[0] + 0.5 if likelihood in ("discretized_logistic", "spiked_logistic") else 1 / (1 + np.exp(-bias[0]))
    return np.clip(np.round(255 * mean + 12 * rng.randn(400, SIZE)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def binary():
    model, params = model_and_params()
    return model, params, (np.random.RandomState(1).rand(400, SIZE) < 0.12).astype(np.uint8)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_images_come_back_and_cost_minus_the_bound(likelihood):
    model, params = model_and_params(likelihood)
    images = images_of(model, params, 600)
    data = compress(params, images, model)
    np.testing.assert_array_equal(decompress(params, data, model), images)
    x = images.astype(np.float32) / (1 if likelihood == "bernoulli" else 255)
    bound = aevb.evaluate(params, jax.random.key(1), x, model, aevb.Estimator(num_samples=64)).elbo
    found = summary(params, data, model)
    assert found.num_images == 600
    assert found.num_raw < 20
    assert 8 * (len(data) - OVERHEAD) == pytest.approx(-bound * 600 / math.log(2), rel=0.02)


def test_the_file_is_the_same_everywhere(binary):
    """It is the same in every version, with any number of threads.

    `test_other_threads_and_kernels` also runs this elsewhere.
    """
    model, params, images = binary
    found = {}
    for likelihood in LIKELIHOODS:
        model, params = model_and_params(likelihood)
        data = compress(params, images if likelihood == "bernoulli" else near_the_mean(params, likelihood), model)
        assert summary(params, data, model).num_raw < 40
        found[likelihood] = hashlib.sha256(data).hexdigest()[:16]
    assert found == HASHES


HASHES = {
    "bernoulli": "b111d581dc3a2836",
    "discretized_logistic": "9a21bff244a8cded",
    "spiked_logistic": "91a7d39f747058ee",
    "beta_binomial": "5a53d3ee304d0c39",
    "categorical": "9a7b08ad24f706ef",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment", [{"OPENBLAS_NUM_THREADS": "1"}, {"OPENBLAS_NUM_THREADS": "2"}, {"OPENBLAS_CORETYPE": "Prescott"}]
)
def test_other_threads_and_kernels(environment):
    name = f"{__file__}::test_the_file_is_the_same_everywhere"
    done = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name], **environment)
    assert done.returncode == 0, done.stdout


def test_shapes_and_scales_come_back(binary):
    model, params, images = binary
    square = images.reshape(-1, 6, 6)
    for given in (square, square * np.uint8(255), square.astype(bool), square.astype(np.float32), square[:1]):
        back = decompress(params, compress(params, given, model), model)
        assert back.dtype == np.uint8
        np.testing.assert_array_equal(back, given)


def test_a_file_of_one_image_is_small(binary):
    model, params, images = binary
    data = compress(params, images[:1], model)
    assert len(data) < 80
    assert summary(params, data, model).initial_bits <= 96


def test_what_the_model_expands_is_stored(binary):
    model, params, _ = binary
    params = {**params, "decoder": jax.tree.map(np.copy, params["decoder"])}
    params["decoder"]["Dense_1"]["bias"] -= 4  # nearly black
    rng = np.random.RandomState(0)
    images = (rng.rand(300, SIZE) < np.where(np.arange(300) % 10 == 0, 0.5, 0.002)[:, None]).astype(np.uint8)
    data = compress(params, images, model)
    assert 15 < summary(params, data, model).num_raw < 60
    assert len(data) < 300 * SIZE / 8 / 2
    np.testing.assert_array_equal(decompress(params, data, model), images)
    noise = images[::10]
    everything = compress(params, noise, model)
    assert summary(params, everything, model).num_raw == len(noise)
    assert len(everything) <= noise.size // 8 + 60
    np.testing.assert_array_equal(decompress(params, everything, model), noise)


# Invalid files


def test_mutated_files_are_refused(binary):
    """1,000 files with flipped, cut, extended or spliced bytes are each refused with one line."""
    model, params, images = binary
    data, rng = compress(params, images, model), np.random.RandomState(0)
    messages = set()
    for number in range(1000):
        mutated = bytearray(data)
        place = rng.randint(len(data)) if number % 2 else rng.randint(60)
        kind = number % 5
        if kind < 2:
            mutated[place] ^= 1 << rng.randint(8)
        elif kind == 2:
            mutated = mutated[:place]
        elif kind == 3:
            mutated[place:place] = rng.bytes(rng.randint(1, 30))
        else:
            mutated[place : place + 8] = rng.bytes(8)
        if bytes(mutated) == data:
            continue
        with pytest.raises(CompressionError) as error:
            decompress(params, bytes(mutated), model)
        assert "\n" not in str(error.value)
        messages.add(str(error.value)[:30])
    assert len(messages) >= 3


def test_mutated_files_with_a_right_checksum_are_bounded(binary):
    """Such deliberately made files are refused, or decompress to at most as many images as they have bytes."""
    model, params, images = binary
    data, rng = compress(params, images[:60], model), np.random.RandomState(0)
    num_refused = 0
    for number in range(100):
        mutated = bytearray(data[: -files.NUM_DIGEST_BYTES])
        first = 22  # after the digest of the model
        place = rng.randint(first, first + 20 if number % 2 else len(mutated))
        mutated[place] = rng.randint(256)
        whole = bytes(mutated)
        whole += hashlib.sha256(whole).digest()[: files.NUM_DIGEST_BYTES]
        try:
            assert decompress(params, whole, model).size <= len(whole) * SIZE
        except CompressionError:
            num_refused += 1
    assert num_refused > 80


def test_random_bytes_with_a_right_beginning_and_end(binary):
    model, params, images = binary
    head = compress(params, images[:5], model)[:23]
    rng = np.random.RandomState(0)
    for _ in range(200):
        whole = head + rng.bytes(rng.randint(0, 400))
        whole += hashlib.sha256(whole).digest()[: files.NUM_DIGEST_BYTES]
        with pytest.raises(CompressionError):
            decompress(params, whole, model)


def test_another_model_is_refused(binary):
    model, params, images = binary
    data = compress(params, images[:5], model)
    other = jax.tree.map(np.copy, params)
    other["decoder"]["Dense_0"]["kernel"][0, 0] += 1e-4
    with pytest.raises(CompressionError, match="another model, or with other parameters"):
        decompress(other, data, model)
    with pytest.raises(CompressionError, match="not a file of compressed images"):
        decompress(params, b"\x89PNG" + data, model)
    with pytest.raises(CompressionError, match="has format 9, but this version reads format 1"):
        decompress(params, data[:5] + b"\x09" + data[6:], model)
    with pytest.raises(CompressionError, match="damaged or cut short"):
        decompress(params, data[:-1], model)
    with pytest.raises(TypeError, match="data must be bytes"):
        decompress(params, "data", model)


# Invalid images and models


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((2, SIZE), 3, np.uint8), "between black and white, such as 3,"),
        (np.full((2, SIZE), 0.5), "between black and white, such as 0.5,"),
        (np.full((2, SIZE), np.nan), "0 to 255"),
        (np.full((2, SIZE), -1), "0 to 255, or in 0 to 1, got values from -1 to -1"),
        (np.zeros((0, SIZE)), "empty"),
        (np.zeros((2, SIZE + 1)), "the model expects shape"),
    ],
)
def test_images_without_probability_are_refused(binary, images, message):
    model, params, _ = binary
    with pytest.raises(ValueError, match=message):
        compress(params, images, model)


def test_models_without_probability_are_refused():
    images = np.zeros((2, SIZE), np.uint8)
    for arguments, message in [
        ({"likelihood": "gaussian"}, "Normal, is not a probability mass"),
        ({"posterior": "full_covariance"}, "diagonal Gaussians"),
    ]:
        model = aevb.mlp_vae((SIZE,), 3, 8, **arguments)
        with pytest.raises(ValueError, match=message):
            compress(model.init(jax.random.key(0)), images, model)
    model, params = model_and_params()
    params["encoder"]["Dense_0"]["kernel"][0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        compress(params, images, model)


# Parts


def test_tables():
    u = np.arange(-2048, 2049) / 256
    np.testing.assert_allclose(tables.gaussian(), special.ndtr(u) * 2**30, atol=0.5001)
    u = np.arange(-2560, 2561) / 128
    np.testing.assert_allclose(tables.logistic(), special.expit(u) * 2**30, atol=0.5001)
    u = np.arange(-32768, 32769) / 4096
    np.testing.assert_allclose(tables.tanh(), np.tanh(u) * 2**16, atol=0.5001)
    np.testing.assert_allclose(tables.inverse_scales(), 2.0 ** (12 + np.arange(289) / 16), atol=0.5001)
    np.testing.assert_allclose(tables.powers_of_two(), 2.0 ** (30 - np.arange(4096) / 4096), atol=0.5001)
    values = np.concatenate([np.random.RandomState(0).rand(1000) * 1e6, 2.0 ** np.arange(-20, 40)])
    np.testing.assert_allclose(tables.log2(values), 65536 * np.log2(values), atol=2)


def test_a_stack_gives_back_what_was_pushed_at_the_cost_of_its_information():
    rng = np.random.RandomState(0)
    frequency = rng.randint(1, TOTAL, (500, 16)).astype(np.uint64)
    starts = (rng.rand(500, 16) * (TOTAL - frequency.astype(float))).astype(np.uint64)
    stack = Stack(random_words)
    stack.open_lanes(16)
    before = np.sum(np.log2(stack.heads.astype(float))) + 32 * len(stack.words)
    stack.push(starts, frequency)
    after = np.sum(np.log2(stack.heads.astype(float))) + 32 * len(stack.words)
    assert after - before == pytest.approx(np.sum(24 - np.log2(frequency.astype(float))), rel=1e-4)
    data = pack_heads(stack.heads)
    heads, size = unpack_heads(data + b"rest", 16)
    assert size == len(data)
    stack = Stack.of_message(heads, stack.words)

    def find(row, points):
        assert np.all((starts[row] <= points) & (points < starts[row] + frequency[row]))
        return row, starts[row], frequency[row]

    stack.pop(500, 16, find)
    stack.close_lanes(0)
    np.testing.assert_array_equal(stack.words[::-1], random_words(16))


def test_a_stack_that_is_restored_is_what_it_was():
    stack = Stack(random_words)
    stack.open_lanes(2)
    frequency = np.full((3, 2), TOTAL // 64, np.uint64)
    stack.push(frequency * np.uint64(3), frequency)
    heads, words = stack.heads.copy(), stack.words.copy()
    restore = stack.saved(1000)
    stack.open_lanes(40)
    stack.push(np.repeat(frequency, 20, axis=1), np.repeat(frequency, 20, axis=1))
    restore()
    np.testing.assert_array_equal(stack.heads, heads)
    np.testing.assert_array_equal(stack.words, words)
    assert stack.num_seed_words == 2


def test_public_names_are_found():
    assert aevb.compression.compress is compress
    assert issubclass(CompressionError, ValueError)
