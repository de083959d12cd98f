from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import math
import os
import subprocess
import sys
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from durable.core import guards
from durable.core.loop import REARMS, RunDropped, WorkflowLoop, current_workflow_loop, mark_recorded
from durable.errors import ForbiddenInWorkflow
from tests.core.hosts import START_US, Host, run

SECOND = 1_000_000


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.loop.drop()


# --- a step ------------------------------------------------------------------------------------------------------


def test_a_step_runs_until_nothing_is_ready(host: Host) -> None:
    async def main() -> str:
        for _ in range(3):
            await asyncio.sleep(0)
        return await host.call("a") + await host.call("b")

    task = host.start(main())
    host.answer("a", "1")
    assert not task.done()
    host.answer("b", "2")
    assert task.result() == "12"


def test_callbacks_run_first_in_first_out(host: Host) -> None:
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        host.loop.call_soon(seen.append, "third")

    host.do(lambda: host.loop.call_soon(first), lambda: host.loop.call_soon(seen.append, "second"))
    assert seen == ["first", "second", "third"]


def test_a_cancelled_callback_does_not_run(host: Host) -> None:
    seen: list[str] = []
    handle: list[asyncio.Handle] = []
    host.do(
        lambda: host.loop.call_soon(lambda: handle[0].cancel()),
        lambda: handle.append(host.loop.call_soon(seen.append, "cancelled")),
    )
    assert seen == []


def test_around_a_step_everything_is_restored(host: Host) -> None:
    def fails() -> None:
        assert asyncio.get_running_loop() is host.loop
        assert current_workflow_loop() is host.loop
        assert host.loop.is_running()
        assert not gc.isenabled()
        assert sys.get_asyncgen_hooks() != hooks
        raise KeyError

    hooks = sys.get_asyncgen_hooks()
    assert gc.isenabled()
    with pytest.raises(KeyError):
        host.loop.step(fails)
    assert asyncio._get_running_loop() is None
    assert current_workflow_loop() is None
    assert not host.loop.is_running()
    assert gc.isenabled()
    assert sys.get_asyncgen_hooks() == hooks


def test_between_steps_that_are_made_together_nothing_is_the_runs_own(host: Host) -> None:
    hooks = sys.get_asyncgen_hooks()
    steps: list[bool] = []

    def looks() -> None:
        steps.append(gc.isenabled())
        assert current_workflow_loop() is host.loop and host.loop.is_running()
        assert guards.running

    def several() -> str:
        for _ in range(3):
            host.loop.step(looks)
            assert asyncio._get_running_loop() is None
            assert not host.loop.is_running() and not guards.running
        return "done"

    assert host.loop.together(several) == "done"
    assert steps == [False] * 3
    assert gc.isenabled() and sys.get_asyncgen_hooks() == hooks


def test_an_error_in_steps_that_are_made_together_leaves_nothing_behind(host: Host) -> None:
    hooks = sys.get_asyncgen_hooks()

    def fails() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        host.loop.together(lambda: host.loop.step(fails))
    assert gc.isenabled() and sys.get_asyncgen_hooks() == hooks
    assert asyncio._get_running_loop() is None and not guards.running
    host.loop.step(lambda: None)
    assert gc.isenabled() and sys.get_asyncgen_hooks() == hooks


async def test_steps_that_are_made_together_from_a_task_give_it_back(host: Host) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def several() -> None:
        host.loop.step(lambda: None)
        assert asyncio.get_running_loop() is loop

    host.loop.together(several)
    assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, task)


def test_a_run_that_was_dropped_needs_no_collector() -> None:
    host = Host()
    host.start(host.call("a"))
    host.loop.drop()
    gone = weakref.ref(host)
    gc.disable()
    try:
        del host
        assert gone() is None
    finally:
        gc.enable()


def test_a_run_that_was_dropped_makes_no_steps_together(host: Host) -> None:
    host.loop.drop()
    with pytest.raises(RunDropped):
        host.loop.together(lambda: None)


def test_a_collector_that_was_off_stays_off(host: Host) -> None:
    gc.disable()
    try:
        host.do()
        assert not gc.isenabled()
    finally:
        gc.enable()


async def test_a_step_runs_from_a_plain_callback_of_another_loop(host: Host) -> None:
    outer = asyncio.get_running_loop()
    done = outer.create_future()

    def drive() -> None:
        result = run(_counting)
        assert asyncio.get_running_loop() is outer
        done.set_result(result)

    outer.call_soon(drive)
    assert await done == [1.0, 2.0, 3.0]


