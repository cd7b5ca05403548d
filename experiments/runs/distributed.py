"""One run over several processes, on one machine with many devices or on many machines."""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from absl import flags

from experiments.runs import meeting

_FLAGS = flags.FLAGS
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:]+\]|[^\s:/]+):\d{1,5}")


def define_flags() -> None:
    """Define --distributed, and the flags for what it cannot detect."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "Train one run with all processes that Slurm, Kubernetes, Open MPI or a TPU pod started, splitting minibatches "
        "over all their devices. Elsewhere, --coordinator, --process_count and --process_index are needed too.",
    )
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, to which the others connect.")
    flags.DEFINE_integer("process_count", None, "Number of processes.", lower_bound=1)
    flags.DEFINE_integer("process_index", None, "Index of this process, from 0.", lower_bound=0)
    flags.DEFINE_integer("join_seconds", 300, "Seconds that processes wait for each other at the start.", lower_bound=1)


def start() -> None:
    """Join the other processes; call this before anything asks JAX for its devices.

    Raises:
      ValueError: the flags are inconsistent, or the other processes cannot be reached.
    """
    if "distributed" not in _FLAGS:
        return
    given = {name: _FLAGS[name].value for name in ("coordinator", "process_count", "process_index")}
    named = [f"--{name}" for name, value in given.items() if value is not None]
    if named and not _FLAGS.distributed:
        raise ValueError(f"{', '.join(named)} need --distributed")
    if 0 < len(named) < len(given):
        raise ValueError("--coordinator, --process_count and --process_index must be given together")
    if not _FLAGS.distributed:
        return
    if named and _FLAGS.process_index >= _FLAGS.process_count:
        raise ValueError(f"--process_index must be below --process_count, got {_FLAGS.process_index}")
    if named and not _ADDRESS.fullmatch(_FLAGS.coordinator):
        raise ValueError(f"--coordinator takes HOST:PORT, got {_FLAGS.coordinator}")
    import jax

    if named:
        meeting.meet(_FLAGS.coordinator, _FLAGS.process_count, _FLAGS.process_index, _FLAGS.join_seconds)
    try:
        jax.distributed.initialize(
            given["coordinator"],
            given["process_count"],
            given["process_index"],
            initialization_timeout=_FLAGS.join_seconds,
        )
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"the processes cannot be joined: {' '.join(str(error).split())}") from None


@contextlib.contextmanager
def mesh() -> Iterator[None]:
    """Split minibatches over the devices of all processes, if there are several, within this context."""
    import jax

    from aevb import sharding

    if jax.process_count() == 1:
        yield
        return
    with jax.set_mesh(sharding.make_mesh()):
        yield


def is_writer() -> bool:
    """Return whether this process writes; exactly one does."""
    import jax

    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Return whether `flag` is set in any process; all processes must call this."""
    import jax

    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(flag).any())


class FinishedError(Exception):
    """Raised in processes that do not write, if the run is already finished."""


GO, STOP, FINISHED = 0, 1, 2


def say(status: int) -> None:
    """Send the writer's status to the other processes, which wait for it in `state_of_writer`.

    Raises:
      RunError: in the others, if the writer cannot continue.
      FinishedError: in the others, if the run is finished.
    """
    import jax

    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    heard = int(multihost_utils.broadcast_one_to_all(jax.numpy.int32(status), is_source=is_writer()))
    if not is_writer() and heard != GO:
        from aevb.checkpoints import RunError

        raise RunError("process 0 cannot continue; see its message") if heard == STOP else FinishedError


@contextlib.contextmanager
def said_to_others() -> Iterator[None]:
    """Stop the other processes too if the writer fails in this context, such as on a bad run folder."""
    try:
        yield
    except BaseException:
        if is_writer():
            say(STOP)
        raise


def state_of_writer(state: Any, template: Callable[[], Any]) -> Any:
    """Return the state that the writer resumes from, in every process; `None` if the run begins.

    Args:
      state: the state that the writer restored; ignored in the other processes.
      template: returns a state of the same model and optimizer.

    Raises:
      RunError: in the others, if the writer stopped before this call.
      FinishedError: in the others, if the run is finished.
    """
    import jax

    if jax.process_count() == 1:
        return state
    from jax.experimental import multihost_utils

    say(GO)
    begins = bool(multihost_utils.broadcast_one_to_all(jax.numpy.bool_(state is None), is_source=is_writer()))
    if begins:
        return None
    mine = template() if state is None else state
    arrays = jax.device_get(mine._replace(key=jax.random.key_data(mine.key)))
    heard = multihost_utils.broadcast_one_to_all(arrays, is_source=is_writer())
    return heard._replace(key=jax.random.wrap_key_data(heard.key, impl=jax.random.key_impl(mine.key)))


def process_count() -> int:
    """Return the number of processes of this run."""
    import jax

    return jax.process_count()
