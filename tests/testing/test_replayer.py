"""The replayer says where code and history part, and nothing when they do not."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest

import durable
from durable.core import events
from durable.core.events import encode_event
from durable.testing import replay

RUN_ID = "018bcfe568000000000000000000abcd"


@durable.activity
async def charge(order: str) -> str:
    return f"receipt-{order}"


@durable.activity
async def ship(order: str) -> str:
    return order


async def _charge_and_ship(order: str) -> str:
    receipt = await charge(order)
    await asyncio.sleep(1)
    await ship(order)
    return receipt


async def _ship_and_charge(order: str) -> str:
    await ship(order)
    return await charge(order)


@durable.activity
async def note(text: str) -> None: ...


async def _with_a_note(order: str) -> str:
    receipt = await charge(order)
    await asyncio.sleep(1)
    await ship(order)
    await note(receipt)
    return receipt


def named(fn: Any) -> durable.Workflow[..., Any]:
    """Different code under one name: what a deployment does to a workflow."""
    return durable.workflow(name="order")(fn)


ORDER = named(_charge_and_ship)


def history(*more: events.Event) -> list[events.Event]:
    return [
        events.RunStarted(time_us=1_000_000, workflow="order", args='["o-1"]', queue="default"),
        events.ActivityScheduled(time_us=1_000_000, number=1, name="charge", args='["o-1"]', queue="default"),
        events.ActivityCompleted(time_us=2_000_000, number=1, result='"receipt-o-1"'),
        events.TimerStarted(time_us=2_000_000, number=2, due_us=3_000_000),
        *more,
    ]


FINISHED = history(
    events.TimerFired(time_us=3_000_000, number=2),
    events.ActivityScheduled(time_us=3_000_000, number=3, name="ship", args='["o-1"]', queue="default"),
    events.ActivityCompleted(time_us=4_000_000, number=3, result='"o-1"'),
    events.RunCompleted(time_us=4_000_000, result='"receipt-o-1"'),
)


@pytest.mark.parametrize("length", [1, 2, 4, 6, 8])
def test_code_that_follows_its_history_passes_wherever_the_history_ends(length: int) -> None:
    replay(ORDER, FINISHED[:length])


def test_the_report_names_event_expectation_request_file_line_and_shows_a_diff() -> None:
    with pytest.raises(durable.NonDeterminismError) as caught:
        replay(named(_ship_and_charge), FINISHED, instance_id="o-1")
    error = caught.value
    assert error.event == 2
    assert "charge" in error.expected
    assert "ship" in error.actual
    assert error.file == __file__
    report = str(error)
    assert "instance 'o-1'" in report
    assert "-     2  activity_scheduled number=1, name='charge'" in report
    assert "+     2  activity_scheduled 'ship' (command 1)" in report
    assert report.index("-     2") < report.index("+     2") < report.index("      3  activity_completed")
    assert report.endswith("await ship(order)")


@pytest.mark.parametrize("length", [6, 8])
def test_a_step_that_was_added_behind_is_seen_only_by_histories_that_went_past_it(length: int) -> None:
    changed = named(_with_a_note)
    if length == 6:
        replay(changed, FINISHED[:length])
        return
    with pytest.raises(durable.NonDeterminismError, match=r"(?s)\+ +8  activity_scheduled 'note'"):
        replay(changed, FINISHED[:length])


def test_a_step_that_is_gone_is_reported_where_history_has_more() -> None:
    async def only_charge(order: str) -> str:
        return await charge(order)

    with pytest.raises(durable.NonDeterminismError) as caught:
        replay(named(only_charge), FINISHED)
    assert caught.value.event == 4
    assert "run_completed" in caught.value.actual


async def test_it_works_inside_of_a_running_loop_and_leaves_it_as_it_was() -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    replay(ORDER, FINISHED)
    with pytest.raises(durable.NonDeterminismError):
        replay(named(_ship_and_charge), FINISHED)
    assert asyncio.get_running_loop() is loop
    assert asyncio.current_task() is task
    await asyncio.sleep(0)
    assert not [t for t in threading.enumerate() if t.name.startswith("durable-replay")]


@pytest.mark.parametrize("form", ["text", "lines", "records", "shown"])
async def test_every_form_in_which_a_history_can_be_had(form: str) -> None:
    async with durable.connect("memory://") as client, durable.Worker(client, [ORDER, charge, ship]):
        instance = await client.create_instance(quick := ORDER, "o-1", id="o")
        with pytest.raises(TimeoutError):
            await instance.result(timeout=0.2)
        text = await client.export_history("o")
        given = {
            "text": text,
            "lines": [line.encode() for line in text.split("\n")],
            "records": None,
            "shown": await instance.history(),
        }[form]
        if form == "records":
            given = [events.decode_event(line.encode()) for line in text.split("\n")[1:]]
        replay(quick, given)
        with pytest.raises(durable.NonDeterminismError):
            replay(named(_ship_and_charge), given)
        await instance.terminate()


def test_the_header_brings_the_run_id_and_with_it_order_and_random_numbers() -> None:
    async def lottery(order: str) -> str:
        if durable.random().random() < 0.5:
            return await charge(order)
        return await ship(order)

    text = {run_id: exported(run_id) for run_id in map(str, range(20))}
    passed = [run_id for run_id, history_text in text.items() if passes(named(lottery), history_text)]
    assert 3 < len(passed) < 17


def exported(run_id: str) -> str:
    header = {"format": 1, "instance_id": "i", "run_id": run_id, "workflow": "order", "version": ""}
    return "\n".join([json.dumps(header), *(encode_event(event).decode() for event in history()[:2])])


def passes(workflow: durable.Workflow[..., Any], text: str) -> bool:
    try:
        replay(workflow, text)
    except durable.NonDeterminismError:
        return False
    return True


async def test_a_parent_is_known_in_replay() -> None:
    async def asks_for_its_parent(order: str) -> str:
        if durable.info().parent is not None:
            return await charge(order)
        return await ship(order)

    child = named(asks_for_its_parent)

    @durable.workflow
    async def parent() -> str:
        return await child.options(id="child")("o-1")

    async with durable.connect("memory://") as client, durable.Worker(client, [parent, child, charge, ship]):
        assert await (await client.create_instance(parent)) == "receipt-o-1"
        replay(child, await client.export_history("child"))


def test_the_clock_of_the_run_also_without_any_worker() -> None:
    async def by_the_clock(order: str) -> str:
        if time.time() < 10:
            return await charge(order)
        return await ship(order)

    replay(named(by_the_clock), history()[:2])


def test_nothing_is_done_again() -> None:
    done: list[str] = []

    async def effects(order: str) -> str:
        durable.side_effect(lambda: done.append("again"))
        return await charge(order)

    recorded = [
        history()[0],
        events.SideEffectRecorded(time_us=1_000_000, number=1, value="null"),
        events.ActivityScheduled(time_us=1_000_000, number=2, name="charge", args='["o-1"]', queue="default"),
    ]
    replay(named(effects), recorded)
    assert done == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "begins with run_started"),
        ([], "begins with run_started"),
        ("hello", "this is no history"),
        ('{"format": 99, "run_id": "x"}', "this release"),
        ([1, 2], "a list of stored events"),
        (FINISHED[1:], "begins with run_started"),
        (b'{"format": 1, "run_id": "x"}\n{"kind": "run_started"', "event 1 of the history"),
    ],
)
def test_what_is_no_history_is_said_in_a_sentence(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replay(ORDER, given)


def test_the_history_of_another_workflow_and_what_is_no_workflow() -> None:
    other = durable.workflow(name="other")(_charge_and_ship)
    with pytest.raises(ValueError, match="history of workflow 'order', not of 'other'"):
        replay(other, FINISHED)
    with pytest.raises(TypeError, match=r"@durable\.workflow"):
        replay(_charge_and_ship, FINISHED)  # type: ignore[arg-type]


def test_arguments_that_do_not_fit_any_more_say_so() -> None:
    async def numbered(order: int) -> None: ...

    with pytest.raises(durable.PayloadError, match="order"):
        replay(named(numbered), FINISHED)


async def _endless(order: str) -> str:
    while True:
        pass


def test_code_that_goes_on_for_ever_is_interrupted_when_asked_for() -> None:
    with pytest.raises(TimeoutError, match=r"more than 0\.1 s; a workflow must not compute"):
        replay(named(_endless), FINISHED, step_timeout=0.1)
    replay(ORDER, FINISHED, step_timeout=10)