async def test_a_step_runs_inside_of_another_loops_task_and_leaves_it_current(host: Host) -> None:
    task = asyncio.current_task()
    hooks = sys.get_asyncgen_hooks()
    host.do(lambda: _equal(asyncio.current_task(), None))
    assert run(_counting) == [1.0, 2.0, 3.0]
    assert asyncio.current_task() is task
    assert sys.get_asyncgen_hooks() == hooks
    assert await asyncio.wait_for(asyncio.sleep(0, "goes on"), 5) == "goes on"


def _equal(one: object, two: object) -> None:
    assert one == two


async def _counting(host: Host) -> list[float]:
    return [await _slept(host) for _ in range(3)]


async def _slept(host: Host) -> float:
    await asyncio.wait_for(asyncio.shield(asyncio.sleep(1)), 10)
    return host.loop.time()


_PROGRAM = """
import asyncio, sys
from tests.core.test_loop import _counting, run
async def main():
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 60  # a busy machine is nothing to tell about
    done = loop.create_future()
    loop.call_soon(lambda: done.set_result(run(_counting)))
    return await done
if sys.argv[1] == "uvloop":
    import uvloop
    new = uvloop.new_event_loop
else:
    new = asyncio.new_event_loop
with asyncio.Runner(loop_factory=new) as runner:
    print(runner.run(main()))
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("flags", [[], ["-X", "dev"]])
def test_a_step_runs_under_uvloop_and_in_debug_mode(loop: str, flags: list[str]) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    done = subprocess.run(
        [sys.executable, *flags, "-W", "error", "-c", _PROGRAM, loop],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONASYNCIODEBUG": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[1.0, 2.0, 3.0]\n", "", 0)


def test_a_step_inside_of_a_step_is_refused(host: Host) -> None:
    other = Host("other")
    for action in (
        lambda: other.loop.step(lambda: None),
        other.loop.drop,
        lambda: other.loop.look(lambda: None),
    ):
        with pytest.raises(RuntimeError, match="cannot be driven from inside"):
            host.loop.step(action)
    assert asyncio._get_running_loop() is None


def test_on_idle_may_make_something_ready(host: Host) -> None:
    seen: list[str] = []

    def idle() -> bool:
        seen.append("idle")
        if len(seen) < 4:
            host.loop.call_soon(seen.append, "ran")
            return True
        return False

    host.loop.on_idle = idle
    host.do(lambda: host.loop.call_soon(seen.append, "step"))
    assert seen == ["step", "idle", "ran", "idle"]


def test_stop_step_abandons_what_is_ready(host: Host) -> None:
    seen: list[str] = []
    error = KeyError("diverged")

    def stop() -> None:
        host.loop.stop_step(error)
        host.loop.stop_step(ValueError("a second one"))

    def apply() -> None:
        host.loop.call_soon(stop)
        host.loop.call_soon(seen.append, "abandoned")

    with pytest.raises(KeyError) as raised:
        host.loop.step(apply)
    assert raised.value is error
    assert seen == []


def test_stop_step_works_in_apply_too(host: Host) -> None:
    with pytest.raises(KeyError):
        host.loop.step(lambda: host.loop.stop_step(KeyError()))


# --- contexts ----------------------------------------------------------------------------------------------------

_variable: contextvars.ContextVar[str] = contextvars.ContextVar("_variable", default="nothing")


def test_the_drivers_context_does_not_leak_into_the_run(host: Host) -> None:
    async def main() -> list[str]:
        seen = [_variable.get()]
        _variable.set("the task's")
        await host.call("a")
        return [*seen, _variable.get(), await asyncio.create_task(child())]

    async def child() -> str:
        return _variable.get()

    _variable.set("the driver's")
    seen: list[str] = []
    host.loop.on_idle = lambda: bool(seen.append(_variable.get()))
    task = host.start(main())
    host.answer("a")
    assert task.result() == ["nothing", "the task's", "the task's"]
    assert set(seen) == {"nothing"}
    assert _variable.get() == "the driver's"


def test_a_run_may_be_given_a_context() -> None:
    async def main() -> str:
        return _variable.get()

    context = contextvars.Context()
    context.run(_variable.set, "a header")
    host = Host()
    host.loop = WorkflowLoop(run_id="run", start_us=0, host=host, context=context)
    assert host.start(main()).result() == "a header"


# --- time --------------------------------------------------------------------------------------------------------


def test_time_is_the_runs_own(host: Host) -> None:
    assert host.loop.time() == 0.0
    host.loop.now_us = START_US + 1_500_000
    assert host.loop.time() == 1.5


@pytest.mark.parametrize(
    ("delay", "due_us"),
    [
        (1, SECOND),
        (0.1, 100_000),
        (0.1 + 0.2, 300_000),
        (1e-6, 1),
        (1.2e-6, 2),
        (1e-9, 1),
        (86_400 * 30, 86_400 * 30 * SECOND),
        (0.000_007, 7),
        (1.1, 1_100_000),
    ],
)
def test_a_timer_is_due_at_the_next_whole_microsecond(host: Host, delay: float, due_us: int) -> None:
    host.do(lambda: host.loop.call_later(delay, print))
    assert host.timers == {1: START_US + due_us}


@pytest.mark.parametrize(
    "elapsed_us",
    [0, 1, 333_333, 86_400 * SECOND * 29 + 1, 34_560_581_337_223, 86_400 * SECOND * 365 * 4 + 77_777],
)
@pytest.mark.parametrize("delay_us", [1_000, 100_000, 300_000, 7 * SECOND, 86_400 * SECOND])
def test_an_absolute_time_is_not_moved_by_the_errors_of_floats(
    host: Host, elapsed_us: int, delay_us: int
) -> None:
    host.loop.now_us += elapsed_us
    host.do(lambda: host.loop.call_at(host.loop.time() + delay_us / 1e6, print))
    assert host.timers == {1: START_US + elapsed_us + delay_us}


@pytest.mark.parametrize("delay", [0, -1, -math.inf, 0.0])
def test_a_delay_that_is_over_is_no_timer(host: Host, delay: float) -> None:
    seen: list[str] = []
    host.do(lambda: host.loop.call_later(delay, seen.append, "ran"), lambda: seen.append("applied"))
    assert seen == ["applied", "ran"]
    assert host.commands == 0


def test_a_time_in_the_past_is_no_timer(host: Host) -> None:
    seen: list[str] = []
    host.loop.now_us += 5 * SECOND
    host.do(
        lambda: host.loop.call_at(4.0, seen.append, "ran"), lambda: host.loop.call_at(5.0, seen.append, "now")
    )
    assert seen == ["ran", "now"]
    assert host.commands == 0


@pytest.mark.parametrize("delay", [0.05, 0.1, 1.5, 60.0])
def test_when_a_timer_fires_the_time_is_not_before_the_one_asked_for(host: Host, delay: float) -> None:
    """A float's error less, and anyio sets the same deadline again, for ever."""
    for passed_us in range(0, 50_000_000, 261_131):
        host.loop.now_us = START_US + passed_us
        when = host.loop.time() + delay
        host.do(lambda when=when: host.loop.call_at(when, print))  # type: ignore[misc]
        host.fire()
        assert host.loop.time() >= when


