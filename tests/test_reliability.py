"""Run folders survive damage, a second writer, SIGTERM, SIGKILL, a full disk and a read-only one."""

import functools
import gc
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aevb
from aevb.algorithms import TrainState
from aevb.checkpoints import Checkpoints, RunError, RunWarning
from aevb.manifests import MANIFEST_FILE
from aevb.training import Evaluation
from experiments import configs
from experiments.configs import Config
from experiments.runs.folder import RunFolder
from tests.models import DATA_DIM
from tests.processes import assert_one_line_error, assert_same_run, lives, metrics, rows_written, run, start, wait_for

MODEL = aevb.mlp_vae((DATA_DIM,), 2, 4)
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect damaged checkpoints that Orbax left half-read, whose warnings would otherwise appear in a later test."""
    yield
    gc.collect()


def state_at(step: int) -> TrainState:
    """A state whose every number contains its step."""
    params = jax.tree.map(lambda leaf: jnp.full_like(leaf, step), MODEL.init(jax.random.key(0)))
    return TrainState(params, (), jax.random.key(step), jnp.int32(step))


def save(folder: Path, *steps: int, bounds: dict[int, float] | None = None, keep_all: bool = False) -> None:
    checkpoints = Checkpoints(folder, keep_all)
    for step in steps:
        checkpoints.save(state_at(step), (bounds or {}).get(step, -100.0 + step), seconds=float(step))
    checkpoints.close()


def restored_step(folder: Path) -> int:
    checkpoints = Checkpoints(folder)
    restored = checkpoints.restore_latest(state_at(0))
    checkpoints.close()
    assert restored is not None
    step = int(restored.state.step)
    for one, other in zip(jax.tree.leaves(restored.state.params), jax.tree.leaves(state_at(step).params), strict=True):
        np.testing.assert_array_equal(one, other)
    assert restored.seconds in (step, None)
    return step


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def largest(folder: Path) -> Path:
    return max(files(folder), key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 0x10
    path.write_bytes(contents)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# Damaged checkpoints


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: truncate(largest(folder)),
        lambda folder: flip(largest(folder)),
        lambda folder: largest(folder).unlink(),
        lambda folder: truncate(folder / MANIFEST_FILE),
        lambda folder: (folder / MANIFEST_FILE).write_text("[]"),
        lambda folder: shutil.rmtree(folder / "default"),
        lambda folder: [truncate(path) for path in files(folder)],
        lambda folder: [path.unlink() for path in files(folder)],
    ],
    ids=["truncated", "flipped", "missing", "manifest", "other manifest", "no folder", "all truncated", "all missing"],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, damage):
    save(tmp_path, 10, 20, 30)
    damage(tmp_path / "30")
    with pytest.warns(RunWarning, match=r"checkpoint 30 in .*: checkpoint 20 is used instead"):
        assert restored_step(tmp_path) == 20
    checkpoints = Checkpoints(tmp_path)
    with pytest.warns(RunWarning, match="checkpoint 30 in "):
        assert np.all(checkpoints.restore_params()["decoder"]["Dense_0"]["bias"] == 20)
    with pytest.raises(RunError, match="checkpoint 30 in "):
        checkpoints.restore_params(30)
    checkpoints.close()
    save(tmp_path, 30)  # when the run reaches it again
    assert restored_step(tmp_path) == 30


def test_going_back_over_several_makes_room_for_what_comes(tmp_path):
    save(tmp_path, 10, 20, 30)
    for step in (20, 30):
        flip(largest(tmp_path / str(step)))
    with pytest.warns(RunWarning, match=r"checkpoint 30 .* damaged.* checkpoint 20 .* damaged.* checkpoint 10 is used"):
        assert restored_step(tmp_path) == 10
    save(tmp_path, 15)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "15"]
    assert restored_step(tmp_path) == 15


def test_no_usable_checkpoint_is_an_error(tmp_path):
    save(tmp_path, 10, 20)
    for step in (10, 20):
        flip(largest(tmp_path / str(step)))
    with pytest.raises(RunError, match=r"checkpoint 20 in .* is damaged.*checkpoint 10 in .* is damaged"):
        restored_step(tmp_path)


def test_checkpoints_of_older_versions_have_no_checksums_and_load(tmp_path):
    save(tmp_path, 10, 20)
    for step in (10, 20):
        (tmp_path / str(step) / MANIFEST_FILE).unlink()
    assert restored_step(tmp_path) == 20
    truncate(largest(tmp_path / "20"))
    with pytest.warns(RunWarning, match="checkpoint 20 in .* cannot be read"):
        assert restored_step(tmp_path) == 10


def test_a_path_in_a_manifest_leads_nowhere(tmp_path):
    save(tmp_path, 10, 20)
    path = tmp_path / "20" / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    manifest["sha256"]["../outside"] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    path.write_text(json.dumps(manifest))
    with pytest.warns(RunWarning, match="checkpoint 20 in .* is damaged"):
        assert restored_step(tmp_path) == 10


def test_the_best_outlives_a_resumption(tmp_path):
    save(tmp_path, 10, 20, 30, bounds={20: -1.0})
    save(tmp_path, 40, 50, 60, 70)  # -60 to -30, by another process
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20", "50", "60", "70"]


def test_without_bounds_the_last_few_are_kept(tmp_path):
    save(tmp_path, 10, 20, 30, 40, 50, bounds=dict.fromkeys(range(0, 60, 10), float("nan")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["30", "40", "50"]


# metrics.csv and summary.json


def row(epoch: int) -> Evaluation:
    return Evaluation(epoch, 100 * epoch, -1.5, -2.5, -2.0, 0.5, 2, 0.25)


def test_a_row_cut_off_in_writing_is_none(tmp_path):
    folder = RunFolder(tmp_path, Config())
    folder.start_metrics([row(0)], row(0))
    whole = (tmp_path / "metrics.csv").read_bytes()
    folder.append_metrics(row(1))
    longer = (tmp_path / "metrics.csv").read_bytes()
    assert folder.read_metrics() == [row(0), row(1)]
    for size in range(len(whole), len(longer)):
        (tmp_path / "metrics.csv").write_bytes(longer[:size])
        assert folder.read_metrics() == [row(0)]


@pytest.mark.parametrize(
    ("heading", "line"),
    [("", ",7"), ("", "cut"), ("", "blank"), ("", "letters"), (",what", ",7"), (",what/z", ",7")],
    ids=["longer", "shorter", "a blank", "no number", "an unknown column", "a level of what has none"],
)
def test_a_damaged_row_is_one_line(tmp_path, heading, line):
    folder = RunFolder(tmp_path, Config())
    folder.start_metrics([row(0)], row(0))
    columns, values = (tmp_path / "metrics.csv").read_text().splitlines()
    first, rest = values.split(",", 1)
    damaged = {"cut": first, "blank": f",{rest}", "letters": f"x{first},{rest}"}.get(line, values + line)
    (tmp_path / "metrics.csv").write_text(f"{columns}{heading}\n{damaged}\n")
    with pytest.raises(RunError, match=r"metrics\.csv cannot be read: [^\n]+$"):
        folder.read_metrics()


def test_going_back_before_its_summary_a_run_is_unfinished(tmp_path):
    folder = RunFolder(tmp_path, configs.change(Config(), num_epochs=10))
    folder.write_summary({"num_epochs": 10, "num_train_samples": 1000})
    folder.reopen(1000)
    assert folder.is_finished()
    folder.reopen(999)
    assert not (tmp_path / "summary.json").exists()


# Pauses


@pytest.mark.parametrize("eval_every", [7, "log"])
def test_pauses_change_nothing_and_a_paused_state_goes_on_to_the_same_bits(monkeypatch, eval_every):
    monkeypatch.setattr("aevb.training.timetable._SECONDS_BETWEEN_PAUSES", 0.0)
    data = np.random.RandomState(0).rand(60, DATA_DIM).astype(np.float32)
    fit = functools.partial(
        aevb.fit,
        data,
        MODEL,
        key=jax.random.key(0),
        test_data=data,
        num_epochs=20,
        batch_size=20,
        eval_every=eval_every,
    )
    whole = fit()
    paused: list[tuple[TrainState, float]] = []

    class Stopped(Exception):  # noqa: N818
        pass

    def stop(state: TrainState, seconds: float) -> None:
        if int(state.step) == 3 * 16:
            paused.append((jax.tree.map(jnp.copy, state), seconds))
            raise Stopped

    before: list[Evaluation] = []
    with pytest.raises(Stopped):
        fit(on_pause=stop, on_evaluation=lambda _, row: before.append(row))
    ((state, seconds),) = paused
    assert before[-1].epoch < 16
    assert seconds >= before[-1].seconds
    after = fit(state=state, seconds=seconds, on_pause=lambda state, seconds: None)
    untimed = lambda rows: [row._replace(seconds=0) for row in rows]
    assert untimed(before + after.history) == untimed(whole.history)
    assert after.history[0].seconds > seconds
    for one, other in zip(jax.tree.leaves(after.state), jax.tree.leaves(whole.state), strict=True):
        assert bool(jnp.all(one == other))


# Real processes


def command(data_dir: Path, workdir: Path, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "experiments.digits", f"--data_dir={data_dir}", f"--workdir={workdir}"),
        *("--latent_dim=2", "--hidden_dim=8", "--resume", *arguments),
    ]


@pytest.mark.slow
def test_one_writer_and_sigterm(data_dir, tmp_path):
    """A second process is refused. SIGTERM saves between evaluations. The resumed run equals an uninterrupted one."""
    flags = ("--num_epochs=3000", "--eval_every=2900")
    first = start(command(data_dir, tmp_path / "run", *flags))
    wait_for(tmp_path / "run" / "checkpoints" / "0" / MANIFEST_FILE, first)
    with pytest.raises(RunError, match="another process is writing to it"):
        RunFolder(tmp_path / "run", Config()).lock()
    time.sleep(1.5)
    first.send_signal(signal.SIGSTOP)  # so that it is not finished before the second has looked
    second = run(command(data_dir, tmp_path / "run", *flags))
    assert second.returncode == 2
    assert_one_line_error(second, "another process is writing to it")
    first.send_signal(signal.SIGTERM)
    first.send_signal(signal.SIGCONT)
    sent = time.monotonic()
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 143, errors
    assert errors == "error: terminated, and saved; the same command with --resume resumes from here\n"
    assert time.monotonic() - sent < 20
    (step,) = {int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()} - {0}
    assert 0 < step < 2900 * 14
    assert [row["epoch"] for row in metrics(tmp_path / "run")] == ["0"]
    for workdir in ("run", "whole"):
        done = run(command(data_dir, tmp_path / workdir, *flags))
        assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "num_kills"), [("aevb", 20), ("wake_sleep", 4), ("monte_carlo_em", 4)])
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(data_dir, tmp_path, algorithm, num_kills):
    """Epochs of a few milliseconds are each followed by an evaluation, so that most of the time goes into writing."""
    flags = (f"--algorithm={algorithm}", "--num_epochs=300", "--eval_every=1")
    whole = run(command(data_dir, tmp_path / "whole", *flags))
    assert whole.returncode == 0, whole.stderr
    workdir, steps = tmp_path / "run", set()
    for _ in lives(command(data_dir, workdir, *flags), num_kills, lambda: rows_written(workdir)):
        steps |= {path.name for path in (workdir / "checkpoints").glob("*") if path.name.isdecimal()}
    assert len(steps) > num_kills // 2  # it made progress between kills
    last = run(command(data_dir, workdir, *flags))
    assert last.returncode == 0, last.stderr
    assert "warning" not in last.stderr  # a kill damages nothing
    assert_same_run(workdir, tmp_path / "whole")
    again = {path: path.read_bytes() for path in files(workdir)}
    assert run(command(data_dir, workdir, *flags)).returncode == 0  # finished: nothing to do
    assert {path: path.read_bytes() for path in files(workdir)} == again


# Full and read-only disks, each a real one mounted for one command

SMALL_DISK = """
size=$1 disk=$2 copy=$3; shift 3
mount -t tmpfs -o "size=$size" tmpfs "$disk" || exit 99
"$@"; status=$?
cp -a "$disk"/. "$copy"; exit $status
"""
READ_ONLY = """
disk=$1; shift
mount --bind "$disk" "$disk" && mount -o remount,ro,bind "$disk" || exit 99
exec "$@"
"""


def with_mounts(script: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a shell script that may mount, in its own namespace."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here: unshare -rm fails")
    done = run(["unshare", "-rm", "sh", "-c", script, "sh", *arguments])
    if done.returncode == 99:
        pytest.skip(f"mounting is not permitted here: {done.stderr}")
    return done


FEW = ("--num_epochs=24", "--eval_every=2")


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("whole") / "run"
    done = run(command(data_dir, workdir, *FEW))
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("size", ["4k", "100k", "1200k"])
def test_a_full_disk_is_one_line_and_what_was_saved_goes_on_elsewhere(data_dir, tmp_path, whole, size):
    """The disk is full at the first row, at the first checkpoint, and after some checkpoints of about 80 KB each."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    copy.mkdir()
    done = with_mounts(SMALL_DISK, size, str(disk), str(copy), *command(data_dir, disk / "run", *FEW))
    assert done.returncode == 2, done.stderr
    assert_one_line_error(done, "No space left on device")
    steps = [path.name for path in (copy / "run" / "checkpoints").glob("*") if (path / MANIFEST_FILE).exists()]
    assert bool(steps) == (size == "1200k")
    if steps:
        aevb.load_run(copy / "run")  # warnings are errors here
    resumed = run(command(data_dir, copy / "run", *FEW))
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert_same_run(copy / "run", whole)


@pytest.mark.slow
def test_a_read_only_folder_is_one_line_and_loads(data_dir, tmp_path, whole):
    shutil.copytree(whole, tmp_path / "disk" / "run")
    disk = tmp_path / "disk"
    for workdir in ("run", "new"):
        done = with_mounts(READ_ONLY, str(disk), *command(data_dir, disk / workdir, "--num_epochs=30", FEW[1]))
        assert done.returncode == 2
        assert_one_line_error(done, f"cannot write to {disk / workdir}: Read-only file system")
    done = with_mounts(READ_ONLY, str(disk), *command(data_dir, disk / "run", *FEW))
    assert (done.returncode, done.stderr) == (0, "")  # finished: nothing to write
    load = f"import aevb; aevb.load_run({str(disk / 'run')!r})"
    done = with_mounts(READ_ONLY, str(disk), sys.executable, "-W", "error", "-c", load)
    assert (done.returncode, done.stderr) == (0, "")
