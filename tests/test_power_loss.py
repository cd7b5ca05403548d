"""A power cut at any moment of a run: the run resumes to the same bits, or explains in one line why it cannot."""

import os
import shutil
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

import aevb
from aevb.checkpoints import RunError, RunWarning
from experiments.runs.run import Options, Run, train
from tests.conftest import ROOT
from tests.power_cuts import record, states, write_out
from tests.processes import metrics, without_seconds
from tests.runs import tiny_config, tiny_splits

_SCRIPT = """
import sys
from pathlib import Path
import jax
jax.config.update("jax_enable_x64", True)
from experiments.runs.run import Options, Run, train
from tests.runs import tiny_config, tiny_splits
splits = tiny_splits()
options = Options(draw_pictures=False, stream=sys.argv[2] == "stream")
train(Run(tiny_config(splits, num_epochs=2), Path(sys.argv[1]), "run"), splits, options)
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("how", ["resident", "stream"])
def test_every_state_that_a_power_cut_may_leave_goes_on_to_the_same_bits(how, tmp_path, capsys):
    root = tmp_path / "disk"
    root.mkdir()
    command = [sys.executable, "-c", _SCRIPT, str(root / "run"), how]
    calls = record(command, root, tmp_path / "log", cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    with jax.enable_x64(True):
        splits = tiny_splits()
        config = tiny_config(splits, num_epochs=2)
        options = Options(draw_pictures=False, stream=how == "stream")
        expected = _end(root / "run")
        tried, refused = 0, []
        for number, survives, left in states(calls, root):
            folder = tmp_path / "state"
            folder.mkdir()
            write_out(left, folder)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RunWarning)  # a checkpoint that is skipped
                    train(Run(config, folder / "run", "run"), splits, options)
                _assert_same(_end(folder / "run"), expected, f"after {number} calls, {survives}")
            except RunError as error:
                refused.append(f"after {number} calls, {survives}: {error}")
            shutil.rmtree(folder)
            tried += 1
    with capsys.disabled():
        print(f"\n{how}: {len(calls)} calls, {tried} states, {len(refused)} of which say why they do not go on")
        print("\n".join(refused))
    assert all(len(each.splitlines()) == 1 for each in refused)
    assert tried > 50
    assert len(refused) < tried / 10


def _end(folder: Path) -> tuple[list[dict[str, str]], list[np.ndarray]]:
    """Return the metrics without their seconds, and the final parameters."""
    _, params = aevb.load_run(folder)
    return without_seconds(metrics(folder)), jax.tree.leaves(params)


def _assert_same(found: tuple, expected: tuple, when: str) -> None:
    assert found[0] == expected[0], when
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_array_equal(one, other, err_msg=when)