def test_the_time_of_a_timer_that_is_due_at_once_has_come(host: Host) -> None:
    host.loop.now_us = START_US + 300_000
    assert host.loop.time() < 0.1 + 0.2
    host.do(lambda: host.loop.call_at(0.1 + 0.2, print))
    assert host.commands == 0
    assert host.loop.time() == 0.1 + 0.2


@pytest.mark.parametrize("passed_us", range(3_333, 3_383))
def test_an_anyio_deadline_ends_at_its_first_timer(passed_us: int) -> None:
    host = Host()

    async def main() -> bool:
        with anyio.move_on_after(0.1) as scope:
            await anyio.sleep(3600)
        return scope.cancelled_caught

    host.loop.now_us = START_US + passed_us
    task = host.start(main())
    host.fire()
    assert task.result()
    host.loop.drop()


@pytest.mark.parametrize("delay", [math.inf, 1e300, 2.0**62])
def test_an_endless_delay_is_no_timer_and_wakes_nobody(host: Host, delay: float) -> None:
    handles: list[asyncio.TimerHandle] = []
    host.do(lambda: handles.append(host.loop.call_later(delay, print)))
    host.do(handles[0].cancel)
    assert (host.commands, host.cancelled) == (0, [])


def test_sleep_forever_is_legal(host: Host) -> None:
    task = host.start(anyio.sleep_forever())
    assert (task.done(), host.commands) == (False, 0)


def test_a_time_that_is_no_number_is_refused(host: Host) -> None:
    for schedule in (host.loop.call_later, host.loop.call_at):
        with pytest.raises(ValueError, match="not a number"):
            host.do(lambda schedule=schedule: schedule(math.nan, print))


