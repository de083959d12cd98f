"""What a history says that its run waits for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import durable
from durable.core import events
from durable.core.events import Event
from durable.core.messages import PARENT_CANCELLED
from durable.core.replay import load
from durable.core.unanswered import Unanswered, unanswered
from tests.core.runs import CONVERTER, IDENTITY, at, started

SCHEDULED = events.ActivityScheduled(time_us=at(0), number=1, name="a", args="[]", queue="q")
TIMER = events.TimerStarted(time_us=at(0), number=2, due_us=at(5))
CHILD = events.ChildScheduled(
    time_us=at(0), number=3, workflow="w", instance_id="kid", run_id="r", args="[]", queue="q"
)
SIGNAL = events.SignalSent(time_us=at(0), number=4, instance_id="i", name="go", payload="1")
CANCEL = events.CancelSent(time_us=at(0), number=5, instance_id="i")
COMPLETED = events.ActivityCompleted(time_us=at(1), number=1, result="1")
DONE = events.RunCompleted(time_us=at(1), result="1")
NOBODY_WAITS = events.CancelSent(time_us=at(0), number=6, instance_id="kid", reason=PARENT_CANCELLED)


def test_commands_wait_for_their_answers() -> None:
    assert unanswered([SCHEDULED, TIMER, CHILD, SIGNAL, CANCEL, NOBODY_WAITS]) == Unanswered(
        activities={1: SCHEDULED},
        timers={2: TIMER},
        unstarted={3: CHILD},
        children={3: CHILD},
        sends={4: SIGNAL, 5: CANCEL},
    )


@pytest.mark.parametrize(
    "answer",
    [
        COMPLETED,
        events.ActivityFailed(time_us=at(1), number=1, failure="{}"),
        events.ActivityCancelled(time_us=at(1), number=1),
        events.TimerFired(time_us=at(1), number=2),
        events.TimerCancelled(time_us=at(1), number=2),
        events.ChildStarted(time_us=at(1), number=3),
        events.ChildRefused(time_us=at(1), number=3),
        events.ChildClosed(time_us=at(1), number=3, state="completed"),
        events.SendResolved(time_us=at(1), number=4, outcome="delivered"),
    ],
)
def test_an_answer_ends_its_own_wait_and_no_other(answer: Any) -> None:
    before: list[Event] = [SCHEDULED, TIMER, CHILD, SIGNAL]
    found = unanswered([*before, answer])
    in_part = isinstance(answer, events.ChildStarted | events.ChildClosed)
    waits = {*found.activities, *found.timers, *found.children, *found.unstarted, *found.sends}
    assert waits == {1, 2, 3, 4} - (set() if in_part else {answer.number})
    assert found.twice == []
    again = [] if isinstance(answer, events.ChildStarted) else [answer.number]
    assert unanswered([*before, answer, answer]).twice == again


def test_a_child_that_has_started_is_still_to_end() -> None:
    found = unanswered([CHILD, events.ChildStarted(time_us=at(1), number=3)])
    assert (found.unstarted, found.children) == ({}, {3: CHILD})


def test_the_first_timer_says_when_the_run_is_to_wake() -> None:
    later = events.TimerStarted(time_us=at(0), number=7, due_us=at(9))
    assert unanswered([later, TIMER]).wake_at_us == at(5)
    assert unanswered([SCHEDULED]).wake_at_us is None


def test_an_ending_is_named() -> None:
    assert unanswered([SCHEDULED, DONE]).ending == DONE
    assert unanswered([SCHEDULED]).ending is None


# --- the same as what the code waits for ----------------------------------------------------------------------------


@durable.activity
async def job(n: int) -> int:
    raise AssertionError("not run here")


@durable.workflow
async def kid() -> None:
    raise AssertionError("not run here")


@durable.workflow
async def busy() -> None:
    """Waits for one of each kind; some are given up again."""

    async def gives_up() -> None:
        with_limit = asyncio.ensure_future(job(2))
        child = asyncio.ensure_future(kid())
        await durable.sleep(1)
        with_limit.cancel()
        child.cancel()

    started = durable.start(kid, id="second")
    await asyncio.gather(
        gives_up(),
        job(1),
        durable.sleep(60),
        durable.get_instance("i").signal("go"),
        started,
        return_exceptions=True,
    )


@pytest.mark.parametrize("fired", [False, True])
def test_what_stands_unanswered_is_what_the_replayed_code_waits_for(fired: bool) -> None:
    first = started(busy)
    history: list[Event] = [first]
    run = load(busy.definition, IDENTITY, history, converter=CONVERTER, known={})
    history += run.advance([events.ChildStarted(time_us=at(0.5), number=1)]).events
    if fired:
        history += run.advance(run.due_timers(at(2))).events
    waits = unanswered(history)
    pending = run.context.pending
    assert {*waits.activities, *waits.children, *waits.sends} == {n for n in pending if n > 0}
    assert {-n for n in waits.unstarted} == {n for n in pending if n < 0}
    assert {n: timer.due_us for n, timer in waits.timers.items()} == run.context.timers
    assert waits.wake_at_us == min(run.context.timers.values())
    assert (len(waits.activities), waits.twice) == (1 if fired else 2, [])
    run.drop()
