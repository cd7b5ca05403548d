"""Random command lines of every binary end with status 0, 2 or 130, and at most one line of explanation.

They leave nothing unfinished and print no traceback. Most run in forked children of one process that has imported
everything, `tests.forked`; some run as real processes.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.flag_lines import COMMANDS, Line, Lines, all_binaries, flags_in, make_files, unfinished
from tests.forked import Ended, Forks

SECONDS = 90.0  # seconds until a command gets a SIGINT
MEMORY = 8 << 30
LONGEST = 2100  # longest error line in characters
_TRAINING = ["--latent_dim=2", "--num_epochs=1", "--nodraw_pictures", "--workdir=run"]


class Fuzz:
    """Runs command lines, each in its own new folder, and reports what is wrong with their ends."""

    def __init__(self, forks: Forks, folder: Path, environment: dict[str, str]):
        """Train the runs that the tools need."""
        self._forks, self._folder, self._environment = forks, folder, environment
        self._paths = make_files(folder / "files")
        self.ends: Counter[str] = Counter()
        self.seconds = 0.0
        for name, key, more in (
            ("digits", "run", ("--hidden_dim=4",)),
            ("sequences", "sequences_run", (f"--data={self._paths['sequences']}", "--model=linear_gaussian")),
        ):
            (here := folder / key).mkdir()
            done = forks.run(f"experiments.{name}", [*_TRAINING, *more], here)
            assert done.status == 0, done.errors
            self._paths[key] = str(here / "run")
        self.flags = {
            name: flags_in(forks.run("tests.flag_lines", [name], folder, "describe").output) for name in COMMANDS
        }

    def arguments(self, line: Line) -> list[str]:
        """Return the arguments with paths in place of their names."""
        return [_with_paths(each, self._paths) for each in line.arguments]

    def wrong(self, line: Line, as_process: bool = False) -> str:
        """Run a line in a child or as a real process; return what is wrong with its end, or an empty string."""
        here = self._folder / "current" / "folder"
        here.mkdir(parents=True)
        try:
            module, arguments = f"experiments.{line.name}", self.arguments(line)
            done = self._process(module, arguments, here) if as_process else self._forks.run(module, arguments, here)
            self.ends[str(done.status)] += 1
            self.ends["interrupted"] += done.was_interrupted
            self.seconds += done.seconds
            found = _judge(done, here)
        finally:
            shutil.rmtree(here.parent)
        shown = " ".join(each if len(each) < 100 else f"{each[:60]}...{len(each)}" for each in self.arguments(line))
        return found and f"{line.name} {shown!r}: {found}"

    def _process(self, module: str, arguments: Sequence[str], folder: Path) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
            env=os.environ | self._environment | {"PYTHONPATH": str(ROOT)}, timeout=10 * SECONDS, check=False,
        )  # fmt: skip
        texts = [each.decode(errors="backslashreplace") for each in (done.stdout, done.stderr)]
        return Ended(done.returncode, *texts, 0.0, 0, False)


def _with_paths(text: str, paths: dict[str, str]) -> str:
    for name, path in paths.items():
        text = text.replace(f"{{{name}}}", path)
    return text


def _judge(done: Ended, folder: Path) -> str:
    lines = done.errors.splitlines()
    if done.status not in (0, 2, 130) or "Traceback" in done.errors + done.output:
        return f"status {done.status}: {done.errors[-3000:]} {done.output[-300:]}"
    last = [line for line in lines if not line.startswith("warning: ")]
    if done.status and (len(last) != 1 or not last[0].startswith("error: ") or len(last[0]) > LONGEST):
        return f"status {done.status}, and not one line: {done.errors[:2000]!r}"
    if done.status != 130 and (left := [*unfinished(folder), *map(str, set(folder.parent.iterdir()) - {folder})]):
        return f"status {done.status}, {last}, and left {left}"
    return ""


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    folder = tmp_path_factory.mktemp("fuzz")
    (home := folder / "home").mkdir()
    nowhere = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "HTTP", "HTTPS")}
    environment = {**nowhere, "HOME": str(home), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    with Forks(SECONDS, MEMORY, **environment) as forks:
        yield Fuzz(forks, folder, environment)


def test_every_binary_is_in_the_table():
    assert set(COMMANDS) == all_binaries()


_ONCE_WRONG = {
    "help": (Line("digits", ["--help"], True), 0),
    "long value": (Line("digits", [f"--seed={'9' * 5000}"], False), 2),
    "long name": (Line("digits", [f"--{'x' * 5000}"], False), 2),
    "profile": (Line("digits", ["--profile_file=nowhere/x"], False), 2),
    "nobody": (Line("digits", ["--data_dir=~nobody-here/x"], False), 2),
    "count": (Line("inpaint", ["--run={run}", "--mask=lower", f"--num_steps={2**63 - 1}"], False), 2),
    "setting": (Line("digits", [f"--batch_size={2**63}"], False), 2),
    "memory": (Line("hmm", ["--data={sequences}", "--num_states=2", f"--num_restarts={2**31 - 1}"], False), 2),
    "diverges": (Line("forecast", [*COMMANDS["forecast"], "--learning_rate=1e19", "--num_epochs=1"], False), 2),
    "download": (Line("frey_face", ["--data_dir=new"], False), 2),
    "fields": (Line("digits", ["--param_dtype=,"], False), 2),
    "uninterruptible": (
        Line("semi_supervised", [*COMMANDS["semi_supervised"], f"--num_m1_epochs={2**31 - 1}"], False),
        130,
    ),
}


_SLOW = ("diverges", "memory", "uninterruptible")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in _SLOW else name for name in _ONCE_WRONG]
)
def test_lines_that_were_once_wrong(fuzz, name):
    line, status = _ONCE_WRONG[name]
    before = fuzz.ends[str(status)]
    assert not (found := fuzz.wrong(line)), found
    assert fuzz.ends[str(status)] == before + 1


def _run(fuzz: Fuzz, number: int, seed: int, good: float = 0.125, limit: int = 20) -> None:
    lines, wrong = Lines(fuzz.flags, seed, good), []
    for _ in range(number):
        if found := fuzz.wrong(lines.next()):
            wrong.append(found)
    print(f"\n{number} lines, seed {seed}: {dict(fuzz.ends)}, {fuzz.seconds:.0f} s of the processor")
    assert not wrong, f"{len(wrong)} of {number}:\n" + "\n".join(wrong[:limit])


def test_a_few_random_lines(fuzz):
    _run(fuzz, 80, seed=0, good=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [10, 11, 12, 13])
def test_two_thousand_random_lines(fuzz, seed):
    _run(fuzz, 500, seed)


def test_a_few_as_real_processes(fuzz):
    _as_processes(fuzz, 2, seed=1)


@pytest.mark.slow
def test_as_real_processes(fuzz):
    _as_processes(fuzz, 30, seed=2)


def _as_processes(fuzz: Fuzz, number: int, seed: int) -> None:
    lines = Lines(fuzz.flags, seed)
    wrong = [found for found in (fuzz.wrong(lines.next(), as_process=True) for _ in range(number)) if found]
    assert not wrong, f"{len(wrong)} of {number}:\n" + "\n".join(wrong)