def test_a_timer_fires_once_and_joins_the_queue(host: Host) -> None:
    seen: list[str] = []
    host.do(lambda: host.loop.call_later(1, seen.append, "fired"))
    fired: list[bool] = []
    host.do(lambda: fired.append(host.loop.fire(1)), lambda: seen.append("applied"))
    host.do(lambda: fired.append(host.loop.fire(1)), lambda: fired.append(host.loop.fire(99)))
    assert seen == ["applied", "fired"]
    assert fired == [True, False, False]


def test_a_timer_cancelled_before_it_fires_is_reported(host: Host) -> None:
    handles: list[asyncio.TimerHandle] = []
    host.do(lambda: handles.append(host.loop.call_later(1, print)))
    assert handles[0].when() == 1.0
    host.do(handles[0].cancel, handles[0].cancel)
    assert host.cancelled == [1]
    host.do(lambda: _equal(host.loop.fire(1), False))


def test_a_timer_cancelled_after_it_fired_is_not_reported(host: Host) -> None:
    seen: list[str] = []
    handles: list[asyncio.TimerHandle] = []
    host.do(lambda: handles.append(host.loop.call_later(1, seen.append, "ran")))
    host.do(lambda: host.loop.fire(1), handles[0].cancel)
    assert (host.cancelled, seen) == ([], [])


def test_timeouts_of_asyncio_and_anyio() -> None:
    async def main(host: Host) -> list[float]:
        seen = []
        for limit in (asyncio.timeout(2), asyncio.timeout_at(4), asyncio.timeout(0)):
            try:
                async with limit:
                    await asyncio.sleep(10)
            except TimeoutError:
                seen.append(host.loop.time())
        with anyio.move_on_after(3):
            await anyio.sleep(10)
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 1)
        except TimeoutError:
            seen.append(host.loop.time())
        assert host.timers == {}
        return seen

    assert run(main) == [2.0, 4.0, 4.0, 8.0]


# --- tasks -------------------------------------------------------------------------------------------------------


def test_default_names_are_the_runs_own() -> None:
    async def main(host: Host) -> list[str]:
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(2)]
        tasks.append(asyncio.create_task(asyncio.sleep(0), name="mine"))
        await asyncio.wait(tasks)
        main = asyncio.current_task()
        assert main is not None
        return [main.get_name(), *(task.get_name() for task in tasks)]

    assert run(main) == ["Task-1", "Task-2", "Task-3", "mine"]
    assert run(main) == ["Task-1", "Task-2", "Task-3", "mine"]


def test_a_task_may_yield_as_often_as_it_likes(host: Host) -> None:
    async def main() -> str:
        for _ in range(1_000):
            await asyncio.sleep(0)
        return "done"

    assert host.start(main()).result() == "done"


def test_eager_tasks_and_factories_are_refused(host: Host) -> None:
    async def main() -> str:
        with pytest.raises(ForbiddenInWorkflow):
            host.loop.create_task(asyncio.sleep(0), eager_start=True)
        with pytest.raises(ForbiddenInWorkflow):
            host.loop.set_task_factory(lambda loop, coro: None)
        if sys.version_info >= (3, 12):
            with pytest.raises(ForbiddenInWorkflow):
                host.loop.set_task_factory(asyncio.eager_task_factory)
        host.loop.set_task_factory(None)
        return str(host.loop.get_task_factory())

    assert host.start(main()).result() == "None"


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, RecursionError])
def test_errors_of_the_process_leave_the_step_from_a_task(host: Host, error: type[BaseException]) -> None:
    async def child() -> None:
        raise error

    async def main() -> None:
        await asyncio.gather(child(), return_exceptions=True)
        raise AssertionError("nothing runs after it")

    with pytest.raises(error):
        host.start(main())
    assert asyncio._get_running_loop() is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, RecursionError])
def test_errors_of_the_process_leave_the_step_from_a_callback(host: Host, error: type[BaseException]) -> None:
    def callback() -> None:
        raise error

    with pytest.raises(error):
        host.do(lambda: host.loop.call_soon(callback))


def test_an_endless_recursion_leaves_the_step(host: Host) -> None:
    async def main() -> int:
        def down(level: int) -> int:
            return down(level + 1) + 1

        return down(0)

    with pytest.raises(RecursionError):
        host.start(main())


def test_a_recursion_error_out_of_history_is_an_ordinary_error(host: Host) -> None:
    error = RecursionError("an activity's")
    mark_recorded(error)

    async def main() -> None:
        raise error

    assert host.start(main()).exception() is error


