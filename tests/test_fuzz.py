"""Damaged and hostile files, 5,000 of them with a fixed seed, given to everything that reads files.

Reading returns the written values or raises one of the project's own errors, in bounded memory and time, without
pickle, without opening files for writing and without starting processes.
"""

import contextlib
import gc
import gzip
import io
import json
import random
import resource
import shutil
import signal
import struct
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.io

import aevb
from aevb.algorithms import init_train_state
from aevb.checkpoints import Checkpoints, RunError, RunWarning
from aevb.data import DatasetError
from aevb.data.cache import cache_dir, read_cache, write_cache
from aevb.data.sources.digits import SOURCE as DIGITS
from aevb.data.sources.frey_face import read_faces
from aevb.data.sources.mnist import read_idx
from aevb.manifests import MANIFEST_FILE, unsealed
from aevb.training import Evaluation, paper_optimizer
from experiments import config_files, configs
from experiments.reports.tables import print_runs
from experiments.runs.folder import RunFolder

EXTRA_MEMORY = 1 << 30
SECONDS_EACH = 10
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect damaged checkpoints that Orbax left half-read, whose warnings would otherwise appear in a later test."""
    yield
    gc.collect()


_forbidden: list[str] | None = None


def _audit(event: str, arguments: tuple) -> None:
    if _forbidden is None:
        return
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if event in ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec") or writes:
        _forbidden.append(f"{event} {arguments}")


sys.addaudithook(_audit)


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Limit the address space to one gigabyte more than now, so that larger allocations fail at once."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + EXTRA_MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def hostile_input() -> Iterator[None]:
    """Bound time and memory, and fail on actions that reading must not take."""
    global _forbidden
    _forbidden = []
    signal.alarm(SECONDS_EACH)
    try:
        with bounded_memory(), warnings.catch_warnings():
            warnings.simplefilter("ignore", RunWarning)
            yield
    finally:
        signal.alarm(0)
        found, _forbidden = _forbidden, None
    assert not found


HUGE = (
    *(struct.pack(order + "I", value) for order in "<>" for value in (2**32 - 1, 2**31 - 1, 2**31, 2**30)),
    *(struct.pack(order + "Q", value) for order in "<>" for value in (2**64 - 1, 2**63 - 1, 2**40)),
    b"9" * 30,
    b"1e400",
    b"-1",
    b"[" * 100_000,
    b"../../../../etc/passwd",
    b"\0" * 64,
)


def mutated(rng: random.Random, original: bytes) -> bytes:
    """Damage data one to three times: flip bits, cut the end off, move or insert bytes, or write a huge size."""
    contents = bytearray(original)
    for _ in range(rng.randint(1, 3)):
        # Headers are the most sensitive: half of the damage is in the first bytes.
        size = len(contents)
        at = rng.randrange(max(1, min(size, 300) if rng.random() < 0.5 else size))
        match rng.choice(("flip", "flip", "truncate", "splice", "insert", "huge", "huge")):
            case "flip" if size:
                for _ in range(rng.randint(1, 4)):
                    contents[min(size - 1, at + rng.randrange(8))] ^= 1 << rng.randrange(8)
            case "truncate":
                del contents[at:]
            case "splice" if size:
                start = rng.randrange(size)
                piece = contents[start : start + rng.randint(1, 200)]
                contents[at : at + rng.choice((0, len(piece)))] = piece
            case "insert":
                contents[at:at] = rng.randbytes(rng.randint(1, 40))
            case _:
                size_field = rng.choice(HUGE)
                contents[at : at + rng.choice((0, len(size_field)))] = size_field
    return bytes(contents)


def test_idx_files(tmp_path):
    rng, shape, path = random.Random(1), (20, 8, 8), tmp_path / "images.gz"
    images = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    plain = struct.pack(">HBB3I", 0, 8, 3, *shape) + images.tobytes()
    packed = gzip.compress(plain, mtime=0)
    path.write_bytes(packed)
    np.testing.assert_array_equal(read_idx(path, shape), images)
    refused = 0
    for index in range(1500):
        inside = index % 2
        path.write_bytes(gzip.compress(mutated(rng, plain), 1, mtime=0) if inside else mutated(rng, packed))
        with hostile_input():
            try:
                found = read_idx(path, shape)
            except DatasetError:
                refused += 1
                continue
        assert (found.shape, found.dtype) == (shape, np.uint8)
        if not inside:  # gzip has a checksum
            np.testing.assert_array_equal(found, images)
    assert refused > 1000


def test_gzip_bombs_and_declared_terabytes(tmp_path):
    path, shape = tmp_path / "images.gz", (20, 8, 8)
    header = struct.pack(">HBB3I", 0, 8, 3, *shape)
    for contents in (
        gzip.compress(header) + gzip.compress(bytes(10**7)) * 2000,  # 20 gigabytes
        gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 2**31) + bytes(1000)),
        gzip.compress(struct.pack(">HBB", 0, 8, 255) + struct.pack(">I", 2**32 - 1) * 255),
        *(gzip.compress(struct.pack(">HBB3I", 0, kind, 3, *shape) + bytes(20 * 64)) for kind in (0, 9, 13, 14, 255)),
    ):
        path.write_bytes(contents)
        with hostile_input(), pytest.raises(DatasetError, match="is not an IDX file"):
            read_idx(path, shape)


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_files(tmp_path, compressed):
    rng, path = random.Random(2), tmp_path / "faces.mat"
    faces = np.tile(np.random.RandomState(0).randint(0, 256, (560, 1)).astype(np.uint8), (1, 1965))
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"ff": faces}, do_compression=compressed)
    path.write_bytes(buffer.getvalue())
    expected = read_faces(path)
    refused = 0
    for _ in range(450):
        path.write_bytes(mutated(rng, buffer.getvalue()))
        with hostile_input():
            try:
                found = read_faces(path)
            except DatasetError:
                refused += 1
                continue
        assert (found.shape, found.dtype) == (expected.shape, np.uint8)
    assert refused > 200


def test_matlab_bombs(tmp_path):
    """An array of gigabytes in a file of a few megabytes."""
    path = tmp_path / "faces.mat"
    compressor, size = zlib.compressobj(9), 3 << 30
    element = struct.pack("<II", 14, size + 64) + struct.pack("<IIIIIIII", 6, 8, 9, 0, 5, 8, 560, size // 560)
    element += struct.pack("<HH4s", 1, 2, b"ff\0\0") + struct.pack("<II", 2, size)
    body = compressor.compress(element) + compressor.flush(zlib.Z_FULL_FLUSH)
    zeros = compressor.compress(bytes(1 << 24)) + compressor.flush(zlib.Z_FULL_FLUSH)  # a block that can be repeated
    body += zeros * (size >> 24)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    path.write_bytes(header + struct.pack("<II", 15, len(body)) + body)
    with hostile_input(), pytest.raises(DatasetError):
        read_faces(path)


def test_prepared_arrays(tmp_path):
    rng, splits = random.Random(3), DIGITS.read(tmp_path)
    write_cache(DIGITS, tmp_path, splits)
    folder = cache_dir(DIGITS, tmp_path)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["full-images.npy", "full-labels.npy", "manifest.json"]
    originals = {name: (folder / name).read_bytes() for name in names}
    refused = 0
    for index in range(800):
        name = names[index % len(names)]
        (folder / name).write_bytes(mutated(rng, originals[name]))
        with hostile_input():
            found = read_cache(DIGITS, tmp_path, "full")
        (folder / name).write_bytes(originals[name])
        refused += found is None
        if found is not None:
            for one, other in zip(found.values(), splits["full"], strict=True):
                np.testing.assert_array_equal(one, other)
    assert refused > 600


def test_prepared_arrays_run_no_pickle(tmp_path):
    write_cache(DIGITS, tmp_path, DIGITS.read(tmp_path))
    path = cache_dir(DIGITS, tmp_path) / "full-images.npy"

    class Harm:
        def __reduce__(self):
            return (shutil.rmtree, (str(tmp_path),))

    for write in (np.save, np.savez):
        with path.open("wb") as file:
            write(file, np.array([Harm()], dtype=object))
        with hostile_input():
            assert read_cache(DIGITS, tmp_path, "full") is None
    assert path.exists()


CONFIG = configs.change(configs.Config(), latent_dim=2, hidden_dim=[4], num_epochs=2, dataset="digits")
CONFIG = configs.replace(CONFIG, {("model", "arguments", "data_shape"): [64]})
ROW = Evaluation(2, 2800, -27.1, -27.2, -27.0, 0.2, 2, 0.5)
SUMMARY = {
    "dataset": "digits",
    "split_rule": "random 1437/360 by seed 0",
    "num_train_images": None,
    "binarization": "grey",
    "latent_dim": 2,
    "train_seconds": 0.5,
    "num_epochs": 2,
    **{name: value for name, value in ROW._asdict().items() if name not in ("epoch", "seconds")},
}


def test_run_folders(tmp_path):
    rng, folder = random.Random(4), RunFolder(tmp_path, CONFIG)
    folder.create()
    folder.start_metrics([ROW._replace(epoch=0, num_train_samples=0), ROW], ROW)
    folder.write_summary(SUMMARY)
    folder.unlock()
    assert folder.is_finished()

    def use() -> None:
        folder.check(resume=True)
        config_files.read(tmp_path)
        for row in folder.read_metrics():
            assert list(map(type, row)) == list(map(type, ROW))
        if folder.is_finished():
            print_runs([(tmp_path, folder.read_summary())])
        aevb.load_run(tmp_path)

    names = ("config.json", "metrics.csv", "summary.json")
    originals = {name: (tmp_path / name).read_bytes() for name in names}
    for index in range(1100):
        name = names[index % len(names)]
        of_older_version = index % 2 == 0  # it has no checksum that would reveal damage
        (tmp_path / name).write_bytes(mutated(rng, (_unsealed if of_older_version else bytes)(originals[name])))
        with hostile_input(), contextlib.redirect_stdout(io.StringIO()), pytest.raises(RunError):
            use()  # for a run without checkpoints: it always raises in the end
        (tmp_path / name).write_bytes(originals[name])


def _unsealed(contents: bytes) -> bytes:
    """Return config.json, summary.json or metrics.csv without checksums."""
    if contents.startswith(b"{"):
        return json.dumps(unsealed(json.loads(contents)), indent=2).encode()
    return b"".join(line.rpartition(b",")[0] + b"\r\n" for line in contents.splitlines())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax's coroutines
@pytest.mark.parametrize(("with_checksums", "count"), [(True, 500), (False, 200)])
def test_checkpoints(tmp_path, with_checksums, count):
    rng = random.Random(5)
    model = aevb.mlp_vae((64,), 2, 4)
    template = init_train_state(jax.random.key(0), model, paper_optimizer())
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(template, -30.0, 1.0)
    folder = tmp_path / "0"
    if not with_checksums:
        (folder / MANIFEST_FILE).unlink()
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    expected = jax.tree.leaves(template.params)
    assert checkpoints.restore_latest(template) is not None  # compile and load what it needs
    reads: tuple[Callable, ...] = (
        lambda: checkpoints.restore_params(),
        lambda: checkpoints.restore_latest(template).state.params,  # pyright: ignore[reportOptionalMemberAccess]
    )
    for index in range(count):
        path = rng.choice(paths)
        original = path.read_bytes()
        path.write_bytes(mutated(rng, original))
        with hostile_input(), contextlib.suppress(RunError):
            found = jax.tree.leaves(reads[index % 2]())
            if with_checksums:
                for one, other in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(one, other)
        path.write_bytes(original)
    assert len(jax.tree.leaves(checkpoints.restore_params())) == len(expected)
    checkpoints.close()
