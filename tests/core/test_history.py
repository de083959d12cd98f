from __future__ import annotations

import pytest

from durable.core import events
from durable.core.events import Event, NewerFormat, encode_event
from durable.core.history import check, decode_history, turns
from tests.core.runs import at

STARTED = events.RunStarted(time_us=at(0), workflow="w", args="[]", queue="q")
SCHEDULED = events.ActivityScheduled(time_us=at(0), number=1, name="a", args="[]", queue="q")
TIMER = events.TimerStarted(time_us=at(0), number=2, due_us=at(5))
COMPLETED = events.ActivityCompleted(time_us=at(1), number=1, result="1")
SIGNAL = events.SignalReceived(time_us=at(2), name="go", payload="1")
DONE = events.RunCompleted(time_us=at(1), result="1")
TERMINATED = events.RunTerminated(time_us=at(3))


def test_a_turn_is_an_input_with_its_decisions() -> None:
    history: list[Event] = [STARTED, SCHEDULED, TIMER, SIGNAL, COMPLETED, DONE]
    assert [(turn.number, turn.input, turn.decisions) for turn in turns(history)] == [
        (1, STARTED, [SCHEDULED, TIMER]), (4, SIGNAL, []), (5, COMPLETED, [DONE]),
    ]  # fmt: skip


def test_an_ending_from_outside_belongs_to_no_turn() -> None:
    assert [turn.decisions for turn in turns([STARTED, SCHEDULED, TERMINATED])] == [[SCHEDULED]]
    assert [turn.decisions for turn in turns([STARTED, events.RunTimedOut(time_us=at(9))])] == [[]]


@pytest.mark.parametrize(
    "broken",
    [
        [],
        [SCHEDULED],
        [COMPLETED, STARTED],
        [STARTED, STARTED],
        [STARTED, DONE, SIGNAL],
        [STARTED, TERMINATED, DONE],
    ],
)
def test_laws(broken: list[Event]) -> None:
    with pytest.raises(ValueError):
        check(broken)
    with pytest.raises(ValueError):
        list(turns(broken))


def test_a_line_that_is_no_event_is_named() -> None:
    with pytest.raises(ValueError, match="event 2 of the history"):
        decode_history([encode_event(STARTED), b"{"])


def test_a_newer_release_is_not_taken_for_a_broken_history() -> None:
    with pytest.raises(NewerFormat):
        decode_history([encode_event(STARTED), b'{"kind":"later","time":1}'])


@pytest.mark.parametrize("bad", [b"", b"nonsense", b"7", b'{"kind":"timer_fired","time":1,"number":1},{}'])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_of_many_lines_the_one_that_is_no_event_is_named(bad: bytes, place: int) -> None:
    lines = [encode_event(events.TimerFired(time_us=1, number=n)) for n in (1, 2)]
    lines.insert(place - 1, bad)
    with pytest.raises(ValueError, match=f"^event {place + 4} of"):
        decode_history(lines, first=5)


def test_no_lines_are_no_events() -> None:
    assert decode_history([]) == []
    assert decode_history(iter([encode_event(events.TimerFired(time_us=1, number=1))])) == [
        events.TimerFired(time_us=1, number=1)
    ]
