"""Eight devices against one, in double precision. Devices are counted when JAX starts, hence the separate processes."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT

PROGRAM = """
import sys
import jax, numpy as np
import aevb
from aevb import algorithms, sharding

jax.config.update("jax_enable_x64", True)
data = np.random.RandomState(0).rand(176, 12) ** 3
model = aevb.mlp_vae((12,), 2, 8, param_dtype="float64")
settings = {"test_data": data[160:], "num_epochs": 3, "batch_size": 16, "optimizer": aevb.paper_optimizer(0.1)}
shape, path = sys.argv[1:]

def numbers(history):
    return jax.tree.leaves([row._replace(seconds=0.0) for row in history])

def train():
    found = {}
    for name, algorithm in (("aevb", None), ("wake_sleep", algorithms.wake_sleep)):
        result = aevb.fit(data[:160], model, key=jax.random.key(0), algorithm=algorithm, **settings)
        found[name] = numbers(result.history)
        for index, leaf in enumerate(jax.tree.leaves(result.state.params)):
            found[f"{name} {index}"] = leaf
            if shape != "none":
                assert len(leaf.sharding.device_set) == 8, leaf.sharding
    keys = jax.random.split(jax.random.key(1), 4)
    members = aevb.fit_population(data[:160], model, keys=keys, execution="side_by_side", **settings)
    for k, member in enumerate(members):
        found[f"member {k}"] = numbers(member.result.history)
    return found

if shape == "none":
    found = train()
else:
    mesh = sharding.make_mesh(member=int(shape))
    assert dict(mesh.shape) == {"member": int(shape), "batch": 8 // int(shape)}
    with jax.set_mesh(mesh):
        found = train()
        for room, rows in ((None, 160), (data[:160].nbytes - 1, 160 * int(shape) // 8)):
            placed = sharding.place_rows(data[:160], room)
            assert {shard.data.shape[0] for shard in placed.addressable_shards} == {rows}
np.savez(path, **{name: np.asarray(values) for name, values in found.items()})
"""

FROM_ONE_TO_EIGHT_AND_BACK = """
import contextlib, sys
import jax, numpy as np
import aevb
from aevb import sharding
from aevb.checkpoints import Checkpoints

jax.config.update("jax_enable_x64", True)
data = np.random.RandomState(0).rand(160, 12) ** 3
model, optimizer = aevb.mlp_vae((12,), 2, 8, param_dtype="float64"), aevb.paper_optimizer(0.1)
checkpoints = Checkpoints(sys.argv[1])

def train(num_epochs):
    restored = checkpoints.restore_latest(aevb.init_train_state(jax.random.key(0), model, optimizer))
    state = restored.state if restored else None
    with jax.set_mesh(sharding.make_mesh()) if num_epochs == 4 else contextlib.nullcontext():
        result = aevb.fit(data, model, key=jax.random.key(0), optimizer=optimizer, batch_size=16, num_epochs=num_epochs,
                          eval_every=100, state=state)
    assert len(result.state.step.sharding.device_set) == (8 if num_epochs == 4 else 1)
    checkpoints.save(result.state, 0.0, 0.0)
    return result

bounds = [train(num_epochs).history[-1].train_elbo for num_epochs in (2, 4, 6)]
np.savez(sys.argv[2], bounds=bounds, alone=[row[2] for row in aevb.fit(
    data, model, key=jax.random.key(0), optimizer=optimizer, batch_size=16, num_epochs=6, eval_every=2).history[1:]])
"""
LOAD = """
import sys
import jax, numpy as np
from aevb.checkpoints import Checkpoints

assert len(jax.devices()) == 1
checkpoints = Checkpoints(sys.argv[1])
for step in checkpoints.steps():
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(checkpoints.restore_params(step)))
"""


def run(tmp_path, shape: str) -> dict[str, np.ndarray]:
    path = tmp_path / f"{shape}.npz"
    command = [sys.executable, "-c", PROGRAM, shape, str(path)]
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment(XLA_FLAGS=flags), check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(path))


def environment(**changes: str) -> dict[str, str]:
    return os.environ | {"JAX_PLATFORMS": "cpu"} | changes


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, np.ndarray]:
    return run(tmp_path_factory.mktemp("alone"), "none")


@pytest.mark.parametrize("shape", ["1", "2", pytest.param("4", marks=pytest.mark.slow)])
def test_eight_devices_give_what_one_gives(alone, tmp_path, shape):
    found = run(tmp_path, shape)
    assert found.keys() == alone.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, alone[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_what_was_saved_goes_on_on_other_devices(tmp_path):
    eight, one = environment(XLA_FLAGS="--xla_force_host_platform_device_count=8"), environment(XLA_FLAGS="")
    for program, environ in ((FROM_ONE_TO_EIGHT_AND_BACK, eight), (LOAD, one)):
        command = [sys.executable, "-c", program, str(tmp_path / "checkpoints"), str(tmp_path / "bounds.npz")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ, check=False)
        assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "bounds.npz")
    np.testing.assert_allclose(found["bounds"], found["alone"], rtol=1e-9)
