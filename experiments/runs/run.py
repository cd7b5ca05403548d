"""The training loop: from configurations to run folders."""

import contextlib
import dataclasses
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aevb.algorithms import TrainState
from aevb.checkpoints import RunError
from aevb.training import Evaluation
from aevb.training.divergence import DivergedError
from aevb.training.population import member_of
from experiments.configs import Config
from experiments.reports.per_step import mean_lengths
from experiments.runs import distributed
from experiments.runs.closing import closing_summary, params_of_model
from experiments.runs.folder import DamagedError, RunFolder, TakenError
from experiments.runs.program import End, Program, Start, num_steps, programs_of
from experiments.runs.recorder import Follower, Recorder
from experiments.runs.splits import Splits
from experiments.runs.termination import TerminatedError, Termination

_SECONDS_BETWEEN_LOOKS = 1.0


class Run(NamedTuple):
    """One configuration to train.

    Attributes:
      config: everything that decides its numbers.
      workdir: the run folder, created if it is missing.
      name: the name of the run in figures and printed output.
    """

    config: Config
    workdir: Path
    name: str


class Outcome(NamedTuple):
    """The result of a run.

    Attributes:
      summary: the contents of summary.json; empty if there is none.
      history: the rows of metrics.csv.
      diverged: the error if training diverged; otherwise `None`.
      was_finished: whether the run was finished before.
      damaged: the error if its metrics cannot be read, in which case nothing was done; otherwise `None`.
    """

    summary: dict[str, Any]
    history: list[Evaluation]
    diverged: DivergedError | None = None
    was_finished: bool = False
    damaged: DamagedError | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of training that do not change the numbers.

    Attributes:
      resume: whether to resume existing runs; finished runs are left as they are.
      stream: whether to read the data during training instead of holding them on the device.
      keep_all_checkpoints: whether to keep all checkpoints instead of the last few and the best.
      draw_pictures: whether to draw the figures of each run in its folder.
      together: whether one program trains all runs that it can, at the same time.
      save_seconds: seconds between checkpoints, where evaluations are further apart.
    """

    resume: bool = True
    stream: bool = False
    keep_all_checkpoints: bool = False
    draw_pictures: bool = True
    together: bool = False
    save_seconds: float = 600.0


def train(run: Run, splits: Splits, options: Options) -> Outcome:
    """Train one configuration and record everything in its folder.

    Nothing is written before the first evaluation has succeeded, so bad arguments leave nothing behind.

    Raises:
      RunError: the folder holds something else, another process writes to it, or it cannot be written to.
      DivergedError: the bound became NaN; the last good state stays in the checkpoints.
      TerminatedError: SIGTERM was received; the state at that moment is saved.
    """
    (outcome,) = _train_program([run], splits, options)
    if outcome.damaged is not None:
        raise outcome.damaged
    if outcome.diverged is None:
        return outcome
    error, kept = outcome.diverged, f"; the last good state is in {RunFolder(run.workdir, run.config).checkpoints}"
    raise DivergedError(error.step, f"{error}{kept if outcome.history else ''}", error.indices) from None


def train_all(runs: Sequence[Run], splits: Splits, options: Options) -> list[Outcome]:
    """Train several configurations on the same data, each into its folder, as `train` does.

    Runs that another process is training are left to it and awaited at the end. A diverging run keeps its last good
    state and has no summary. A run with damaged metrics is left as it is. Neither stops the others.

    Raises:
      RunError: a folder holds something else, or cannot be written to.
      TerminatedError: as for `train`.
    """
    outcomes: dict[int, Outcome] = {}
    waited = False
    while left := [number for number in range(len(runs)) if number not in outcomes]:
        taken = 0
        for members in programs_of([runs[number].config for number in left]) if options.together else _apart(left):
            numbers = [left[member] for member in members]
            try:
                found = _train_program([runs[number] for number in numbers], splits, options)
            except TakenError:
                taken += len(numbers)
                continue
            outcomes |= dict(zip(numbers, found, strict=True))
            for number, outcome in zip(numbers, found, strict=True):
                if outcome.diverged is not None:
                    print(f"{runs[number].name} diverges: {outcome.diverged}", flush=True)
                if outcome.damaged is not None:
                    print(f"{runs[number].name} is damaged: {outcome.damaged}", flush=True)
        if taken == len(left):
            if not waited:
                print(f"waiting for {taken} of {len(runs)} runs that another process is training", flush=True)
            waited = True
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    return [outcomes[number] for number in range(len(runs))]


def _apart(numbers: Sequence[int]) -> list[list[int]]:
    return [[member] for member in range(len(numbers))]


class _Opened(NamedTuple):
    run: Run
    folder: RunFolder
    recorder: Recorder
    state: TrainState | None  # to resume from; None if the run begins


def _train_program(runs: Sequence[Run], splits: Splits, options: Options) -> list[Outcome]:
    """Train the unfinished runs of one program; those at the same step are trained together."""
    if options.stream and distributed.process_count() > 1:
        raise ValueError(
            "--stream works in one process only: without it, each of several processes holds a part of the data"
        )
    if not distributed.is_writer():
        return [_follow(run, splits) for run in runs]
    outcomes: dict[Path, Outcome] = {}
    for run in runs:
        folder = RunFolder(run.workdir, run.config)
        with distributed.said_to_others():
            folder.check(options.resume)
        if folder.is_finished():
            distributed.say(distributed.FINISHED)
            try:
                outcomes[run.workdir] = Outcome(*folder.read_finished(), was_finished=True)
            except DamagedError as error:
                outcomes[run.workdir] = Outcome({}, [], damaged=error)
    unfinished = [run for run in runs if run.workdir not in outcomes]
    if unfinished:
        # Built from all runs, so that the remaining ones are padded, and so rounded, as if none had finished before.
        program = Program([run.config for run in runs], splits, options.stream)
        outcomes |= _train_unfinished(program, unfinished, splits, options)
    return [outcomes[run.workdir] for run in runs]


def _train_unfinished(program: Program, runs: Sequence[Run], splits: Splits, options: Options) -> dict[Path, Outcome]:
    opened: list[_Opened] = []
    outcomes: dict[Path, Outcome] = {}
    termination = Termination()
    try:
        with distributed.said_to_others():
            for run in runs:
                try:
                    opened.append(_open(run, program, splits, options, termination))  # closed if one fails
                except DamagedError as error:
                    if len(runs) == 1 and distributed.process_count() > 1:
                        raise  # the other processes are told
                    outcomes[run.workdir] = Outcome({}, [], damaged=error)
        by_step: dict[int, list[_Opened]] = defaultdict(list)
        for member in opened:
            by_step[-1 if member.state is None else int(member.state.step)].append(member)
        for _, members in sorted(by_step.items()):
            ends = program.fit(*_starting(program, members, termination))
            for member, end in zip(members, ends, strict=True):
                outcomes[member.run.workdir] = _finish(member, end, splits, options)
    except BrokenPipeError:  # from printing, not from the folder
        raise
    except OSError as error:
        raise RunError(f"cannot write to {runs[0].workdir}: {error.strerror or error}") from None
    finally:
        for member in opened:
            with contextlib.suppress(OSError):  # if the disk fails, report the first error, which names the folder
                member.recorder.close()
            member.folder.unlock()
    return outcomes


def _open(run: Run, program: Program, splits: Splits, options: Options, termination: Termination) -> _Opened:
    """Lock the run's folder and restore its state."""
    folder = RunFolder(run.workdir, run.config)
    if run.workdir.is_dir():
        folder.lock()
    steps = num_steps(run.config, len(splits.train.images))
    keep_all, save_seconds = options.keep_all_checkpoints, options.save_seconds
    recorder = Recorder(folder, run.name, steps, keep_all, termination, save_seconds, mean_lengths(splits))
    try:
        state = recorder.resume(lambda: program.template(run.config)) if options.resume else None
    except BaseException:
        with contextlib.suppress(OSError):
            recorder.close()
        folder.unlock()
        raise
    return _Opened(run, folder, recorder, state)


