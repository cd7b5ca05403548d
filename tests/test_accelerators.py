"""Every program lowers for CUDA and TPU, which is what can be tested without an accelerator.

The report of `make accelerators` shows the results of their compilers.
"""

import functools
import importlib
import pkgutil
import re
from typing import Any

import jax
import pytest

import aevb
from tests.accelerators.programs import PROGRAMS, SMALL

PLATFORMS = ("cuda", "tpu")
QUICK = {"training, stochastic", "population", "evaluation", "log p(x), importance sampling"}

# Calls into the platform's own libraries: cuSOLVER's factorisations, and the TPU compiler's.
CUSTOM_CALLS = {
    "cuda": {"cusolver_potrf_ffi", "cusolver_getrf_ffi", "cu_lu_pivots_to_permutation"},
    "tpu": {"LuDecomposition"},
}

# Functions that run once or inspect data: they work on keys, checks and copies.
# Compression multiplies integers, once per batch.
OF_THE_HOST = {
    "aevb.compression.programs.numbers_of_batch",
    "aevb.data.binarization._extremes",
    "aevb.hidden_markov.emissions.is_supported",
    "aevb.particles._mixes_steps",
    "aevb.support._depending_inside",
    "aevb.support._extreme_conditions",
    "aevb.support._extremes",
    "aevb.training.divergence._copy",
    "aevb.training.divergence._finite_ones",
    "aevb.training.keys.key_pair",
    "aevb.training.keys._after_epochs",
    "aevb.training.keys._in_mid_epoch",
    "aevb.training.members._stack",
    "aevb.training.members._member_of",
    "aevb.training.members._begin_epochs",
}


@functools.cache
def lowered(name: str, platform: str) -> str:
    """Return the program lowered for a platform. Tracing must not query the host's devices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "default_backend", _refuse)
        return traced(name).lower(lowering_platforms=(platform,)).as_text()


@functools.cache
def traced(name: str) -> jax.stages.Traced:
    with jax.default_matmul_precision("default"):  # the default of users; other tests use "highest"
        return PROGRAMS[name]("cuda", SMALL).trace()


def _refuse() -> str:
    raise AssertionError("jax.default_backend() was asked for while a program was traced")


def some_slow(names: Any) -> list:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", some_slow(PROGRAMS))
def test_lowers_to_what_an_accelerator_has(name):
    donates, state = PROGRAMS[name]("cuda", SMALL).donates, PROGRAMS[name]("cuda", SMALL).arguments[0]
    for platform in PLATFORMS:
        text = lowered(name, platform)
        assert set(re.findall(r"custom_call @([\w.$]+)", text)) <= CUSTOM_CALLS[platform]
        assert "f64" not in text, "double precision"
        assert "callback" not in text, "calls the host"
        donated = text.count("tf.aliasing_output") + text.count("jax.buffer_donor")
        assert donated == (len(jax.tree.leaves(state)) if donates else 0)


def test_random_bits_are_those_of_the_platform_that_is_compiled_for():
    """Random bits are unrolled with a barrier only on a CPU, where JAX's own rounds are loops."""
    barriers = {platform: lowered("training, grey", platform).count("optimization_barrier") for platform in _ALL}
    loops = {platform: lowered("training, grey", platform).count("stablehlo.while") for platform in _ALL}
    assert barriers["cpu"] > 0
    assert barriers["cuda"] == barriers["tpu"] == 0
    assert loops["cpu"] > loops["cuda"] == loops["tpu"] == 2, "epochs and minibatches"


def test_convolutions_are_those_of_the_platform_that_is_compiled_for():
    found = {platform: "stablehlo.convolution" in lowered("training, convolutional", platform) for platform in _ALL}
    assert found == {"cpu": False, "cuda": True, "tpu": True}


def test_pixels_are_multiplied_before_their_logarithm_only_where_that_is_faster():
    """Reshaped products of 16 pixels cost a TPU half as much memory traffic again in evaluation."""
    for name in ("training, grey", "evaluation"):
        found = {platform: "applies stablehlo.multiply" in lowered(name, platform) for platform in _ALL}
        assert found == {"cpu": True, "cuda": False, "tpu": False}


def test_rows_are_gathered_from_tables_where_images_would_be_spread_over_tiles():
    """On a CPU, rows are gathered from the images themselves."""
    gathered = lambda platform, shape: f"(tensor<1000x{shape}xf32>, " in _gathers("training, grey", platform)
    assert gathered("cpu", "8x8")
    assert not gathered("cpu", "64")
    for platform in PLATFORMS:
        assert gathered(platform, "64")
        assert not gathered(platform, "8x8")


def test_stochastic_targets_are_kept_from_being_drawn_again():
    """A barrier prevents it where compilers consider a square root cheap."""
    for platform in PLATFORMS:
        assert lowered("training, stochastic", platform).count("optimization_barrier") == 1


@pytest.mark.parametrize("name", ["evaluation", "log p(x), importance sampling"])
def test_what_is_reported_is_multiplied_in_float32(name):
    text = lowered(name, "tpu")
    assert text.count("stablehlo.dot_general") == text.count("precision = [HIGHEST, HIGHEST]") > 0
    assert "HIGHEST" not in lowered("training, grey", "tpu")


@pytest.mark.slow
def test_every_compiled_function_is_in_a_program():
    """A new program of `aevb` must be added to the list, or to the functions that run once."""
    called = set()
    for name in PROGRAMS:
        called.add(getattr(PROGRAMS[name]("cuda", SMALL).function, "__name__", ""))
        called |= set(re.findall(r"\bname=(\w+)", str(traced(name).jaxpr)))
    missing = [place for place in _compiled_functions() if place.rpartition(".")[2] not in called]
    wrong = sorted(OF_THE_HOST.symmetric_difference(missing))
    assert not wrong, "\n".join(wrong)


def _gathers(name: str, platform: str) -> str:
    return "\n".join(line for line in lowered(name, platform).splitlines() if "stablehlo.gather" in line)


def _compiled_functions() -> list[str]:
    """Return the names of the compiled functions of all modules, by where they are defined."""
    found = []
    for module in pkgutil.walk_packages(aevb.__path__, "aevb."):
        for name, value in vars(importlib.import_module(module.name)).items():
            is_compiled = isinstance(value, jax.stages.Wrapped) and not isinstance(value, type)
            if is_compiled and getattr(value, "__module__", "") == module.name:
                found.append(f"{module.name}.{name}")
    return found


_ALL = ("cpu", *PLATFORMS)
