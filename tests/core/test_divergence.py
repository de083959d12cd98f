"""What the reports of divergences say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import durable
from durable.core import events
from durable.core.context import Site
from durable.core.divergence import changes, diverged, in_another_order
from durable.core.replay import load
from durable.errors import NonDeterminismError
from tests.core.runs import CONVERTER, IDENTITY, done, history_of


@durable.activity
async def charge(order: str, cents: int) -> str:
    return order


@durable.activity
async def ship(order: str, cents: int) -> str:
    return order


def named(fn: Any) -> durable.Workflow[..., Any]:
    return durable.workflow(name="order")(fn)


def report(old: Any, new: Any, inputs: list[events.Input]) -> NonDeterminismError:
    history = history_of(named(old), inputs)
    with pytest.raises(NonDeterminismError) as caught:
        load(named(new).definition, IDENTITY, history, converter=CONVERTER, known={})
    return caught.value


async def _charges() -> None:
    await asyncio.gather(asyncio.create_task(charge("o-1", 4200), name="till"))
    await asyncio.sleep(1)


async def _ships() -> None:
    await asyncio.gather(asyncio.create_task(ship("o-1", 4300), name="dock"))
    await asyncio.sleep(1)


def test_a_report_has_event_both_sides_place_task_arguments_and_remedy() -> None:
    error = report(_charges, _ships, [done(1, "o-1")])
    assert (error.event, error.task, error.file) == (2, "dock", __file__)
    assert error.expected == "activity_scheduled 'charge' (command 1)"
    assert error.actual == "activity_scheduled 'ship' (command 1)"
    assert error.arguments == ("args[1]: 4200 in history, 4300 now",)
    text = str(error)
    assert f"{__file__}:{_ships.__code__.co_firstlineno + 1} (task 'dock')" in text
    assert "history: activity_scheduled 'charge' (command 1) with args=[\"o-1\", 4200]" in text
    assert "code   : activity_scheduled 'ship' (command 1) with args=[\"o-1\", 4300]" in text
    for way in ("durable.patched()", "version", "old code"):
        assert way in text


def scheduled(args: str = "[1]", number: int = 1) -> events.ActivityScheduled:
    return events.ActivityScheduled(time_us=0, number=number, name="charge", args=args, queue="default")


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (None, scheduled(), "asks for one thing more"),
        (scheduled(), None, "does not ask for it any more"),
        (scheduled(number=1), scheduled(number=2), "something before it was added or taken away"),
        (scheduled(), events.ActivityCancelled(time_us=0, number=1), "activity_cancelled (command 1)"),
    ],
)
def test_a_hint_says_what_sort_of_change_it_looks_like(before: Any, now: Any, words: str) -> None:
    site = Site("orders.py", 7, "till")
    error = diverged(instance_id="o", workflow="w", event=3, expected=before, actual=now, site=site)
    assert words in str(error)
    assert "orders.py:7 (task 'till')" in str(error)


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        ("[1]", "[1]", []),
        ("[1]", "[true]", ["args[0]: 1 in history, true now"]),
        ("[1,2]", "[1]", ["args[1]: 2 in history, nothing now"]),
        ("[1]", "[1,2]", ["args[1]: nothing in history, 2 now"]),
        ('[{"a":{"b":1}}]', '[{"a":{"b":2}}]', ["args[0].a.b: 1 in history, 2 now"]),
        ('[{"a":1}]', '[{"b":1}]', ["args[0].a: 1 in history, nothing now", "args[0].b: nothing in history, 1 now"]),
        ("[1]", '{"args":[1],"kwargs":{"b":2}}', ['args: [1] in history, {"args": [1], "kwargs": {"b": 2}} now']),
        (f'["{"x" * 99}"]', "[0]", [f'args[0]: "{"x" * 76}... in history, 0 now']),
        ("[1,2,3,4,5,6,7,8]", "[0,0,0,0,0,0,0,0]", None),
        ("gAAAAAB", "[1]", ['args: "(sealed)" in history, [1] now']),
    ],
)  # fmt: skip
def test_differences_are_told_by_place(before: str, now: str, lines: list[str] | None) -> None:
    told = changes(scheduled(before), scheduled(now))
    if lines is None:
        assert len(told) == 7
        assert told[-1] == "... and 2 more"
    else:
        assert told == lines


def test_delays_are_told_in_seconds() -> None:
    short = events.TimerStarted(time_us=5_000_000, number=1, due_us=6_500_000)
    long = events.TimerStarted(time_us=9_000_000, number=1, due_us=11_000_000)
    assert changes(short, long) == ["seconds: 1.5 in history, 2.0 now"]


async def _two(first: str, second: str) -> None:
    await charge(first, 1)
    await charge(second, 1)


def differences(old: tuple[str, str], new: tuple[str, str]) -> Any:
    inputs = [done(1, ""), done(2, "")]
    history = history_of(named(_two), inputs, *old)
    started = history[0]
    assert isinstance(started, events.RunStarted)
    history[0] = events.RunStarted(
        time_us=started.time_us, workflow="order", args=f'["{new[0]}","{new[1]}"]', queue="default"
    )
    run = load(named(_two).definition, IDENTITY, history, converter=CONVERTER, known={}, compare=True)
    run.drop()
    return run.differences


def test_another_argument_is_gathered_with_its_place_and_is_no_divergence() -> None:
    (found,) = differences(("a", "b"), ("a", "c"))
    assert (found.event, found.site.line) == (4, _two.__code__.co_firstlineno + 2)
    assert in_another_order([found]) is None


def test_the_same_arguments_in_another_order_are_told_apart_from_new_ones() -> None:
    assert in_another_order(differences(("a", "b"), ("b", "a"))).event == 2
    assert in_another_order(differences(("a", "b"), ("b", "c"))) is None
    assert differences(("a", "b"), ("a", "b")) == []
