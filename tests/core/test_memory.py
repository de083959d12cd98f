"""What a run costs that sleeps: workers keep thousands of them."""

from __future__ import annotations

import gc
import tracemalloc

import durable
from durable.core.context import RunIdentity
from durable.core.failure import known_exceptions
from durable.core.replay import Run, load
from tests.core.runs import CONVERTER, alive, begin, started

RUNS = 200
KNOWN = known_exceptions()


@durable.workflow
async def sleeper() -> None:
    await durable.sleep(3600)


def test_a_sleeping_run_is_small() -> None:
    """2.8 KB when this was written, of which 1.3 are a bare task with a future, and the frames of its coroutines."""
    _asleep("warm up")
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(RUNS):
            _asleep(f"r{number}")
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - before) / RUNS
    finally:
        tracemalloc.stop()
    assert each < 4_000


def _asleep(run_id: str) -> Run:
    """As a worker makes it."""
    identity = RunIdentity(instance_id=run_id, run_id=run_id, first_run_id=run_id)
    run = load(sleeper.definition, identity, [started(sleeper)], converter=CONVERTER, known=KNOWN)
    alive.append(run)
    run.advance(())
    return run


def test_a_sleeping_run_is_not_among_all_the_tasks_of_the_process() -> None:
    live = begin(sleeper)
    live.feed()
    (task,) = live.run.loop.tasks.values()
    assert task not in _all_tasks_of_the_process()


def _all_tasks_of_the_process() -> object:
    from asyncio import tasks

    for name in ("_all_tasks", "_scheduled_tasks"):  # the latter from Python 3.12 on
        if hasattr(tasks, name):
            return getattr(tasks, name)
    return ()
