"""Several runs as one program: a folder each, as if each had been trained alone."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import optax

from aevb import models
from aevb.algorithms import MakeAlgorithm, TrainState
from aevb.data import Dataset
from aevb.saved import model_of
from aevb.training.padding import Padding, padded
from aevb.training.population import fit_population, member_of
from experiments.recorder import Recorder
from experiments.run import FIT_ARGUMENTS, Run, make_algorithm, make_optimizer, reported_bound, summarize
from experiments.run_folder import RunFolder
from experiments.termination import TerminatedError, Termination


def run_together(runs: Sequence[Run], train: Dataset, test: Dataset) -> None:
    """Trains what is not finished yet, resuming; runs that one program can train are trained as one.

    Those are runs that differ in latent size, step size and seed alone. One that diverges keeps its last good state and
    has no summary; the others go on.

    Args:
      runs: of the same data.
      train: the training split.
      test: the test split.

    Raises:
      RunError: a folder holds something else.
    """
    programs: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        folder = RunFolder(run.workdir, run.config)
        folder.check(resume=True)
        if not folder.is_finished():
            programs[_program_of(run.config)].append(run)
    for members in programs.values():
        population = _Population(members, train, test)
        try:
            for run in members:
                population.open(run)
            population.run()
        finally:
            population.close()


def _program_of(config: dict[str, Any]) -> str:
    """Equal for runs that one program can train."""
    arguments = config["model"]["arguments"]
    model = {name: value for name, value in arguments.items() if name != "latent_dim"}
    training = {name: value for name, value in config["training"].items() if name not in ("learning_rate", "seed")}
    # Only plain networks can be padded to a common latent size; with others, sizes apart.
    plain = model["posterior"] == "gaussian" and training["algorithm"] in ("aevb", "wake_sleep")
    latent_dim = None if plain else arguments["latent_dim"]
    return json.dumps([config | {"model": model, "training": training}, latent_dim], sort_keys=True)


class _Member(NamedTuple):
    run: Run
    folder: RunFolder
    recorder: Recorder
    algorithm: Any
    padding: Padding | None
    state: TrainState | None  # to go on from; None at the beginning


class _Population:
    """Runs of one program, from where each of them is."""

    def __init__(self, runs: Sequence[Run], train: Dataset, test: Dataset):
        self._train, self._test = train, test
        self._training = runs[0].config["training"]
        latent_dims = {run.config["model"]["arguments"]["latent_dim"] for run in runs}
        self._pads = len(latent_dims) > 1
        arguments = runs[0].config["model"]["arguments"] | {"latent_dim": max(latent_dims)}
        self._padded_model = models.build(runs[0].config["model"]["name"], **arguments)
        names = ("algorithm", "num_samples", "kl", "gradient")
        self._make: MakeAlgorithm = make_algorithm(*(self._training[name] for name in names))
        self._termination = Termination()
        self._members: list[_Member] = []

    def run(self) -> None:
        """Those that are equally far go together."""
        groups: dict[int, list[_Member]] = defaultdict(list)
        for member in self._members:
            groups[-1 if member.state is None else int(member.state.step)].append(member)
        for step, members in sorted(groups.items()):
            self._fit(members, resumed=step >= 0)

    def close(self) -> None:
        """Lets the run folders go."""
        for member in self._members:
            member.recorder.close()
            member.folder.unlock()

    def open(self, run: Run) -> None:
        """Locks the run's folder and looks how far it is."""
        model = model_of(run.config)
        optimizer = self._optimizer(run.config["training"]["learning_rate"])
        algorithm = self._make(model, optimizer, len(self._train.images), self._training["map_prior"])
        steps_per_epoch = len(self._train.images) // self._training["batch_size"]
        folder = RunFolder(run.workdir, run.config)
        if run.workdir.is_dir():
            folder.lock()
        recorder = Recorder(folder, run.name, steps_per_epoch, True, self._termination)
        state = recorder.resume(lambda: algorithm.init(jax.random.key(0)))
        padding = Padding(optimizer, model, self._padded_model) if self._pads else None
        self._members.append(_Member(run, folder, recorder, algorithm, padding, state))

    def _optimizer(self, learning_rate: float) -> optax.GradientTransformation:
        steps_per_epoch = len(self._train.images) // self._training["batch_size"]
        training = self._training
        return make_optimizer(
            training["optimizer"], learning_rate, training["schedule"], steps_per_epoch, training["epsilon"]
        )

    def _fit(self, members: Sequence[_Member], resumed: bool) -> None:
        keys = [jax.random.key(member.run.config["training"]["seed"]) for member in members]
        states = []
        for member, key in zip(members, keys, strict=True):
            # By the first of the two halves, and compiled, as `aevb.fit` does.
            train_key = jax.random.split(key)[0]
            state = jax.jit(member.algorithm.init)(train_key) if member.state is None else member.state
            states.append(member.padding.pad(state) if member.padding else state)

        def pause(stacked: TrainState, seconds: float) -> None:
            if self._termination.requested:
                for index, member in enumerate(members):
                    member.recorder.save(_cut(member, member_of(stacked, index)), seconds)
                raise TerminatedError

        optimizer = self._optimizer(self._training["learning_rate"])
        found = fit_population(
            self._train.pixels(),
            self._padded_model,
            keys=keys,
            test_data=self._test.pixels(),
            optimizer=padded(optimizer) if self._pads else optimizer,
            algorithm=self._make,
            seconds=max(member.recorder.seconds for member in members),
            on_evaluation=lambda member, state, row: members[member].recorder.record(_cut(members[member], state), row),
            on_pause=pause,
            **{"states" if resumed else "initial_states": states},
            evaluation=reported_bound(self._training),
            active_units=True,
            **{name: self._training[name] for name in FIT_ARGUMENTS},
        )
        for member, ended in zip(members, found, strict=True):
            if ended.diverged:
                print(f"{member.run.name} diverges: {ended.diverged}", flush=True)
                if member.recorder.history:
                    member.folder.write_divergence(str(ended.diverged))
                continue
            state = _cut(member, ended.result.state)
            member.folder.write_summary(summarize(member.run.config, member.recorder.history, state))


def _cut(member: _Member, state: TrainState) -> TrainState:
    return member.padding.cut(state) if member.padding else state
