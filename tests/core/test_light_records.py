from __future__ import annotations

import dataclasses
from dataclasses import fields, replace

import pytest

import durable
from durable.core import events
from durable.core.commands import CompleteRun, ScheduleActivity, decision_of, schedule_activity
from durable.core.context import Step
from durable.core.light_records import dataclass
from durable.core.outcome import Outcome, Part, put_before
from tests.core.runs import begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: int
    name: str = ""


def test_they_are_equal_hashed_and_changed_like_any_frozen_dataclass() -> None:
    point = Point(x=1)
    assert point == Point(x=1) != Point(x=2)
    assert {point: "here"}[Point(x=1)] == "here"
    assert replace(point, name="a") == Point(x=1, name="a")
    assert [one.name for one in fields(Point)] == ["x", "name"]
    assert repr(point) == "Point(x=1, name='')"


def test_they_have_no_other_fields() -> None:
    with pytest.raises(AttributeError):
        Point(x=1).y = 2  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[misc]


def test_those_that_are_filled_in_by_hand_are_like_those_that_are_called_for() -> None:
    schedule = ScheduleActivity(number=1, name="a", args="[]", queue="q", options="{}", queue_timeout_us=None)
    assert schedule_activity(1, "a", "[]", "q", "{}", None) == schedule
    made = decision_of(schedule, 5)
    assert made == events.ActivityScheduled(time_us=5, number=1, name="a", args="[]", queue="q")
    for event in (made, events.ActivityCompleted(time_us=5, number=1, result="2")):
        assert events.decode_event(events.encode_event(event)) == event
    end = CompleteRun(result="1")
    part = Part([made], [schedule, end], Step(commands={}), 7, end, 4)
    assert part.outcome(3) == Outcome(
        events=(made,), commands=(schedule, end), end=end, wake_at_us=3, fired_until_us=4
    )


def test_what_is_put_before_an_outcome_leaves_the_rest_of_it_as_it_was() -> None:
    event = events.RunCompleted(time_us=1, result="1")
    end, first = (
        CompleteRun(result="1"),
        ScheduleActivity(number=1, name="a", args="[]", queue="q", options="{}"),
    )
    whole = Outcome(
        events=(event,), commands=(end,), vars={"a": "1"}, status="s", published=(), end=end, wake_at_us=1,
        fired_until_us=2, left=(events.TimerFired(time_us=1, number=1),), inputs=3, further=(),
    )  # fmt: skip
    earlier = decision_of(first, 1)
    made = put_before((earlier,), (first,), whole)
    assert made == dataclasses.replace(whole, events=(earlier, event), commands=(first, end))


def test_a_step_begins_empty() -> None:
    run = begin(durable.workflow(_nothing)).run
    run.context.begin_step(100)
    assert run.context.take_step() == Step(commands={})
    with pytest.raises(TypeError):  # between steps nobody can ask for anything
        run.context.step.commands[1] = CompleteRun(result="1")


async def _nothing() -> None: ...
