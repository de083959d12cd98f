from __future__ import annotations

import sys
import tracemalloc
from dataclasses import fields
from typing import Any

import pytest

from durable.core import commands, events
from durable.core.events import KINDS, Decision, Event, Input, NewerFormat, decode_event, encode_event


def _sample(kind: type[Event], *, full: bool) -> Event:
    """An event of a kind with every field set, or with its defaults where it has some."""
    values: dict[str, Any] = {"time_us": 1_700_000_000_000_001}
    for one in fields(kind):
        if one.name in values or (not full and _has_default(one)):
            continue
        values[one.name] = _value(one.name, str(one.type))
    return kind(**values)


def _has_default(one: Any) -> bool:
    return one.default is not one.default_factory


def _value(name: str, annotation: str) -> Any:
    if name == "format":
        return events.FORMAT
    if annotation.startswith("tuple[tuple[str, str]"):
        return (("go", "1"), ("stop", '"é"'))
    if annotation.startswith("tuple[tuple[str, str, str]"):
        return (("a", "b", "c"),)
    if annotation.startswith("tuple"):
        return ("a", "b")
    if annotation.startswith("Mapping"):
        return {"trace": "0"}
    return {"int": 7, "bool": True}.get(annotation, 'text "é" \U0001f600')


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("full", [True, False])
def test_every_event_comes_back_as_it_was(kind: type[Event], full: bool) -> None:
    event = _sample(kind, full=full)
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_event_is_an_input_or_a_decision(kind: type[Event]) -> None:
    assert issubclass(kind, Input) != issubclass(kind, Decision)


def test_a_line_takes_no_more_room_than_it_has_characters() -> None:
    """orjson's buffers are 4 KiB each, and stay so for as long as the line is kept."""
    event = _sample(events.ActivityCompleted, full=True)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        lines = [encode_event(event) for _ in range(1_000)]
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 2 * sum(map(sys.getsizeof, lines))


def test_defaults_take_no_room() -> None:
    line = encode_event(_sample(events.SignalReceived, full=False))
    assert b"key" not in line and b"null" not in line


def test_the_stored_form_is_fixed() -> None:
    assert encode_event(events.TimerStarted(time_us=1, number=2, due_us=3)) == (
        b'{"kind":"timer_started","time":1,"number":2,"due_us":3}'
    )
    assert encode_event(events.RunCompleted(time_us=1, result='"x"')) == (
        b'{"kind":"run_completed","time":1,"result":"\\"x\\""}'
    )


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind":"from_the_future","time":1}',
        b'{"kind":"timer_fired","time":1,"number":1,"colour":"red"}',
        b'{"kind":"timer_fired","time":1}',
        b'{"kind":"run_started","time":1,"workflow":"w","args":"[]","queue":"q","format":99}',
    ],
)
def test_what_a_newer_release_wrote_is_left_alone(line: bytes) -> None:
    with pytest.raises(NewerFormat):
        decode_event(line)


@pytest.mark.parametrize("line", [b"", b"[]", b"nonsense", b"7"])
def test_what_is_no_event(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode_event(line)


def test_an_event_weighs_the_same_before_and_after_it_was_stored() -> None:
    for kind in KINDS.values():
        event = _sample(kind, full=True)
        assert events.weight(decode_event(encode_event(event))) == events.weight(event) > 0


def test_shapes_hold_kind_number_and_name_and_nothing_else() -> None:
    def scheduled(args: str, name: str = "charge", number: int = 1) -> Event:
        return events.ActivityScheduled(time_us=0, number=number, name=name, args=args, queue="q")

    assert commands.shape(scheduled("1")) == commands.shape(scheduled("2"))
    assert commands.shape(scheduled("1")) != commands.shape(scheduled("1", name="ship"))
    assert commands.shape(scheduled("1")) != commands.shape(scheduled("1", number=2))

    def timer(name: str | None) -> Event:
        return events.TimerStarted(time_us=0, number=1, due_us=5, name=name)

    assert commands.shape(timer("a")) == commands.shape(timer(None)), "a timer's name is a label"
    child = events.ChildScheduled(
        time_us=0, number=1, workflow="w", instance_id="i", run_id="r", args="[]", queue="q"
    )
    assert commands.describe(child) == "child_scheduled 'w' (command 1)"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("full", [True, False])
def test_an_event_weighs_what_it_has_always_weighed(kind: type[Event], full: bool) -> None:
    """Runs can ask how long their history is: what an event weighs may differ between no two releases."""
    event = _sample(kind, full=full)
    texts = [getattr(event, one.name) for one in fields(kind)]
    carried = sum(len(payload) for _, payload in getattr(event, "signals", ()))
    assert events.weight(event) == 60 + carried + sum(len(text) for text in texts if isinstance(text, str))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("full", [True, False])
def test_the_kinds_that_are_spelled_out_are_like_all_others(
    kind: type[Event], full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = _sample(kind, full=full)
    line, weight = encode_event(event), events.weight(event)
    monkeypatch.setattr(events, "_SPELLED_OUT", {})
    monkeypatch.setattr(events, "_QUICKLY_READ", {})
    assert (encode_event(event), decode_event(line)) == (line, event)
    texts = [value for name in events._TEXTS[kind] if (value := getattr(event, name))]
    more = [payload for _, payload in getattr(event, "signals", ())]
    assert weight == events._BASE_WEIGHT + sum(map(len, [*texts, *more]))


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind":"activity_completed","time":1,"number":1,"colour":"red"}',
        b'{"kind":"activity_scheduled","time":1,"number":1,"name":"a","args":"[]","colour":"red"}',
        b'{"kind":"activity_completed","number":1,"result":"1","format":1}',
    ],
)
def test_as_many_fields_as_usual_but_other_ones(line: bytes) -> None:
    with pytest.raises(NewerFormat):
        decode_event(line)
