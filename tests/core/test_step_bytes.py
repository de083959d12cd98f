"""What a step may ask for: the limit is met at the call, in the same place on every replay."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import durable
from durable.backends.records import MAX_CHECKPOINT_BYTES
from durable.core import commands, events, step_bytes
from durable.core.commands import Publish
from durable.core.replay import Outcome
from durable.core.step_bytes import MAX_LAST_STEP_BYTES, MAX_STEP_BYTES, exact_bytes, most_bytes
from durable.errors import PayloadTooLarge
from tests.core.runs import alive, at, begin, cancel, check_every_prefix, done, resume, run, signal

MIB = 2**20
go: durable.Signal[None] = durable.Signal("go", None)


@durable.activity
async def store(text: str) -> str:
    raise AssertionError("activities do not run here")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    while alive:
        alive.pop().drop()


def kinds(outcome: Outcome) -> list[str]:
    return [event.kind for event in outcome.events]


@durable.workflow
async def hands_out(count: int, size: int) -> int:
    """How many calls were refused."""
    answers = [asyncio.ensure_future(store("x" * size)) for _ in range(count)]
    await go.receive()
    return sum(one.done() and isinstance(one.exception(), PayloadTooLarge) for one in answers)


def test_the_call_that_is_too_much_raises_and_the_others_stand() -> None:
    live = begin(hands_out, 10, MIB)
    assert kinds(live.advance()) == ["activity_scheduled"] * 3  # twice a MiB each, of seven
    assert live.feed(signal("go")) == ["completed 7"]
    check_every_prefix(hands_out, live.history)


def test_the_limit_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = begin(hands_out, 1, 9_000).advance().commands
    size = exact_bytes(command)
    for room, refused in ((size - 1, 1), (size, 0), (size + 1, 0)):
        monkeypatch.setattr("durable.core.step_bytes.MAX_STEP_BYTES", room)
        monkeypatch.setattr("durable.core.step_bytes.LEAST_ROOM_BYTES", 0)
        live = begin(hands_out, 1, 9_000)
        live.feed()
        assert live.feed(signal("go")) == [f"completed {refused}"]


@durable.workflow
async def patient(count: int) -> str:
    for _ in range(count):
        await store("x" * MIB)
    return "all"


def test_who_waits_in_between_is_not_limited() -> None:
    inputs = [done(number, "ok") for number in range(1, 7)]
    assert run(patient, inputs, 6)[-1] == 'completed "all"'


@durable.workflow
async def changes_its_mind() -> str:
    for _ in range(20):
        mind = asyncio.ensure_future(store("x" * MIB))
        await asyncio.sleep(0)
        mind.cancel()
        await asyncio.wait([mind])
    return "nothing asked"


def test_what_was_withdrawn_does_not_count() -> None:
    assert run(changes_its_mind) == ['completed "nothing asked"']


@durable.workflow
async def overwrites() -> str:
    for number in range(20):
        durable.set_var("picture", str(number) + "x" * MIB)
    try:
        for count in range(20):
            durable.set_var(f"picture-{count}", "x" * MIB)
    except PayloadTooLarge:
        return f"{count} fit"
    return "all fit"


def test_a_variable_that_is_overwritten_counts_once() -> None:
    assert run(overwrites) == ['completed "5 fit"']


@durable.workflow
async def announces() -> str:
    try:
        for count in range(20):
            durable.publish("news", f"{count}" + "x" * MIB)
    except PayloadTooLarge:
        return f"{count} fit"
    return "all fit"


def test_events_count() -> None:
    assert run(announces) == ['completed "6 fit"']


@durable.workflow
async def speaks(what: str) -> str:
    other, sent, tasks = durable.get_instance("other"), 0, []
    for _ in range(20):
        try:
            if what == "children":
                durable.start(patient, 1)
                await asyncio.sleep(0)
                durable.side_effect(lambda: "x" * MIB)
            else:
                tasks.append(asyncio.ensure_future(other.signal("news", "x" * MIB)))
                await asyncio.sleep(0)
            sent += 1
        except PayloadTooLarge:
            return f"{sent} fit"
    return f"{sent} sent"


def test_side_effects_and_children_count() -> None:
    assert run(speaks, (), "children")[-1] == 'completed "6 fit"'


def test_signals_count() -> None:
    live = begin(speaks, "signals")
    outcome = live.advance()
    assert kinds(outcome) == ["signal_sent"] * 3 + ["run_completed"]
    check_every_prefix(speaks, live.history)


@durable.workflow
async def ends_large(size: int, beside: int) -> str:
    task = asyncio.ensure_future(store("x" * beside)) if beside else None
    await asyncio.sleep(0)
    assert task is None or not task.done()
    return "y" * size


@pytest.mark.parametrize("replayed", [False, True])
def test_a_result_that_does_not_fit_beside_the_rest_fails_the_run(replayed: bool) -> None:
    live = begin(ends_large, 2 * MIB - 10, 2 * MIB - 10)
    said = live.feed()
    assert said[-1].startswith(
        "failed PayloadTooLarge: its result, with all else that the last step of instance"
    )
    if replayed:
        check_every_prefix(ends_large, live.history)
    assert begin(ends_large, 2 * MIB - 10, 1 * MIB).feed()[-1].startswith('completed "yyy')


@durable.workflow
async def answers() -> None:
    @durable.update
    async def picture(size: int) -> str:
        beside = asyncio.ensure_future(store("x" * (2 * MIB - 10)))
        await asyncio.sleep(0)
        assert not beside.done()
        return "y" * size

    await durable.wait_condition(lambda: False)


def test_an_update_whose_answer_does_not_fit_is_answered_with_the_error() -> None:
    live = begin(answers)
    live.feed()
    asked = events.UpdateRequested(time_us=at(1), key="update/1", name="picture", args=f"[{2 * MIB - 10}]")
    finished = live.advance(asked).commands[-1]
    assert isinstance(finished, commands.FinishUpdate)
    assert finished.failure is not None and "PayloadTooLarge" in finished.failure
    check_every_prefix(answers, live.history)


def test_history_wins_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was accepted once is accepted on replay, whatever this release or this code thinks of its size."""
    live = begin(hands_out, 3, MIB)
    assert len(live.advance().events) == 3
    monkeypatch.setattr("durable.core.step_bytes.MAX_STEP_BYTES", MIB)
    again = resume(hands_out, live.history)
    assert again.feed(signal("go")) == ["completed 0"]