def _starting(program: Program, members: Sequence[_Opened], termination: Termination) -> tuple[list[Start], Any]:
    """Return the arguments of `Program.fit`: one member uses its recorder's pause, several one that saves them all."""

    def pause(stacked: TrainState, seconds: float) -> None:
        if termination.requested:
            for index, member in enumerate(members):
                member.recorder.save(program.own(member.run.config, member_of(stacked, index)), seconds)
            raise TerminatedError

    starts = [Start(member.run.config, member.recorder, member.state) for member in members]
    return starts, members[0].recorder.pause if program.is_alone(members) else pause


def _finish(member: _Opened, end: End, splits: Splits, options: Options) -> Outcome:
    """Draw the figures and write the summary, or record why training diverged."""
    run, folder, recorder, _ = member
    if end.diverged is not None:
        if recorder.history:
            folder.write_divergence(str(end.diverged))
        return Outcome({}, recorder.history, end.diverged)
    assert end.state is not None
    best = recorder.best_params()
    recorder.close()
    if options.draw_pictures:
        # Imported late: matplotlib takes two seconds, and an error should not wait for it.
        from experiments.reports import pictures
        from experiments.reports.progress import write_images

        params = params_of_model(run.config, end.state.params if best is None else best)
        pictures.draw_all(folder.figures, run.config, params, splits.test, recorder.history, run.name)
        write_images(folder.path, folder.figures, recorder.history[-1].num_train_samples)
    summary = closing_summary(run.config, run.name, splits, recorder.history, end.state, best, options.stream)
    folder.write_summary(summary)
    return Outcome(summary, recorder.history)


def _follow(run: Run, splits: Splits) -> Outcome:
    """Train along with the writing process."""
    follower = Follower()
    diverged = None
    try:
        program = Program([run.config], splits)
        (end,) = program.fit([Start(run.config, follower, None)], follower.pause)
        diverged = end.diverged
    except distributed.FinishedError:
        pass
    finally:
        follower.close()
    return Outcome({}, follower.history, diverged)
