"""What Orbax and TensorStore print besides their exceptions is silent, and nothing else is."""

import asyncio
import gc
import logging

import pytest
import tensorstore

from aevb.quiet import OrbaxError, quietly


@pytest.fixture(autouse=True)
def restored_filters():
    logger = logging.getLogger("asyncio")
    before = logger.filters[:]
    yield
    logger.filters[:] = before


def failed_task(awaitable) -> asyncio.Task:
    """Return a task whose exception nobody has looked at, as one that fails after the first of a gathering."""
    loop = asyncio.new_event_loop()
    task = asyncio.ensure_future(awaitable, loop=loop)
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()
    return task


def missing_array(folder) -> tensorstore.Future:
    spec = {"driver": "zarr", "kvstore": {"driver": "ocdbt", "base": f"file://{folder}"}, "path": "missing"}
    return tensorstore.open(spec)


def fail(tasks, awaitable):
    tasks.append(failed_task(awaitable))
    raise ValueError("OUT_OF_RANGE: the first of many")


async def users_own():
    raise ValueError("OUT_OF_RANGE: raised by someone else")


def test_a_failed_task_of_tensorstore_complains_by_itself(tmp_path, caplog):
    """The next test is about something: without `quietly`, the complaint is there."""
    logging.getLogger("asyncio").filters.clear()
    failed_task(missing_array(tmp_path))
    gc.collect()
    assert [message.splitlines()[0] for message in caplog.messages] == ["Task exception was never retrieved"]


def test_failed_tasks_of_tensorstore_are_silent_even_after_the_call(tmp_path, caplog):
    tasks = []
    with pytest.raises(OrbaxError, match="the first of many"):
        quietly(lambda: fail(tasks, missing_array(tmp_path)))
    tasks.clear()
    gc.collect()
    assert caplog.messages == []


def test_failed_tasks_of_others_still_complain(caplog):
    with pytest.raises(OrbaxError):
        quietly(lambda: fail([], users_own()))
    gc.collect()
    assert len(caplog.messages) == 1
    assert "raised by someone else" in caplog.messages[0]