def test_other_errors_of_callbacks_are_logged(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.do(lambda: host.loop.call_soon(lambda: 1 / 0))
    assert [record.name for record in caplog.records] == ["asyncio"]
    assert "Exception in callback" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_an_exception_handler_may_be_set(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[dict[str, Any]] = []

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        seen.append(context)
        raise ValueError("the handler's own")

    host.loop.set_exception_handler(handler)
    assert host.loop.get_exception_handler() is handler
    host.do(lambda: host.loop.call_soon(lambda: 1 / 0))
    assert isinstance(seen[0]["exception"], ZeroDivisionError)
    assert "the handler's own" in caplog.text


def test_an_error_that_nobody_retrieves_is_logged(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    async def child() -> None:
        raise ValueError("lost")

    async def main() -> None:
        asyncio.create_task(child())  # noqa: RUF006 - nobody keeps it: that is the point
        await asyncio.sleep(1)

    host.start(main())
    gc.collect()
    assert "never retrieved" in caplog.text


# --- the livelock rule -------------------------------------------------------------------------------------------


def test_a_cancellation_that_cannot_be_taken_yet_does_not_spin_for_ever(host: Host) -> None:
    seen: list[str] = []

    async def child() -> None:
        try:
            await host.call("work")
        finally:
            seen.append("cleaning")
            await host.call("cleanup")
            seen.append("clean")

    async def main() -> str:
        with anyio.move_on_after(5) as scope:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
        return f"cancelled: {scope.cancelled_caught}"

    task = host.start(main())
    host.fire()
    assert (task.done(), seen) == (False, ["cleaning"])
    host.do()
    assert not task.done()
    host.answer("cleanup")
    assert (task.result(), seen) == ("cancelled: True", ["cleaning", "clean"])


def test_a_condition_whose_lock_is_held_does_not_spin_for_ever(host: Host) -> None:
    condition = asyncio.Condition()

    async def holder() -> None:
        async with condition:
            await host.call("work")

    async def main() -> str:
        with anyio.move_on_after(5) as scope:
            async with condition:
                other = asyncio.create_task(holder())
                await condition.wait()
        await other
        return f"cancelled: {scope.cancelled_caught}"

    task = host.start(main())
    host.fire()
    assert not task.done()
    host.answer("work")
    assert task.result() == "cancelled: True"


def test_an_anyio_group_whose_child_cleans_up_behind_a_shield(host: Host) -> None:
    async def child() -> None:
        try:
            await host.call("work")
        finally:
            with anyio.CancelScope(shield=True):
                await host.call("cleanup")

    async def main() -> bool:
        with anyio.move_on_after(5) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
        return scope.cancelled_caught

    task = host.start(main())
    host.fire()
    assert not task.done()
    host.answer("cleanup")
    assert task.result() is True


class _Again:
    """Schedules itself again and again."""

    def __init__(self, host: Host, limit: int = 10_000) -> None:
        self.host = host
        self.runs = 0
        self.limit = limit

    def again(self) -> None:
        self.runs += 1
        if self.runs < self.limit:
            self.host.loop.call_soon(self.again)


def test_a_callback_may_schedule_itself_again_so_many_times(host: Host) -> None:
    few, many = _Again(host, REARMS), _Again(host)
    host.do(lambda: host.loop.call_soon(few.again), lambda: host.loop.call_soon(many.again))
    assert few.runs == REARMS
    assert many.runs == REARMS + 1  # and once more when nothing else was ready
    host.do()
    assert many.runs == 2 * (REARMS + 1)


def test_callbacks_are_counted_by_function_and_object(host: Host) -> None:
    crowd = [_Again(host, 3) for _ in range(2 * REARMS)]
    host.do(lambda: [host.loop.call_soon(one.again) for one in crowd])
    assert {one.runs for one in crowd} == {3}


def test_a_function_is_counted_too(host: Host) -> None:
    runs: list[None] = []

    def again() -> None:
        runs.append(None)
        host.loop.call_soon(again)

    host.do(lambda: host.loop.call_soon(again))
    assert len(runs) == REARMS + 1


async def _no_progress(host: Host) -> None:
    pass


async def _new_command(host: Host) -> None:
    host.commands += 1


async def _new_task(host: Host) -> None:
    host.loop.create_task(asyncio.Event().wait())


async def _finished_task(host: Host) -> None:
    next(task for task in host.loop.tasks.values() if task.get_name() == "waiting").cancel()


@pytest.mark.parametrize("progress", [_new_command, _new_task, _finished_task, _no_progress])
def test_progress_begins_the_count_anew(
    host: Host, progress: Callable[[Host], Coroutine[Any, Any, None]]
) -> None:
    again = _Again(host)
    turns = 10 * REARMS

    async def main() -> int:
        for _ in range(turns):
            host.loop.create_task(asyncio.Event().wait(), name="waiting")
        await asyncio.sleep(0)
        host.loop.call_soon(again.again)
        for turn in range(turns):
            await asyncio.sleep(0)
            if turn % (REARMS - 10) == 0:
                await progress(host)
        return again.runs

    runs = host.start(main()).result()
    assert runs == REARMS if progress is _no_progress else runs >= turns - 1


def test_what_was_set_aside_comes_back_with_progress(host: Host) -> None:
    again = _Again(host)
    seen: list[int] = []

    async def main() -> None:
        host.loop.call_soon(again.again)
        for _ in range(3 * REARMS):
            await asyncio.sleep(0)
        seen.append(again.runs)
        host.commands += 1
        for _ in range(3):
            await asyncio.sleep(0)
        seen.append(again.runs)

    host.start(main())
    assert seen[0] == REARMS
    assert seen[1] > REARMS


def test_a_task_that_yielded_meanwhile_is_still_cancelled(host: Host) -> None:
    async def busy() -> None:
        with anyio.CancelScope(shield=True):
            for _ in range(10 * REARMS):
                await asyncio.sleep(0)
        await asyncio.Event().wait()

    async def main() -> bool:
        with anyio.move_on_after(1) as scope:
            async with asyncio.TaskGroup() as group:
                group.create_task(_named_wait(host))
                await busy()
        return scope.cancelled_caught

    task = host.start(main())
    host.loop.now_us += SECOND
    host.answer("never")
    assert not task.done()
    host.fire()
    assert task.result() is True


async def _named_wait(host: Host) -> None:
    await host.call("never")


def test_a_cancelled_callback_that_was_set_aside_does_not_come_back(host: Host) -> None:
    handles: list[asyncio.Handle] = []
    runs: list[None] = []

    def again() -> None:
        runs.append(None)
        handles.append(host.loop.call_soon(again))

    host.do(lambda: host.loop.call_soon(again))
    before = len(runs)
    handles[-1].cancel()
    host.do()
    assert len(runs) == before


# --- async generators --------------------------------------------------------------------------------------------


async def _numbers(host: Host, seen: list[str]) -> AsyncIterator[int]:
    try:
        for number in range(10):
            yield number
    finally:
        seen.append("closing")
        await host.call("close")
        seen.append("closed")


def test_an_unfinished_async_generator_finishes_on_the_runs_loop(host: Host) -> None:
    seen: list[str] = []

    async def main() -> int:
        async for number in _numbers(host, seen):
            if number == 3:
                break
        return await host.call("more")

    task = host.start(main())
    assert seen == ["closing"]
    host.answer("close")
    assert seen == ["closing", "closed"]
    host.answer("more", 7)
    assert task.result() == 7


def test_a_collector_between_steps_resumes_no_async_generator(host: Host) -> None:
    seen: list[str] = []

    async def main() -> None:
        holder: list[object] = [generator := _numbers(host, seen)]
        holder.append(holder)
        await anext(generator)
        del generator, holder
        await host.call("more")

    host.start(main())
    gc.collect()
    assert seen == []
    host.answer("more")
    assert seen == []
    host.loop.drop()
    assert seen == ["closing"]


def test_shutdown_asyncgens(host: Host) -> None:
    seen: list[str] = []

    async def main() -> None:
        generator = _numbers(host, seen)
        await anext(generator)
        await host.loop.shutdown_asyncgens()
        await host.loop.shutdown_default_executor()

    task = host.start(main())
    host.answer("close")
    assert task.done()
    assert seen == ["closing", "closed"]


# --- a dropped run -----------------------------------------------------------------------------------------------


def _dropped(main: Callable[[Host], Coroutine[Any, Any, Any]]) -> Host:
    host = Host()
    host.start(main(host))
    before = host.commands
    host.loop.drop()
    assert host.commands == before
    assert current_workflow_loop() is None
    return host


def test_dropping_closes_tasks_newest_first() -> None:
    seen: list[str] = []

    async def child(host: Host, name: str) -> None:
        try:
            await host.call(name)
        finally:
            seen.append(name)

    async def main(host: Host) -> None:
        try:
            await asyncio.gather(*(child(host, name) for name in "abc"))
        finally:
            seen.append("main")

    host = _dropped(main)
    assert seen == ["c", "b", "a", "main"]
    host.loop.drop()
    assert seen == ["c", "b", "a", "main"]
    assert host.loop.is_closed()
    assert host.loop.tasks == {}


def test_a_dropped_run_can_do_nothing() -> None:
    seen: list[str] = []

    async def main(host: Host) -> None:
        loop = host.loop
        try:
            await host.call("a")
        finally:
            assert asyncio.get_running_loop() is loop
            for attempt in (
                lambda: loop.call_soon(print),
                lambda: loop.call_later(1, print),
                lambda: loop.call_at(1, print),
                lambda: loop.create_task(asyncio.sleep(1)),
                loop.create_future,
                lambda: asyncio.ensure_future(asyncio.sleep(1)),
            ):
                with pytest.raises(RunDropped):
                    attempt()
                seen.append("refused")
            await asyncio.sleep(1)
            seen.append("went on")

    host = _dropped(main)
    assert seen == ["refused"] * 6
    for attempt in (lambda: host.loop.step(lambda: None), lambda: host.loop.look(lambda: None)):
        with pytest.raises(RunDropped):
            attempt()


def test_dropping_swallows_what_clean_up_raises_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def child(host: Host) -> None:
        try:
            await host.call("a")
        finally:
            raise ValueError

    async def main(host: Host) -> None:
        lonely = asyncio.create_task(child(host))
        failed = host.loop.create_future()
        failed.set_exception(ValueError("nobody looks"))
        try:
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                group.create_task(child(host))
                group.create_task(anyio.sleep_forever())
                asyncio.gather(child(host), child(host))
                with anyio.CancelScope():
                    await asyncio.shield(lonely)
        finally:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(1))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        host = _dropped(main)
        assert host.cancelled == []
        del host
        gc.collect()
    assert caplog.text == ""


def test_a_task_that_never_began_is_dropped_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def drop_it() -> None:
        host = Host()

        def apply() -> None:
            host.loop.create_task(asyncio.sleep(1))
            host.loop.stop_step(KeyError())

        with pytest.raises(KeyError):
            host.loop.step(apply)
        host.loop.drop()

    drop_it()
    gc.collect()
    assert caplog.text == ""


def test_clean_up_runs_in_the_tasks_own_context_and_name() -> None:
    seen: list[object] = []

    async def main(host: Host) -> None:
        token = _variable.set("the task's")
        task = asyncio.current_task()
        try:
            await host.call("a")
        finally:
            seen.append((_variable.get(), asyncio.current_task() is task))
            _variable.reset(token)
            seen.append("reset")

    _dropped(main)
    assert seen == [("the task's", True), "reset"]


def test_a_coroutine_that_ignores_being_closed_is_closed_again() -> None:
    seen: list[str] = []

    async def main(host: Host) -> None:
        future = host.loop.create_future()
        for attempt in "abc":
            try:
                await future
            except BaseException:
                seen.append(attempt)
        seen.append("end")

    _dropped(main)
    assert seen == ["a", "b", "c", "end"]


def test_a_coroutine_that_never_closes_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def main(host: Host) -> None:
        while True:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(1)

    host = _dropped(main)
    assert "cannot be closed" in caplog.text
    caplog.clear()
    del host
    gc.collect()
    assert caplog.text == ""


def test_an_interrupt_during_a_drop_is_raised_when_all_is_closed() -> None:
    seen: list[str] = []

    async def child(host: Host, error: type[BaseException] | None) -> None:
        try:
            await host.call("a")
        finally:
            seen.append("closed")
            if error is not None:
                raise error

    async def main(host: Host) -> None:
        await asyncio.gather(child(host, None), child(host, KeyboardInterrupt))

    host = Host()
    host.start(main(host))
    with pytest.raises(KeyboardInterrupt):
        host.loop.drop()
    assert seen == ["closed", "closed"]
    assert asyncio._get_running_loop() is None


def test_dropping_closes_async_generators() -> None:
    seen: list[str] = []
    kept: list[AsyncIterator[int]] = []

    async def main(host: Host) -> None:
        kept.append(_numbers(host, seen))
        await anext(kept[0])
        local = _numbers(host, seen)
        await anext(local)
        await host.call("more")

    _dropped(main)
    assert seen == ["closing", "closing"]


def test_a_dropped_run_is_forgotten() -> None:
    async def main(host: Host) -> None:
        await asyncio.gather(asyncio.sleep(1), host.call("a"))

    host = _dropped(main)
    loop = weakref.ref(host.loop)
    del host
    gc.collect()
    assert loop() is None


def test_dropping_from_inside_a_host_task_leaves_it_current() -> None:
    async def outer() -> None:
        task = asyncio.current_task()
        _dropped(_waits)
        assert asyncio.current_task() is task

    async def _waits(host: Host) -> None:
        try:
            await host.call("a")
        finally:
            await asyncio.sleep(1)

    asyncio.run(outer())


def test_a_run_is_not_collected_inside_of_another() -> None:
    seen: list[object] = []

    async def left(host: Host) -> None:
        try:
            await host.call("a")
        finally:
            seen.append(current_workflow_loop())

    async def main(host: Host) -> None:
        for _ in range(3):
            made = [[object()] for _ in range(5_000)]
            made.append(made)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert seen == []

    # Without a drop, so that only the collector can find it.
    lost = Host("lost")
    lost.start(left(lost))
    lost.loop.tasks.clear()
    lost.main = None
    lost.waiting.clear()
    del lost
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            run(main)
            gc.collect()
        finally:
            logging.disable(logging.NOTSET)
    assert seen == [None]


# --- looking -----------------------------------------------------------------------------------------------------


def test_looking_changes_nothing(host: Host) -> None:
    event = asyncio.Event()

    async def main() -> None:
        await event.wait()

    host.start(main())
    assert host.loop.look(lambda: (current_workflow_loop() is host.loop, event.is_set())) == (True, False)
    host.closed = ForbiddenInWorkflow("a query may only look")
    for attempt in (
        lambda: host.loop.call_soon(print),
        lambda: host.loop.call_later(1, print),
        lambda: host.loop.create_task(asyncio.sleep(1)),
        host.loop.create_future,
        event.set,
    ):
        with pytest.raises(ForbiddenInWorkflow, match="only look"):
            host.loop.look(attempt)
        host.closed = None
    assert host.commands == 0
    host.do(lambda: host.loop.call_soon(print))


# --- what is not there -------------------------------------------------------------------------------------------

_MISSING = """
run_forever run_until_complete stop close call_soon_threadsafe add_signal_handler remove_signal_handler run_in_executor
set_default_executor add_reader remove_reader add_writer remove_writer getaddrinfo getnameinfo create_connection
create_server create_unix_connection create_unix_server create_datagram_endpoint connect_accepted_socket
connect_read_pipe connect_write_pipe start_tls sendfile subprocess_shell subprocess_exec sock_recv sock_recv_into
sock_recvfrom sock_recvfrom_into sock_sendall sock_sendto sock_connect sock_accept sock_sendfile
"""


@pytest.mark.parametrize("name", _MISSING.split())
def test_what_a_workflow_has_no_use_for_says_what_to_do_instead(host: Host, name: str) -> None:
    with pytest.raises(ForbiddenInWorkflow, match=rf"^{name} is not available in a workflow: \w+"):
        getattr(host.loop, name)(1, 2, 3)


def test_every_method_of_a_loop_is_answered() -> None:
    unanswered = {
        name
        for name, member in vars(asyncio.AbstractEventLoop).items()
        if callable(member) and not name.startswith("__") and getattr(WorkflowLoop, name) is member
    }
    assert unanswered <= {"_timer_handle_cancelled"}


def test_debug_mode_stays_off(host: Host) -> None:
    assert host.loop.get_debug() is False
    host.loop.set_debug(False)
    with pytest.raises(ForbiddenInWorkflow):
        host.loop.set_debug(True)


async def _in_an_asyncio_thread() -> None:
    await asyncio.to_thread(print)


async def _in_an_anyio_thread() -> None:
    await anyio.to_thread.run_sync(print)


async def _in_a_connection() -> None:
    await asyncio.open_connection("localhost", 1)


async def _in_a_subprocess() -> None:
    await asyncio.create_subprocess_exec("true")


async def _in_an_anyio_process() -> None:
    await anyio.run_process(["true"])


async def _in_an_anyio_connection() -> None:
    await anyio.connect_tcp("127.0.0.1", 1)


async def _in_an_anyio_file() -> None:
    await anyio.Path("x").read_text()


@pytest.mark.parametrize(
    "work",
    [
        _in_an_asyncio_thread,
        _in_an_anyio_thread,
        _in_a_connection,
        _in_a_subprocess,
        _in_an_anyio_process,
        _in_an_anyio_connection,
        _in_an_anyio_file,
    ],
)
def test_work_outside_of_the_run_raises_at_once(
    host: Host, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    error = host.start(work()).exception()
    if isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ForbiddenInWorkflow)
    assert "activity" in str(error)


def test_another_loop_inside_of_a_run_is_refused(host: Host) -> None:
    async def main() -> None:
        coroutine = asyncio.sleep(0)
        try:
            with pytest.raises(RuntimeError):
                asyncio.run(coroutine)
        finally:
            coroutine.close()

    assert host.start(main()).exception() is None
