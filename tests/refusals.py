"""Real commands that must be refused with one line, exit status 2, and nothing written; one process per command."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.processes import run_in

NUM_AT_A_TIME = max(2, os.cpu_count() or 2)
LONGEST = 400  # longest error line in characters, without paths


class Case(NamedTuple):
    """A mistake in a command, and the expected answer.

    Attributes:
      words: A part of the error line.
      flags: The flags of the command.
    """

    words: str
    flags: Sequence[str] = ()


def answer(case: Case, folder: Path) -> str:
    """Run the command in its own folder; return what is wrong with its refusal, or an empty string."""
    here = folder / "current"
    here.mkdir()
    before = sorted(folder.rglob("*"))
    done = run_in(here, [sys.executable, "-m", "experiments.images", *case.flags])
    lines = done.stderr.splitlines()
    if done.returncode != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
        return f"exit status {done.returncode}, {done.stderr!r}"
    if case.words not in lines[0] or len(lines[0].replace(str(folder), "")) > LONGEST:
        return f"{lines[0]!r} has not {case.words!r}, or is too long"
    written = sorted(folder.rglob("*"))
    return "" if written == before else f"wrote {[path for path in written if path not in before]}"


def assert_refused(cases: Mapping[str, Callable[[Path], Case]], folder: Path) -> None:
    """Make the data of every case, run all commands, several at a time, and report those not refused."""

    def one(name: str) -> str:
        (own := folder / name.replace(" ", "_")).mkdir()
        wrong = answer(cases[name](own), own)
        return wrong and f"{name}: {wrong}"

    with ThreadPoolExecutor(NUM_AT_A_TIME) as pool:
        wrong = [each for each in pool.map(one, cases) if each]
    assert not wrong, "\n".join(wrong)
