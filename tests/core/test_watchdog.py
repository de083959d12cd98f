from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from durable.core import watchdog as module
from durable.core.watchdog import StepTooLong, Watchdog
from tests.core.hosts import Host


class Clock:
    """Seconds, moved by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dog(clock: Clock) -> Watchdog:
    return Watchdog(clock=clock, start_thread=False)


def elsewhere(work: Callable[[], None]) -> None:
    """Do it in another thread, and wait for it without running any code that an interrupt could hit before."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def overdue(dog: Watchdog, clock: Clock) -> None:
    """Time goes by, and the watchdog looks; one look counts for no more than half of the time."""
    for _ in range(2):
        clock.now += 5
        dog.check()


def spin() -> None:
    for _ in range(10**9):
        pass


def test_the_result_and_errors_are_handed_on(dog: Watchdog) -> None:
    assert dog.run("run", lambda a, b: a + b, 1, b=2) == 3
    with pytest.raises(ZeroDivisionError):
        dog.run("run", lambda: 1 / 0)
    assert dog._notes == {}


def test_a_short_step_is_not_reported(dog: Watchdog, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    def step() -> None:
        clock.now = 1.9
        dog.check()

    dog.run("run-7", step)
    clock.now = 100
    dog.check()
    assert caplog.text == ""


def test_a_long_step_is_reported_once_with_its_stack(
    dog: Watchdog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def a_busy_function() -> None:
        clock.now = 2.5
        dog.check()
        clock.now = 5
        dog.check()

    dog.run("run-7", a_busy_function)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.records[0].name == "durable"
    assert "run-7" in caplog.text
    assert "2.5 s" in caplog.text
    assert "in a_busy_function" in caplog.text


def test_a_longer_step_is_interrupted(dog: Watchdog, clock: Clock) -> None:
    def step() -> None:
        elsewhere(lambda: overdue(dog, clock))
        spin()

    with pytest.raises(StepTooLong):
        dog.run("run-7", step)
    assert dog._notes == {}
    sum(range(100_000))


def test_steps_that_are_made_together_are_watched_one_by_one(
    dog: Watchdog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(watchdog=dog)

    def nearly_too_long() -> None:
        clock.now += 1.9
        dog.check()

    host.loop.together(lambda: [host.loop.step(nearly_too_long) for _ in range(20)])
    assert caplog.records == []
    assert dog._notes == {}


def test_one_of_many_steps_that_takes_too_long_is_interrupted(
    dog: Watchdog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(watchdog=dog)
    done: list[int] = []

    def too_long() -> None:
        with dog_lifted():
            elsewhere(lambda: overdue(dog, clock))
        spin()

    def several() -> None:
        for number in range(3):
            host.loop.step(too_long if number == 1 else lambda: None)
            done.append(number)

    with pytest.raises(StepTooLong):
        host.loop.together(several)
    assert done == [0]
    assert len(caplog.records) == 1
    assert dog._notes == {}
    host.loop.drop()


def test_a_process_that_was_stopped_is_no_long_step(dog: Watchdog, clock: Clock) -> None:
    def step() -> None:
        clock.now = 3_600
        elsewhere(dog.check)
        sum(range(10_000))

    dog.run("run-7", step)


def test_a_step_that_swallows_the_interrupt_gets_another(dog: Watchdog, clock: Clock) -> None:
    swallowed: list[float] = []

    def step() -> None:
        for now in (5, 10, 15, 20):
            try:
                clock.now = now
                elsewhere(dog.check)
                for _ in range(10_000):
                    pass
            except StepTooLong:
                swallowed.append(now)

    dog.run("run-7", step)
    assert swallowed == [10, 20]


def test_an_interrupt_that_was_sent_but_not_delivered_is_taken_back(
    dog: Watchdog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[type[BaseException] | None] = []
    monkeypatch.setattr(module, "_send", lambda thread_id, error: sent.append(error))

    def step() -> None:
        overdue(dog, clock)

    dog.run("run-7", step)
    assert sent == [StepTooLong, None]
    overdue(dog, clock)
    assert sent == [StepTooLong, None]


def test_an_interrupt_that_comes_while_the_step_ends_leaves_nothing_behind(
    dog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[object] = []
    end = dog._end

    def interrupted_at_first(note: Any) -> None:
        ended.append(note)
        if len(ended) == 1:
            raise StepTooLong
        end(note)

    monkeypatch.setattr(dog, "_end", interrupted_at_first)
    with pytest.raises(StepTooLong):
        dog.run("run-7", lambda: None)
    assert len(ended) == 2
    assert dog._notes == {}


def test_a_step_that_has_ended_is_not_interrupted(dog: Watchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[Any] = []
    dog.run("run-7", lambda: notes.extend(dog._notes.values()))
    monkeypatch.setattr(module, "_send", lambda thread_id, error: pytest.fail("it reached the host"))
    dog._interrupt(notes[0])


def test_no_interrupt_outlives_its_step() -> None:
    """Steps end just when the watchdog makes up its mind: whatever happens, the thread goes on unharmed."""
    clock = Clock()
    dog = Watchdog(clock=clock, report_after=1e9, interrupt_after=0.5, start_thread=False)
    stop = threading.Event()

    def check_all_the_time() -> None:
        while not stop.is_set():
            clock.now += 1
            dog.check()

    thread = threading.Thread(target=check_all_the_time)
    thread.start()
    interrupted = 0
    try:
        for length in range(2_000):
            try:
                dog.run("run", lambda length=length: sum(range(length)))
            except StepTooLong:
                interrupted += 1
            assert dog._notes == {}
    finally:
        stop.set()
        thread.join()
    assert interrupted > 0


def test_two_threads_are_watched_apart(dog: Watchdog, clock: Clock) -> None:
    outcome: list[str] = []

    def quick() -> None:
        outcome.append(dog.run("quick", lambda: "done"))

    def step() -> None:
        elsewhere(quick)
        elsewhere(lambda: overdue(dog, clock))
        spin()

    with pytest.raises(StepTooLong):
        dog.run("slow", step)
    assert outcome == ["done"]


def test_its_own_thread_starts_with_the_first_step_and_ends_with_close() -> None:
    ticking = threading.Event()
    ticks = iter(range(10**9))
    dog = Watchdog(
        clock=lambda: next(ticks) if ticking.is_set() else 0, report_after=0.01, interrupt_after=0.02
    )

    def watchers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "durable watchdog"]

    assert watchers() == []

    def step() -> None:
        ticking.set()
        spin()

    with pytest.raises(StepTooLong):
        dog.run("run", step)
    (watcher,) = watchers()
    assert watcher.daemon
    dog.close()
    watcher.join(10)
    assert not watcher.is_alive()
    dog.close()


# --- with a loop -------------------------------------------------------------------------------------------------


def test_a_task_that_keeps_the_loop_busy_leaves_the_step(dog: Watchdog, clock: Clock) -> None:
    host = Host(watchdog=dog)

    async def main() -> None:
        await asyncio.sleep(0)
        with dog_lifted():
            elsewhere(lambda: overdue(dog, clock))
        spin()

    with pytest.raises(StepTooLong):
        host.start(main())
    assert asyncio._get_running_loop() is None
    assert gc.isenabled()
    host.loop.drop()


def test_a_callback_that_keeps_the_loop_busy_leaves_the_step(dog: Watchdog, clock: Clock) -> None:
    host = Host(watchdog=dog)

    def callback() -> None:
        with dog_lifted():
            elsewhere(lambda: overdue(dog, clock))
        spin()

    with pytest.raises(StepTooLong):
        host.do(lambda: host.loop.call_soon(callback))
    host.loop.drop()


def test_clean_up_that_keeps_the_loop_busy_is_given_up(
    dog: Watchdog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(watchdog=dog)
    seen: list[str] = []

    async def main() -> None:
        try:
            await host.call("a")
        finally:
            seen.append("busy")
            with dog_lifted():
                elsewhere(lambda: overdue(dog, clock))
            spin()

    host.start(main())
    host.loop.drop()
    assert seen == ["busy"]
    assert host.loop.is_closed()


def test_looking_is_watched(dog: Watchdog, clock: Clock) -> None:
    host = Host(watchdog=dog)

    def query() -> None:
        with dog_lifted():
            elsewhere(lambda: overdue(dog, clock))
        spin()

    with pytest.raises(StepTooLong):
        host.loop.look(query)
    host.loop.drop()


def dog_lifted() -> Any:
    """A test's thread is no workflow's."""
    from durable.core import guards

    return guards.lifted()


def test_a_tracer_goes_on_after_an_interrupt() -> None:
    """On CPython 3.11 it hung in its first function: a process of its own, since nothing ends such a one."""
    code = """
import sys, threading
from durable.core.watchdog import StepTooLong, Watchdog
dog = Watchdog(report_after=0.02, interrupt_after=0.05)
def step():
    for _ in range(100_000_000): pass
try:
    dog.run("run-7", step)
except StepTooLong:
    dog.close()
def traced(): return "on it goes"
def tracer(frame, event, argument): return tracer
sys.settrace(tracer)
traced()
sys.settrace(None)
print(traced())
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert ran.stdout == "on it goes\n"
