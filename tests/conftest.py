import gc
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from tests.long import LONG

ROOT = Path(__file__).resolve().parent.parent

_DEADLINE = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--minutes", type=float, default=float("inf"), help="skip, and name, tests not begun by then")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_DEADLINE] = time.monotonic() + 60 * float(config.getoption("--minutes", default="inf"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.partition("tests/")[2] in LONG:
            item.add_marker(pytest.mark.slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if time.monotonic() > item.config.stash[_DEADLINE]:
        pytest.skip(f"no time left: {item.config.getoption('--minutes'):.0f} minutes had gone by")


@pytest.fixture(scope="session", autouse=True)
def compiled_programs() -> Iterator[None]:
    """Share one cache of compiled programs between this session and its processes: compiling dominates the run time."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        # Oracles use single precision, but a GPU by default rounds factors to ten bits.
        jax.config.update("jax_default_matmul_precision", "highest")
        yield


@pytest.fixture(autouse=True)
def mapped_programs() -> Iterator[None]:
    """Unload compiled programs before their memory maps reach Linux's limit of 65,530, where compiling crashes."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def x64():
    """Enable double precision for one test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="module")
def barely_optimized() -> Iterator[None]:
    """Compile with little optimization, in half the time, for tests that run each program once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def precision(dtype: str):
    """Enable double precision for the cases of a test whose `dtype` requires it."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of original MNIST and Frey Face files, or skip with the places searched."""
    folder = Path(os.environ.get("AEVB_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data are not at {folder}; name their folder in AEVB_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder of prepared data for the whole session and all its workers. Preparation takes a lock."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "data"