@durable.workflow
async def fans_in(count: int) -> int:
    async def chain() -> str:
        await store("small")
        return await store("x" * MIB)

    found = await asyncio.gather(*(chain() for _ in range(count)))
    return len(found)


def test_many_answers_at_once_are_cut_into_checkpoints() -> None:
    live = begin(fans_in, 8)
    live.feed()
    inputs = [done(number, "ok") for number in range(1, 9)]
    outcome = live.run.advance(inputs)
    parts = [outcome, *outcome.further]
    assert [part.inputs for part in parts] == [3, 3, 2]
    assert [len(part.commands) for part in parts] == [3, 3, 2]
    assert all(part.wake_at_us is not None for part in parts[:-1]), "the rest is not to be waited for"
    assert parts[-1].wake_at_us is None and not any(part.further for part in parts[1:])
    history = [*live.history, *(event for part in parts for event in part.events)]
    check_every_prefix_of_whole_turns(history)


def check_every_prefix_of_whole_turns(history: list[Any]) -> None:
    for count in range(len(history) - 16, len(history) + 1, 2):
        resume(fans_in, history[:count]).run.drop()


def test_a_cancel_when_the_step_is_full_cancels() -> None:
    live = begin(hands_out, 10, MIB)
    live.feed()
    assert live.feed(cancel())[-1] == "cancelled"


def test_there_is_room_in_a_checkpoint_for_more_than_a_step() -> None:
    assert MAX_STEP_BYTES < MAX_LAST_STEP_BYTES < MAX_CHECKPOINT_BYTES


TEXTS = ["", "plain" * 10, '"quoted"' * 10, "é" * 50, "\U0001f600" * 50, "\0\1" * 50, "\\" * 50]


@pytest.mark.parametrize("text", TEXTS)
def test_the_cheap_measure_is_never_too_small(text: str) -> None:
    asked: list[Any] = [
        text,
        Publish(topic="t", payload=text, number=1),
        commands.ScheduleActivity(number=1, name="n", args=text, queue="q", options=text),
        commands.StartChild(
            number=1, workflow="w", version="", instance_id="i", run_id="r", args=text, queue="q", close="abandon",
            started_us=1, headers={text: text},
        ),
        commands.SendSignal(number=1, instance_id="i", name="n", payload=text),
        commands.SendCancel(number=1, instance_id="i", reason=text),
        commands.RecordSideEffect(number=1, value=text),
        commands.FinishUpdate(number=1, key="k", result=text),
        commands.CompleteRun(result=text),
        commands.ContinueRun(run_id="r", args=text, headers={text: text}),
        commands.StartTimer(number=1, due_us=2**60, name=text),
    ]  # fmt: skip
    for one in asked:
        assert exact_bytes(one) <= most_bytes(one), one
    assert step_bytes.exact_bytes(asked[-3], of_child=True) <= most_bytes(asked[-3])
