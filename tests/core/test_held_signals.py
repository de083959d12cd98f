"""Signals that were buffered together before any code ran (`SignalReceived.held`): literal histories."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import durable
from durable.core import events
from durable.core.events import Event, decode_event, encode_event
from durable.errors import NonDeterminismError
from tests.core.runs import START_US, alive, at, begin, cancel, replace, resume, signal, started

go: durable.Signal[int] = durable.Signal("go", int)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    while alive:
        alive.pop().drop()


def held(value: int, *, time: float = 0) -> Event:
    return replace(signal("go", value, time=time), held=True)


def completed(result: str) -> Event:
    return events.RunCompleted(time_us=START_US, result=result)


@durable.workflow
async def takes_all() -> list[int]:
    """The first signal, and whatever else is there then."""
    found = [await go.receive()]
    while (more := go.receive_nowait()) is not None:
        found.append(more)
    return found


def test_no_code_runs_between_a_held_signal_and_what_follows() -> None:
    resume(takes_all, [started(takes_all), held(1), held(2), signal("go", 3), completed("[1,2,3]")])


def test_a_signal_that_is_not_held_is_seen_alone() -> None:
    resume(takes_all, [started(takes_all), signal("go", 1), completed("[1]")])
    with pytest.raises(NonDeterminismError) as caught:
        resume(takes_all, [started(takes_all), signal("go", 1), signal("go", 2), completed("[1,2]")])
    assert caught.value.event == 3


def test_a_history_may_end_with_a_held_signal() -> None:
    live = resume(takes_all, [started(takes_all), held(1)])
    assert live.feed(signal("go", 2)) == ["completed [1,2]"]


def test_what_is_fed_held_is_written_held_and_replays() -> None:
    live = begin(takes_all)
    assert live.feed() == []
    assert live.feed(held(1), held(2)) == []  # type: ignore[arg-type]
    assert live.feed(signal("go", 3)) == ["completed [1,2,3]"]
    stored = [encode_event(event) for event in live.history]
    assert [b'"held":true' in line for line in stored] == [False, True, True, False, False]
    resume(takes_all, [decode_event(line) for line in stored])


@durable.workflow
async def cancelled_with_mail() -> int:
    try:
        await asyncio.shield(asyncio.get_running_loop().create_future())
    except asyncio.CancelledError:
        return go.pending
    return -1


def test_a_held_signal_is_there_when_the_cancel_behind_it_is_seen() -> None:
    history = [started(cancelled_with_mail), held(1), held(2), cancel("stop"), completed("2")]
    resume(cancelled_with_mail, history)


@durable.workflow
async def reads_until_cancelled() -> list[int]:
    found: list[int] = []
    try:
        while True:
            found.append(await go.receive())
    except asyncio.CancelledError:
        return [*found, go.pending]


def test_a_receiver_that_is_cancelled_in_the_step_of_its_signal_leaves_it_in_the_buffer() -> None:
    resume(reads_until_cancelled, [started(reads_until_cancelled), held(7), cancel(), completed("[1]")])
    one_by_one = [started(reads_until_cancelled), signal("go", 7), cancel(), completed("[7,0]")]
    resume(reads_until_cancelled, one_by_one)


@durable.workflow
async def answers() -> None:
    @durable.update
    async def read() -> list[int]:
        found: list[int] = []
        while (more := go.receive_nowait()) is not None:
            found.append(more)
        return found

    await durable.wait_condition(lambda: False)


def test_an_update_sees_the_signals_that_were_held_for_it() -> None:
    asked = events.UpdateRequested(time_us=at(1), key="update/1", name="read", args="[]")
    answer = events.UpdateFinished(time_us=at(1), number=1, key="update/1", result="[4,5]")
    resume(answers, [started(answers), held(4), held(5), asked, answer])
