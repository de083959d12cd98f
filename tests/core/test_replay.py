"""What a run asks for, given its history. Every `run` here also replays each prefix of the history (see `runs`)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

import durable
from durable.core import commands, events
from durable.core.context import current_run
from durable.core.events import NewerFormat
from durable.core.failure import failure_of
from durable.core.history import decode_history
from durable.errors import ForbiddenInWorkflow, NonDeterminismError, NonRetryable
from tests.core.runs import (
    START_US,
    alive,
    at,
    begin,
    cancel,
    check_every_prefix,
    done,
    failed,
    fired,
    history_of,
    replace,
    resume,
    run,
    signal,
    started,
)


class CardDeclined(Exception):
    pass


@durable.activity
async def charge(order: str = "") -> str:
    raise AssertionError("activities do not run here")


@durable.activity
async def ship(order: str = "") -> str:
    raise AssertionError("activities do not run here")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    while alive:
        alive.pop().drop()


go: durable.Signal[int] = durable.Signal("go", int)


# --- activities -----------------------------------------------------------------------------------------------------


@durable.workflow
async def one(order: str) -> str:
    return await charge(order) + "!"


def test_an_activity_is_scheduled_and_its_result_comes_back() -> None:
    assert run(one, [], "o-1") == ['activity 1 charge ["o-1"]']
    assert run(one, [done(1, "paid")], "o-1") == ['activity 1 charge ["o-1"]', 'completed "paid!"']


def test_a_failure_comes_out_as_itself() -> None:
    @durable.workflow
    async def catches() -> str:
        try:
            return await charge()
        except CardDeclined as error:
            return f"declined: {error}"

    assert run(catches, [failed(1, CardDeclined("no money"))])[-1] == 'completed "declined: no money"'


def test_an_uncaught_failure_fails_the_run() -> None:
    assert run(one, [failed(1, CardDeclined("no money"))], "o-1")[-1] == "failed CardDeclined: no money"
    assert run(one, [failed(1, NonRetryable("never"))], "o-1")[-1] == "failed NonRetryable: never"


@pytest.mark.parametrize(
    "error", [StopIteration("s"), asyncio.CancelledError("c"), KeyboardInterrupt("k"), GeneratorExit()]
)
def test_errors_that_mean_something_to_the_interpreter_are_ordinary_failures(error: BaseException) -> None:
    @durable.workflow
    async def catches() -> str:
        try:
            return await charge()
        except Exception as caught:
            return type(caught).__name__

    assert run(catches, [failed(1, error)])[-1].startswith('completed "RemoteError')


def test_a_recursion_error_of_an_activity_is_its_own_and_not_the_runs() -> None:
    @durable.workflow
    async def catches() -> str:
        task = asyncio.create_task(charge())
        try:
            return await task
        except RecursionError:
            return "caught"

    assert run(catches, [failed(1, RecursionError("deep"))])[-1] == 'completed "caught"'


def test_a_result_that_does_not_fit_its_annotation_raises_where_it_is_awaited() -> None:
    @durable.workflow
    async def catches() -> str:
        try:
            return await charge()
        except durable.PayloadError:
            return "unfit"

    assert run(catches, [done(1, {"not": "a text"})])[-1] == 'completed "unfit"'


def test_arguments_that_do_not_fit_raise_at_the_call() -> None:
    @durable.workflow
    async def wrong() -> str:
        with contextlib.suppress(TypeError):
            await charge("a", "b")  # type: ignore[call-arg]
            return "too many"
        try:
            await charge(3)  # type: ignore[arg-type]
        except durable.PayloadError:
            return "unfit"
        return "fit"

    assert run(wrong) == ['completed "unfit"']


def test_a_call_that_is_never_awaited_does_nothing_and_warns() -> None:
    @durable.workflow
    async def forgets() -> str:
        charge("o-1")  # type: ignore[unused-coroutine]
        return "done"

    with pytest.warns(RuntimeWarning, match="never awaited"):
        assert begin(forgets).feed() == ['completed "done"']


def test_a_second_result_for_the_same_activity_leaves_no_event() -> None:
    live = begin(one, "o-1")
    live.feed()
    assert live.feed(done(1, "a"), done(1, "b")) == ['completed "a!"']
    assert [event.kind for event in live.history] == [
        "run_started", "activity_scheduled", "activity_completed", "run_completed",
    ]  # fmt: skip


# --- asyncio over activities and timers -----------------------------------------------------------------------------


@durable.workflow
async def gathers() -> list[str]:
    return list(await asyncio.gather(charge("a"), ship("b"), charge("c")))


def test_gather() -> None:
    assert run(gathers, [done(3, "z"), done(1, "x"), done(2, "y")]) == [
        'activity 1 charge ["a"]', 'activity 2 ship ["b"]', 'activity 3 charge ["c"]', 'completed ["x","y","z"]',
    ]  # fmt: skip


@durable.workflow
async def grouped() -> str:
    said = "paid"
    try:
        async with asyncio.TaskGroup() as group:
            for order in "abc":
                group.create_task(charge(order))
    except* CardDeclined:
        said = "declined"
    return said


def test_a_task_group_that_fails_withdraws_the_others() -> None:
    assert run(grouped, [done(1, "x"), failed(2, CardDeclined("no"))])[3:] == [
        "cancel activity 3", 'completed "declined"',
    ]  # fmt: skip
    assert run(grouped, [done(2, ""), done(3, ""), done(1, "")])[-1] == 'completed "paid"'


@durable.workflow
async def first_of_two() -> str:
    tasks = [asyncio.create_task(charge("a")), asyncio.create_task(ship("b"))]
    finished, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return finished.pop().result()


def test_wait_gives_what_was_first_in_history() -> None:
    assert run(first_of_two, [done(2, "ship")])[2:] == ["cancel activity 1", 'completed "ship"']
    assert run(first_of_two, [done(1, "charge")])[2:] == ["cancel activity 2", 'completed "charge"']


@durable.workflow
async def as_they_come() -> list[str]:
    return [await each for each in asyncio.as_completed([charge("a"), charge("b"), charge("c")])]


def test_as_completed_is_in_the_order_of_history() -> None:
    assert run(as_they_come, [done(2, "b"), done(3, "c"), done(1, "a")])[-1] == 'completed ["b","c","a"]'


@durable.workflow
async def hurried() -> str:
    try:
        async with asyncio.timeout(5):
            return await charge("a")
    except TimeoutError:
        return "too late"


def test_timeout() -> None:
    assert run(hurried) == ["timer 1 +5.0", 'activity 2 charge ["a"]']
    assert run(hurried, [fired(1, time=5)])[2:] == ["cancel activity 2", 'completed "too late"']
    assert run(hurried, [done(2, "in time", time=1)])[2:] == ["cancel timer 1", 'completed "in time"']


@durable.workflow
async def waits_for() -> str:
    try:
        return await asyncio.wait_for(charge("a"), 5)
    except TimeoutError:
        return await ship("instead")


def test_wait_for() -> None:
    assert run(waits_for, [fired(1, time=5), done(3, "shipped", time=6)])[2:] == [
        "cancel activity 2", 'activity 3 ship ["instead"]', 'completed "shipped"',
    ]  # fmt: skip


@durable.workflow
async def shielded() -> str:
    task = asyncio.create_task(charge("a"))
    try:
        async with asyncio.timeout(1):
            return await asyncio.shield(task)
    except TimeoutError:
        return "late, but " + await task


def test_shield_keeps_the_activity() -> None:
    assert run(shielded, [fired(1, time=1), done(2, "paid", time=2)]) == [
        "timer 1 +1.0", 'activity 2 charge ["a"]', 'completed "late, but paid"',
    ]  # fmt: skip


@durable.workflow
async def produces() -> list[str]:
    queue: asyncio.Queue[str] = asyncio.Queue(maxsize=1)

    async def produce(order: str) -> None:
        await queue.put(await charge(order))

    async with asyncio.TaskGroup() as group:
        for order in "abc":
            group.create_task(produce(order))
        return [await queue.get() for _ in range(3)]


def test_a_queue_over_activities() -> None:
    assert run(produces, [done(3, "c"), done(1, "a"), done(2, "b")])[-1] == 'completed ["c","a","b"]'


@durable.workflow
async def synchronised() -> list[str]:
    lock, condition, event, seen = asyncio.Lock(), asyncio.Condition(), asyncio.Event(), []

    async def locked(order: str) -> None:
        async with lock:
            seen.append(await charge(order))
            if len(seen) == 2:
                event.set()
        async with condition:
            condition.notify_all()

    async def all_done() -> str:
        async with condition:
            await condition.wait_for(lambda: len(seen) == 2)
        return "both"

    async with asyncio.TaskGroup() as group:
        both = group.create_task(all_done())
        group.create_task(locked("a"))
        group.create_task(locked("b"))
        await event.wait()
    return [*seen, both.result()]


def test_lock_condition_and_event() -> None:
    assert run(synchronised, [done(1, "a"), done(2, "b")]) == [
        'activity 1 charge ["a"]', 'activity 2 charge ["b"]', 'completed ["a","b","both"]',
    ]  # fmt: skip


# --- one event at a time --------------------------------------------------------------------------------------------


@durable.workflow
async def two_listeners() -> list[str]:
    seen: list[str] = []

    async def listen() -> None:
        async for number in go:
            seen.append(f"signal {number}")

    async def work(order: str) -> None:
        seen.append(await charge(order))

    listener = asyncio.create_task(listen())
    async with asyncio.TaskGroup() as group:
        group.create_task(work("a"))
        group.create_task(work("b"))
    listener.cancel()
    return seen


def test_things_happen_in_the_order_of_history_signals_included() -> None:
    inputs = [signal("go", 1), done(2, "b"), signal("go", 2), done(1, "a"), signal("go", 3)]
    assert run(two_listeners, inputs[:4])[-1] == 'completed ["signal 1","b","signal 2","a"]'
    together = begin(two_listeners)
    assert together.feed(*inputs)[-1] == 'completed ["signal 1","b","signal 2","a"]'
    check_every_prefix(two_listeners, together.history)


def test_what_comes_after_the_end_leaves_no_event() -> None:
    live = begin(one, "o-1")
    assert live.advance(done(1, "x"), signal("go", 1)).events[-1].kind == "run_completed"


def test_time_never_goes_back() -> None:
    @durable.workflow
    async def sleeps() -> float:
        before = durable.now()
        await asyncio.sleep(1)
        await go.receive()
        return (durable.now() - before).total_seconds()

    assert run(sleeps, [fired(1, time=5), signal("go", 1, time=2)])[-1] == "completed 5.0"


# --- timers ---------------------------------------------------------------------------------------------------------


def test_timers_are_rounded_up_to_the_microsecond() -> None:
    @durable.workflow
    async def sleeps() -> None:
        await asyncio.gather(
            asyncio.sleep(0.0000001), asyncio.sleep(0.0000011), asyncio.sleep(0.1), asyncio.sleep(2)
        )

    live = begin(sleeps)
    asked = live.advance().commands
    due = [command.due_us - START_US for command in asked if isinstance(command, commands.StartTimer)]
    assert due == [1, 2, 100_000, 2_000_000]


@pytest.mark.parametrize("delay", [0, -1, -0.5])
def test_a_delay_that_is_not_positive_is_no_timer(delay: float) -> None:
    @durable.workflow
    async def sleeps() -> str:
        await asyncio.sleep(delay)
        await durable.sleep(delay)
        await durable.sleep_until(durable.now())
        return "at once"

    assert run(sleeps) == ['completed "at once"']


def test_a_timer_made_and_cancelled_in_one_step_leaves_nothing() -> None:
    @durable.workflow
    async def quick() -> str:
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return "quick"

    assert run(quick) == ['completed "quick"']


def test_an_activity_cancelled_in_the_step_that_made_it_leaves_nothing() -> None:
    @durable.workflow
    async def changes_its_mind() -> str:
        task = asyncio.create_task(charge("a"))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return await ship("b")

    assert run(changes_its_mind, [done(2, "s")]) == ['activity 2 ship ["b"]', 'completed "s"']


def test_an_infinite_timer_is_legal_and_wakes_nobody() -> None:
    @durable.workflow
    async def waits() -> int:
        async with asyncio.timeout(math.inf):
            return await go.receive()

    live = begin(waits)
    outcome = live.advance()
    assert outcome.commands == () and outcome.wake_at_us is None
    assert run(waits, [signal("go", 7)]) == ["completed 7"]


def test_named_timers_and_dates() -> None:
    @durable.workflow
    async def dated() -> None:
        await durable.sleep(1.5, name="nap")
        await durable.sleep_until(durable.now() - timedelta(seconds=1))
        await durable.sleep_until(durable.now().replace(microsecond=750_000))

    assert run(dated, [fired(1, time=1.5), fired(2, time=1.75)]) == [
        "timer 1 +1.5 nap", "timer 2 +1.75", "completed null",
    ]  # fmt: skip


def test_the_next_due_time_is_told() -> None:
    @durable.workflow
    async def two() -> None:
        await asyncio.gather(asyncio.sleep(5), asyncio.sleep(3))

    live = begin(two)
    assert live.advance().wake_at_us == at(3)
    late = live.advance(*live.run.due_timers(at(4)))
    assert (late.wake_at_us, late.fired_until_us) == (at(5), at(3))


def test_timers_that_fire_late_do_so_in_the_order_in_which_they_were_due() -> None:
    @durable.workflow
    async def three() -> list[int]:
        seen: list[int] = []

        async def nap(seconds: int) -> None:
            await asyncio.sleep(seconds)
            seen.append(seconds)

        await asyncio.gather(nap(3), nap(1), nap(2))
        return seen

    live = begin(three)
    live.feed()
    due = live.run.due_timers(at(100))
    assert [event.number for event in due if isinstance(event, events.TimerFired)] == [2, 3, 1]
    assert live.feed(*due) == ["completed [1,2,3]"]
    check_every_prefix(three, live.history)


def test_a_timer_that_was_cancelled_fires_no_more() -> None:
    live = begin(hurried)
    live.feed()
    outcome = live.advance(done(2, "in time", time=1), fired(1, time=5))
    assert [event.kind for event in outcome.events] == [
        "activity_completed",
        "timer_cancelled",
        "run_completed",
    ]


# --- cancellation ---------------------------------------------------------------------------------------------------


@durable.workflow
async def cleans_up() -> str:
    try:
        return await charge("a")
    finally:
        await ship("back")


def test_cancellation_comes_at_the_await_and_clean_up_may_await() -> None:
    assert run(cleans_up, [cancel("enough"), done(2, "s")])[1:] == [
        "cancel activity 1", 'activity 2 ship ["back"]', "cancelled enough",
    ]  # fmt: skip


def test_it_may_come_twice() -> None:
    assert run(cleans_up, [cancel(), cancel("really")])[1:] == [
        "cancel activity 1", 'activity 2 ship ["back"]', "cancel activity 2", "cancelled really",
    ]  # fmt: skip


def test_who_catches_it_and_returns_completes() -> None:
    @durable.workflow
    async def stubborn() -> str:
        try:
            await go.receive()
        except asyncio.CancelledError:
            return "no"
        return "yes"

    assert run(stubborn, [cancel()]) == ['completed "no"']


def test_a_shielded_activity_goes_on() -> None:
    @durable.workflow
    async def careful() -> str:
        task = asyncio.create_task(charge("a"))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            return "undone after " + await task
        return "paid"

    assert run(careful, [cancel(), done(1, "x")])[1:] == ['completed "undone after x"']


def test_a_cancel_that_arrives_before_the_start_is_seen_at_the_first_await() -> None:
    live = begin(cleans_up)
    assert live.feed(cancel()) == ['activity 1 charge ["a"]', "cancel activity 1", 'activity 2 ship ["back"]']


def test_a_cancelled_error_that_nobody_asked_for_fails_the_run() -> None:
    @durable.workflow
    async def confused() -> None:
        raise asyncio.CancelledError

    assert run(confused)[0].startswith("failed CancelledError")


# --- the end --------------------------------------------------------------------------------------------------------


def test_tasks_that_are_pending_at_the_end_are_dropped() -> None:
    @durable.workflow
    async def hasty() -> str:
        keep = asyncio.create_task(charge("a"))  # noqa: F841, RUF006
        await asyncio.sleep(0)
        return "done"

    assert run(hasty) == ['activity 1 charge ["a"]', 'completed "done"']


def test_a_result_that_cannot_be_encoded_fails_the_run() -> None:
    @durable.workflow
    async def wrong() -> int:
        return "text"  # type: ignore[return-value]

    assert run(wrong)[0].startswith("failed PayloadError: result of workflow 'wrong'")


@durable.workflow
async def counts(number: int) -> int:
    seen = go.receive_nowait()
    await go.receive()
    durable.continue_as_new(number + (seen or 0))
    return 0


def test_continue_as_new_carries_unread_signals() -> None:
    live = begin(counts, 1)
    assert live.feed(signal("other", "x"), signal("go", 2)) == ["continued [1] [('other', '\"x\"')]"]
    outcome = begin(counts, 1, signals=(("go", "5"), ("go", "6"), ("go", "7"))).feed()
    assert outcome == ["continued [6] [('go', '7')]"]


def test_continue_as_new_out_of_a_task_group_and_past_except_exception() -> None:
    @durable.workflow
    async def leaves(number: int = 0) -> None:
        async def inner() -> None:
            try:
                durable.continue_as_new(number + 1)
            except Exception:
                raise AssertionError("it is no Exception") from None

        async with asyncio.TaskGroup() as group:
            group.create_task(inner())

    assert run(leaves) == ["continued [1]"]


def test_continue_as_new_with_arguments_that_do_not_fit_fails_the_run() -> None:
    @durable.workflow
    async def wrong(number: int = 0) -> None:
        durable.continue_as_new(1, 2, 3)

    assert run(wrong)[0].startswith("failed TypeError")


# --- what is recorded once ------------------------------------------------------------------------------------------


def test_a_side_effect_runs_once_and_its_value_comes_back() -> None:
    calls: list[int] = []

    def look() -> int:
        calls.append(1)
        return len(calls)

    @durable.workflow
    async def effects() -> int:
        first = durable.side_effect(look)
        await charge("a")
        return first + durable.side_effect(look)

    live = begin(effects)
    assert live.feed() == ["side effect 1 1", 'activity 2 charge ["a"]']
    assert resume(effects, live.history).feed(done(2, "")) == ["side effect 3 2", "completed 3"]
    assert calls == [1, 1]


def test_what_a_side_effect_raises_is_recorded_and_raised_again() -> None:
    calls: list[int] = []

    def fails() -> int:
        calls.append(1)
        raise CardDeclined("no luck")

    @durable.workflow
    async def tries() -> str:
        try:
            durable.side_effect(fails)
        except CardDeclined as error:
            return await charge(str(error))
        return "?"

    @durable.workflow
    async def cannot_be_encoded() -> str:
        try:
            durable.side_effect(lambda: object())
        except durable.PayloadError:
            return await charge("refused")
        return "?"

    assert run(tries, [done(2, "ok")])[1:] == ['activity 2 charge ["no luck"]', 'completed "ok"']
    calls.clear()
    resume(tries, history_of(tries, [done(2, "ok")]))
    assert calls == [1], "not on replay"
    assert run(cannot_be_encoded, [done(2, "ok")])[-1] == 'completed "ok"'


def test_a_side_effect_that_history_does_not_hold_diverges_and_does_not_run() -> None:
    calls: list[int] = []

    @durable.workflow(name="w")
    async def without() -> None:
        await charge("a")

    @durable.workflow(name="w")
    async def with_it() -> None:
        durable.side_effect(lambda: calls.append(1))
        await charge("a")

    with pytest.raises(NonDeterminismError) as caught:
        resume(with_it, history_of(without))
    assert calls == []
    assert "side_effect" in caught.value.actual and "activity_scheduled" in caught.value.expected
    assert caught.value.line > 0


def test_variables_status_and_events_are_written_once() -> None:
    @durable.workflow
    async def tells() -> None:
        durable.set_var("a", 1)
        durable.set_status("new")
        durable.publish("orders", {"id": 1}, key="k")
        await charge("a")
        durable.set_var("a", 2)
        durable.publish("orders", {"id": 2})

    live = begin(tells)
    first = live.advance()
    assert (dict(first.vars), first.status) == ({"a": "1"}, "new")
    assert [(event.number, event.topic, event.key) for event in first.published] == [(1, "orders", "k")]
    second = resume(tells, live.history).advance(done(1, ""))
    assert (dict(second.vars), second.status) == ({"a": "2"}, None)
    assert [(event.number, event.payload) for event in second.published] == [(2, '{"id":2}')]


def test_a_run_that_asked_for_nothing_is_not_begun_anew(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    @durable.workflow
    async def waits() -> int:
        durable.publish("orders", {"id": 1})
        durable.logger.info("begun")
        return await go.receive()

    live = begin(waits)
    first = live.advance()
    assert len(first.published) == 1 and len(live.history) == 1
    again = resume(waits, live.history, begun=True).advance(signal("go", 4))
    assert again.published == () and again.events[-1].kind == "run_completed"
    assert [record.message for record in caplog.records] == ["[order-1] begun"]


# --- signals --------------------------------------------------------------------------------------------------------


def test_signals_are_buffered_in_order() -> None:
    @durable.workflow
    async def reads() -> list[Any]:
        await charge("a")
        seen: list[Any] = [go.pending, go.receive_nowait()]
        seen.append(await go.receive())
        return [*seen, go.receive_nowait(), go.pending]

    inputs = [signal("go", 1), signal("stop", 0), signal("go", 2), done(1, "")]
    assert run(reads, inputs)[-1] == "completed [2,1,2,null,0]"


def test_a_cancelled_receiver_passes_its_turn_on() -> None:
    @durable.workflow
    async def races() -> str:
        first, second = asyncio.create_task(go.receive()), asyncio.create_task(go.receive())
        await durable.Signal("cancel").receive()
        first.cancel()
        return f"{await second} {first.cancelled()}"

    assert run(races, [signal("cancel"), signal("go", 5)])[-1] == 'completed "5 True"'


def test_a_receiver_cancelled_after_it_was_woken_does_not_swallow_the_signal() -> None:
    @durable.workflow
    async def races() -> str:
        first, second = asyncio.create_task(go.receive()), asyncio.create_task(go.receive())
        await asyncio.sleep(0)
        inbox = current_run("test").inbox("go")
        inbox.put("5")  # as if it arrived now: the first is woken, and before it runs ...
        first.cancel()
        return f"{await second} {first.cancelled()}"

    assert run(races) == ['completed "5 True"']


def test_a_signal_that_cannot_be_decoded_is_dropped_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    @durable.workflow
    async def reads() -> int:
        return await go.receive()

    assert begin(reads).feed(signal("go", "text"), signal("go", 4)) == ["completed 4"]
    assert [record.message for record in caplog.records if "dropped" in record.message] != []
    caplog.clear()
    assert run(reads, [signal("go", "text"), signal("go", 4)]) == ["completed 4"]


# --- conditions -----------------------------------------------------------------------------------------------------


@durable.workflow
async def until_three() -> str:
    total = 0

    async def add() -> None:
        nonlocal total
        async for number in go:
            total += number

    adder = asyncio.create_task(add())
    try:
        await durable.wait_condition(lambda: total >= 3, timeout=10)
    except TimeoutError:
        return f"only {total}"
    finally:
        adder.cancel()
    return f"{total}"


def test_a_condition_is_asked_after_every_step() -> None:
    assert run(until_three, [signal("go", 1), signal("go", 2)]) == [
        "timer 1 +10.0",
        "cancel timer 1",
        'completed "3"',
    ]
    assert run(until_three, [signal("go", 1), fired(1, time=10)])[-1] == 'completed "only 1"'


def test_what_a_condition_raises_comes_out() -> None:
    @durable.workflow
    async def broken() -> None:
        await durable.wait_condition(lambda: go.pending > 0 and 1 / 0 > 0)

    assert run(broken, [signal("go", 1)]) == ["failed ZeroDivisionError: division by zero"]


@pytest.mark.parametrize(
    "touch",
    [
        lambda: durable.set_var("a", 1),
        lambda: durable.set_status("a"),
        lambda: durable.publish("a", 1),
        lambda: durable.side_effect(lambda: 1),
        lambda: durable.start(one, "o-1"),
        lambda: durable.continue_as_new(),
        lambda: asyncio.get_running_loop().call_later(5, print),
        lambda: asyncio.get_running_loop().create_task(asyncio.sleep(0)),
        lambda: asyncio.Event().set() or asyncio.get_running_loop().call_soon(print),
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_a_condition_may_only_look(touch: Any, later: bool) -> None:
    @durable.workflow
    async def touches() -> str:
        try:
            await durable.wait_condition(lambda: go.pending >= later and (touch(), True)[1])
        except ForbiddenInWorkflow:
            return f"refused, {go.pending}"
        return "allowed"

    assert run(touches, [signal("go", 1)] if later else []) == [f'completed "refused, {int(later)}"']


def test_a_condition_may_not_take_a_signal() -> None:
    @durable.workflow
    async def takes() -> str:
        try:
            await durable.wait_condition(lambda: go.receive_nowait() == 1)
        except ForbiddenInWorkflow:
            return f"refused, {go.pending}"
        return "allowed"

    assert run(takes, [signal("go", 1)]) == ['completed "refused, 1"']


def test_randomness_in_a_condition_is_thrown_away() -> None:
    @durable.workflow
    async def rolls(look: bool) -> float:
        if look:
            await durable.wait_condition(lambda: durable.random().random() < 2)
        return durable.random().random()

    assert begin(rolls, True).feed() == begin(rolls, False).feed()


# --- what a run knows of itself -------------------------------------------------------------------------------------


def test_randomness_and_time_are_the_runs_own() -> None:
    @durable.workflow
    async def looks() -> list[Any]:
        first = [durable.random().random(), str(durable.uuid4()), durable.now().isoformat()]
        await charge("a")
        return [*first, durable.random().random(), str(durable.uuid4()), durable.now().isoformat()]

    said = run(looks, [done(1, "", time=2)])[-1]
    assert "2023-11-14T22:13:20+00:00" in said and "2023-11-14T22:13:22+00:00" in said
    assert run(looks, [done(1, "", time=2)])[-1] == said


def test_info_is_the_same_on_replay() -> None:
    lengths: list[list[Any]] = []

    @durable.workflow
    async def looks() -> None:
        seen: list[Any] = []
        lengths.append(seen)
        for _ in range(3):
            info = durable.info()
            seen.append(
                (info.history_length, info.continue_as_new_suggested, info.workflow, info.instance_id)
            )
            await charge("a")

    live = begin(looks)
    live.feed()
    live.feed(done(1, ""))
    live.feed(done(2, ""))
    resume(looks, live.history)
    assert lengths[0] == lengths[1]
    assert [length for length, *_ in lengths[0]] == [1, 3, 5]


def test_the_suggestion_to_continue_as_new_is_the_same_on_replay() -> None:
    @durable.workflow
    async def fills() -> str:
        while not durable.info().continue_as_new_suggested:
            await charge("x" * 1_000_000)
        return "full"

    inputs = [done(number, "y" * 1_000_000) for number in range(1, 8)]
    live = begin(fills)
    live.feed()
    count = 0
    for one_input in inputs:
        count += 1
        if "completed" in live.feed(one_input)[-1]:
            break
    assert count in (5, 6)
    check_every_prefix(fills, live.history)


def test_the_logger_is_silent_while_history_is_replayed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    @durable.workflow
    async def talks() -> None:
        durable.logger.info("first")
        await charge("a")
        durable.logger.info("second")

    live = begin(talks)
    live.feed()
    resume(talks, live.history).feed(done(1, ""))
    assert [record.message for record in caplog.records] == ["[order-1] first", "[order-1] second"]
    assert caplog.records[0].__dict__["run_id"] == live.run.identity.run_id


# --- divergence -----------------------------------------------------------------------------------------------------


@durable.workflow(name="w")
async def before() -> None:
    await charge("a")
    await asyncio.sleep(1)
    await ship("b")


def _history() -> list[events.Event]:
    return history_of(before, [done(1, "x"), fired(2, time=1), done(3, "y", time=2)])


def _diverges(code: Any) -> NonDeterminismError:
    with pytest.raises(NonDeterminismError) as caught:
        resume(code, _history())
    error = caught.value
    assert error.file == __file__ and error.line > 0, "it says where"
    assert str(error.line) in str(error) and "order-1" in str(error)
    return error


def test_a_missing_command() -> None:
    @durable.workflow(name="w")
    async def after() -> None:
        await charge("a")
        await ship("b")

    error = _diverges(after)
    assert (error.event, error.expected) == (4, "timer_started (command 2)")
    assert error.actual == "activity_scheduled 'ship' (command 2)"


def test_an_extra_command() -> None:
    @durable.workflow(name="w")
    async def after() -> None:
        extra = asyncio.create_task(ship("more"))
        await asyncio.sleep(0)
        await charge("a")
        await extra

    error = _diverges(after)
    assert (error.event, error.actual) == (2, "activity_scheduled 'ship' (command 1)")


def test_another_name() -> None:
    @durable.workflow(name="w")
    async def after() -> None:
        await ship("a")

    error = _diverges(after)
    assert (error.expected, error.actual) == (
        "activity_scheduled 'charge' (command 1)", "activity_scheduled 'ship' (command 1)",
    )  # fmt: skip


def test_another_end() -> None:
    @durable.workflow(name="w")
    async def after() -> None:
        await charge("a")
        await asyncio.sleep(1)
        await ship("b")
        await charge("more")

    assert _diverges(after).expected == "run_completed"


def test_one_that_ends_early() -> None:
    @durable.workflow(name="w")
    async def after() -> None:
        await charge("a")

    assert _diverges(after).actual == "run_completed"


def test_the_line_is_that_of_the_call() -> None:
    @durable.workflow(name="w")
    async def after() -> None:
        await charge("a")
        await helper()

    async def helper() -> None:
        await ship("b")

    assert _diverges(after).line == helper.__code__.co_firstlineno + 1


def test_other_arguments_delays_and_options_are_no_divergence() -> None:
    @durable.workflow(name="w")
    async def after() -> None:
        await charge.options(timeout=5, queue="eu")("other")
        await durable.sleep(99, name="other")
        await ship.options(retry=durable.Retry(max_attempts=1))("b")

    resume(after, _history())


def test_a_newer_format_is_left_alone() -> None:
    with pytest.raises(NewerFormat):
        decode_history([events.encode_event(replace(started(before), format=events.FORMAT + 1))])


# --- dropping -------------------------------------------------------------------------------------------------------


def test_dropping_a_run_at_any_event_runs_finally_blocks_and_does_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    tried: list[str] = []
    ran: list[str] = []

    @durable.workflow
    async def tidy() -> None:
        try:
            await charge("a")
            async with asyncio.TaskGroup() as group:
                group.create_task(ship("b"))
                group.create_task(asyncio.sleep(5))
        finally:
            tried.append("finally")
            for touch in (
                lambda: durable.side_effect(lambda: ran.append("side effect")),
                lambda: durable.set_var("a", 1),
                lambda: durable.publish("t", 1),
                lambda: durable.logger.info("I was dropped"),
                lambda: durable.start(one, "x"),
            ):
                with contextlib.suppress(BaseException):
                    touch()
            await ship("back")

    history = history_of(tidy, [done(1, "x"), done(2, "y")])
    tried.clear()
    caplog.clear()
    for length in range(1, len(history) + 1):
        if length in (1, 2, 5, 6):
            live = resume(tidy, history[:length])
            if length == 1:
                live.feed()
            before_step = live.run.context.step
            live.run.drop()
            assert not before_step.commands and not before_step.vars and not before_step.published
    assert tried == ["finally"] * 4
    assert ran == []
    assert [record.message for record in caplog.records] == []


# --- async generators, the collector --------------------------------------------------------------------------------


def test_async_generators_and_their_clean_up() -> None:
    @durable.workflow
    async def streams() -> str:
        async def orders() -> AsyncIterator[str]:
            try:
                for order in "abc":
                    yield await charge(order)
            finally:
                await ship("closed")

        async for receipt in orders():
            if receipt == "stop":
                break
        await asyncio.sleep(1)
        return receipt

    assert run(streams, [done(1, "go"), done(2, "stop")]) == [
        'activity 1 charge ["a"]', 'activity 2 charge ["b"]', "timer 3 +1.0", 'activity 4 ship ["closed"]',
    ]  # fmt: skip


def test_the_collector_cannot_move_a_command_to_another_run() -> None:
    @durable.workflow
    async def cyclic() -> None:
        me: dict[str, Any] = {}

        async def forgotten() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                await ship("closed")

        me["generator"], me["me"] = forgotten(), me
        await anext(me["generator"])
        await charge("a")

    @durable.workflow
    async def collects() -> None:
        gc.collect()
        await asyncio.sleep(0)
        gc.collect()
        await charge("mine")

    live = begin(cyclic)
    live.feed()
    live.feed(done(1, ""))
    del live
    assert begin(collects).feed() == ['activity 1 charge ["mine"]']


# --- children and other instances -----------------------------------------------------------------------------------


def closed(
    number: int, state: str = "completed", result: Any = None, error: BaseException | None = None
) -> events.Input:
    failure = failure_of(error).to_text() if error is not None else None
    return events.ChildClosed(
        time_us=at(0),
        number=number,
        state=state,
        result=json.dumps(result) if state == "completed" else None,
        failure=failure,
    )


def child_started(number: int) -> events.Input:
    return events.ChildStarted(time_us=at(0), number=number)


@durable.workflow
async def parent() -> str:
    return await one("o-1") + "?"


def test_a_workflow_called_in_a_workflow_is_a_child() -> None:
    assert run(parent, [child_started(1), closed(1, result="paid")]) == [
        'child 1 one ["o-1"] terminate',
        'completed "paid?"',
    ]
    assert run(parent, [closed(1, "failed", error=CardDeclined("no"))])[-1] == "failed CardDeclined: no"
    assert run(parent, [closed(1, "cancelled")])[-1].startswith("failed WorkflowCancelled")
    assert run(parent, [closed(1, "terminated")])[-1].startswith("failed WorkflowTerminated")


def test_a_childs_id_that_is_taken() -> None:
    refused = events.ChildRefused(time_us=at(0), number=1)
    assert run(parent, [refused])[-1].startswith("failed InstanceAlreadyExists")

    @durable.workflow
    async def asks() -> str:
        child = durable.start(one, "o-1", id="taken", parent_close="abandon")
        try:
            await child.started()
        except durable.InstanceAlreadyExists:
            return child.id
        return await child

    assert run(asks, [refused]) == ['child 1 one ["o-1"] abandon', 'completed "taken"']
    assert run(asks, [child_started(1), closed(1, result="r")])[-1] == 'completed "r"'


def test_cancelling_who_awaits_a_child_cancels_the_child() -> None:
    live = begin(parent)
    assert live.feed() == ['child 1 one ["o-1"] terminate']
    said = live.feed(cancel())
    assert said == [f"send cancel 2 {live.run.identity.run_id}/1", "cancelled"]


def test_a_child_that_fails_unwatched_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    @durable.workflow
    async def careless() -> str:
        durable.start(one, "o-1")
        return await charge("a")

    live = begin(careless)
    live.feed()
    live.feed(events.ChildRefused(time_us=at(0), number=1))
    live.feed(done(2, "x"))
    live.run.drop()
    alive.clear()
    del live
    gc.collect()
    assert caplog.records == []


@pytest.mark.parametrize("bad", ["", "x" * 513, "nul\0", "lone \ud800"])
def test_an_id_that_no_store_could_keep_raises_in_the_workflow(bad: str) -> None:
    @durable.workflow
    async def starts() -> str:
        said = ""
        for touch in (
            lambda: durable.start(one, "o-1", id=bad),
            lambda: durable.get_instance(bad),
            lambda: durable.set_var(bad, 1),
            lambda: durable.publish(bad, 1),
        ):
            try:
                touch()
            except (ValueError, TypeError):
                said += "refused "
        return said

    assert begin(starts).feed() == ['completed "refused refused refused refused "']


def test_signals_and_cancels_to_other_instances() -> None:
    @durable.workflow
    async def talks() -> str:
        other = durable.get_instance("other")
        await other.signal(go, 5)
        try:
            await other.cancel()
        except durable.InstanceFinished:
            return "finished"
        return "asked"

    def resolved(number: int, outcome: str) -> events.Input:
        return events.SendResolved(time_us=at(0), number=number, outcome=outcome)

    assert run(talks, [resolved(1, "delivered"), resolved(2, "finished")]) == [
        "signal 1 other go 5", "send cancel 2 other", 'completed "finished"',
    ]  # fmt: skip
    assert run(talks, [resolved(1, "not_found")])[-1].startswith("failed InstanceNotFound")


# --- other processes ------------------------------------------------------------------------------------------------

CORPUS: list[tuple[Any, list[events.Input], tuple[Any, ...]]] = [
    (one, [done(1, "paid")], ("o-1",)),
    (gathers, [done(3, "z"), done(1, "x"), done(2, "y")], ()),
    (grouped, [done(1, "x"), failed(3, CardDeclined("no"))], ()),
    (first_of_two, [done(2, "ship")], ()),
    (as_they_come, [done(2, "b"), done(3, "c"), done(1, "a")], ()),
    (hurried, [fired(1, time=5)], ()),
    (waits_for, [fired(1, time=5), done(3, "shipped", time=6)], ()),
    (shielded, [fired(1, time=1), done(2, "paid", time=2)], ()),
    (produces, [done(3, "c"), done(1, "a"), done(2, "b")], ()),
    (synchronised, [done(1, "a"), done(2, "b")], ()),
    (two_listeners, [signal("go", 1), done(2, "b"), signal("go", 2), done(1, "a")], ()),
    (cleans_up, [cancel("enough"), done(2, "s")], ()),
    (until_three, [signal("go", 1), signal("go", 2)], ()),
    (parent, [child_started(1), closed(1, result="paid")], ()),
]


CODE = "import sys, pathlib, tests.core.test_replay as t; t.replay_corpus(pathlib.Path(sys.argv[1]))"


def corpus_histories() -> list[list[str]]:
    return [
        [events.encode_event(event).decode() for event in history_of(workflow, inputs, *args)]
        for workflow, inputs, args in CORPUS
    ]


@pytest.mark.parametrize("seed", [0, 1, 4242])
def test_another_process_replays_every_prefix_to_the_same_commands(seed: int, tmp_path: Path) -> None:
    recorded = tmp_path / "histories.json"
    recorded.write_text(json.dumps(corpus_histories()))
    subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE, str(recorded)],
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        cwd=Path(__file__).parents[2],
        check=True,
    )


def replay_corpus(path: Path) -> None:
    ballast = [object() for _ in range(int(os.environ["PYTHONHASHSEED"]) % 977)]  # another heap, too
    for (workflow, _, _), lines in zip(CORPUS, json.loads(path.read_text()), strict=True):
        check_every_prefix(workflow, decode_history([line.encode() for line in lines]))
    del ballast


# --- many runs ------------------------------------------------------------------------------------------------------


def test_many_warm_runs_cost_no_more_than_few() -> None:
    def cost(count: int) -> float:
        lives = []
        begun = perf_counter()
        for number in range(count):
            live = begin(hurried, run_id=f"run-{number}")  # asyncio keeps their tasks in one set, by hash
            live.feed()
            lives.append(live)
        spent = perf_counter() - begun
        for live in lives:
            live.run.drop()
        return spent / count

    cost(100)
    few = min(cost(250) for _ in range(3))
    assert cost(2_000) < 5 * few


def test_the_cost_of_a_step_does_not_grow_with_the_history() -> None:
    @durable.workflow
    async def long() -> None:
        while True:
            await charge("a")

    live = begin(long)
    live.feed()

    def cost(first: int, count: int) -> float:
        gc.disable()  # one full collection, of what other tests left, takes longer than all of these steps
        begun = perf_counter()
        for number in range(first, first + count):
            live.feed(done(number, ""))
        gc.enable()
        return perf_counter() - begun

    early = cost(1, 500)
    cost(501, 4_000)
    assert cost(4_501, 500) < 5 * early
    live.run.drop()
