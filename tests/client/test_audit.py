"""The audit above the store: what it judges, when it is silent, and what it does about what is broken in histories."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from durable.backends.memory import MemoryStore
from durable.backends.memory.rows import HeldBy
from durable.backends.memory.tables import Tables
from durable.backends.records import (
    ActivityFinished,
    ActivityRef,
    Busy,
    Checkpoint,
    Close,
    Finding,
    Head,
    InstanceRef,
    NewActivity,
    NewInstance,
    NewMessage,
    Parent,
    Refused,
    Send,
)
from durable.client.audit import Audit
from durable.client.client import Client
from durable.core import events
from durable.core.events import Event, encode_event
from durable.core.ids import first_token
from tests.worker.stores import Store, connected

T = 1_700_000_000_000_000
STARTED = events.RunStarted(time_us=T, workflow="w", args="[]", queue="default")
ASKED = events.ActivityScheduled(time_us=T, number=1, name="charge", args="[7]", queue="default")
CHILD = events.ChildScheduled(
    time_us=T, number=2, workflow="w", instance_id="kid", run_id="kid-1", args="[]", queue="default"
)
CHILD_STARTED = events.ChildStarted(time_us=T, number=2)
TASK = NewActivity(number=1, name="charge", queue="default", payload="[7]", options="{}")


@pytest.fixture
async def both() -> AsyncIterator[tuple[Client, Store]]:
    async with connected() as found:
        yield found


def tables(store: Store) -> Tables:
    assert isinstance(store.real, MemoryStore)
    return store.real._tables


async def history(
    store: Any,
    name: str,
    *further: Event | bytes,
    run_id: str | None = None,
    parent: Parent | None = None,
    **fields: Any,
) -> Checkpoint:
    """A run that has this history behind its first event, is leased to nobody, and waits."""
    run_id = run_id or f"{name}-1"
    made = NewInstance(
        instance_id=name,
        run_id=run_id,
        workflow="w",
        queue="default",
        events=(encode_event(STARTED),),
        head=Head(number=1, token="first"),
        parent=parent,
    )
    await store.create([made])
    stored = tuple(one if isinstance(one, bytes) else encode_event(one) for one in further)
    checkpoint = Checkpoint(
        instance_id=name,
        run_id=run_id,
        head=made.head,
        new_head=Head(number=1 + len(stored), token="second"),
        events=stored,
        **fields,
    )
    await store.commit([checkpoint])
    return checkpoint


def told(findings: Sequence[Finding]) -> list[tuple[str, str, bool, bool]]:
    return [(one.rule.split()[0], one.instance_id, one.repairable, one.repaired) for one in findings]


# --- broken histories -------------------------------------------------------------------------------------------------


async def test_a_task_that_history_does_not_wait_for_is_removed(both: tuple[Client, Store]) -> None:
    client, store = both
    await history(store, "a", ASKED, activities=(TASK, replace(TASK, number=9)))
    (found,) = await client.audit()
    assert told([found]) == [("I8", "a", True, False)] and "command 9" in found.detail
    assert told(await client.audit(repair=True)) == [("I8", "a", True, True)]
    assert await client.audit() == []
    (held,) = (await store.holdings([InstanceRef(instance_id="a")])).items
    assert held.activities == (1,)


async def test_a_run_whose_history_has_ended_is_told_and_nothing_else_of_it(
    both: tuple[Client, Store],
) -> None:
    client, store = both
    await history(store, "a", ASKED, events.RunCompleted(time_us=T, result="1"))
    for repair in (False, True):
        (found,) = await client.audit(repair=repair)
        assert told([found]) == [("I3", "a", False, False)]
        assert "ends with run_completed, but it is running" in found.detail


async def test_an_answer_without_a_question_is_told(both: tuple[Client, Store]) -> None:
    client, store = both
    answer = events.ActivityCompleted(time_us=T, number=1, result="1")
    await history(store, "a", ASKED, answer, answer)
    assert told(await client.audit(repair=True)) == [("I6", "a", False, False)]


@pytest.mark.parametrize(
    ("further", "words"),
    [([b"{"], "event 2 of the history"), ([STARTED], "event 2 starts the run a second time")],
)
async def test_a_history_that_cannot_be_read_is_told(
    both: tuple[Client, Store], further: list[Any], words: str
) -> None:
    client, store = both
    await history(store, "a", *further)
    (found,) = await client.audit(repair=True)
    assert told([found]) == [("I29", "a", False, False)] and words in found.detail


async def test_a_history_of_a_newer_release_is_nobodys_business(both: tuple[Client, Store]) -> None:
    client, store = both
    await history(store, "a", b'{"kind":"of_a_later_release","time":1}', ASKED)
    assert await client.audit() == []


async def test_options_that_cannot_be_read_are_not_made_up(both: tuple[Client, Store]) -> None:
    client, store = both
    await history(store, "a", replace(ASKED, options="[]"))
    (found,) = await client.audit(repair=True)
    assert told([found]) == [("I7", "a", False, False)] and "options cannot be read" in found.detail


async def test_a_remade_activity_is_what_history_says(both: tuple[Client, Store]) -> None:
    client, store = both
    options = '{"queue_timeout":2.5,"timeout":9}'
    await history(store, "a", replace(ASKED, queue="eu", options=options))
    await client.audit(repair=True)
    row = tables(store).activity(ActivityRef(instance_id="a", run_id="a-1", number=1))
    assert row is not None
    assert row.new == replace(TASK, queue="eu", options=options, queue_timeout_us=2_500_000)


async def test_several_losses_of_a_run_are_one_checkpoint(both: tuple[Client, Store]) -> None:
    client, store = both
    timer = events.TimerStarted(time_us=T, number=5, due_us=T * 2)
    sent = events.SignalSent(time_us=T, number=6, instance_id="nobody", name="go", payload="1")
    await history(store, "a", ASKED, replace(ASKED, number=2), timer, sent)
    store.calls.clear()
    assert told(await client.audit(repair=True)) == [("I7", "a", True, True)] * 4
    assert store.calls.count("commit") == 1
    (held,) = (await store.holdings([InstanceRef(instance_id="a")])).items
    assert (held.activities, held.wake_at_us, held.answers) == ((1, 2), T * 2, ("outcome/a-1/6",))


async def test_one_wound_at_a_time_a_run_is_judged_when_the_store_has_nothing_against_it(
    both: tuple[Client, Store],
) -> None:
    client, store = both
    await history(store, "a", ASKED)
    run = tables(store).instances["a"].current
    run.deadline_us = T * 2
    (found,) = await client.audit()
    assert "deadline" in found.detail
    assert ["deadline" in one.detail for one in await client.audit(repair=True)] == [True, False]
    assert await client.audit() == []


async def test_a_history_that_is_gone_when_it_is_read_was_forgotten_meanwhile(
    both: tuple[Client, Store],
) -> None:
    client, store = both
    await history(store, "a", ASKED)

    async def forgotten(real: Any, ranges: Any) -> Any:
        answer = await real(ranges)
        return replace(answer, items=[replace(one, events=()) for one in answer.items])

    store.hooks["read_history"] = forgotten
    assert await client.audit() == []


# --- children ---------------------------------------------------------------------------------------------------------

OF_A = Parent(instance_id="a", run_id="a-1", number=2)


def ends(at: Checkpoint, **fields: Any) -> Checkpoint:
    return replace(
        at,
        head=at.new_head,
        new_head=Head(number=at.new_head.number + 1, token=f"end of {at.run_id}"),
        events=(b"{}",),
        **fields,
    )


def over() -> Close:
    return Close(state="completed", result='"done"')  # no parent_body: the parent is not told


async def test_a_child_that_is_there_is_awaited_in_peace(both: tuple[Client, Store]) -> None:
    client, store = both
    await history(store, "a", CHILD, CHILD_STARTED)
    await history(store, "kid", parent=OF_A)
    assert await client.audit() == []


async def test_the_end_of_the_last_run_of_a_child_is_what_its_parent_is_told(
    both: tuple[Client, Store],
) -> None:
    client, store = both
    await history(store, "a", CHILD, CHILD_STARTED)
    first = await history(store, "kid", parent=OF_A)
    following = NewInstance(
        instance_id="kid", run_id="kid-2", workflow="w", queue="default", events=(encode_event(STARTED),),
        head=Head(number=1, token="first"),
    )  # fmt: skip
    await store.commit([ends(first, close=Close(state="continued_as_new"), next_run=following)])
    assert await client.audit() == []
    second = Checkpoint(
        instance_id="kid", run_id="kid-2", head=following.head, new_head=Head(number=2, token="x"), events=(b"{}",),
        close=over(),
    )  # fmt: skip
    await store.commit([second])
    assert told(await client.audit(repair=True)) == [("I7", "a", True, True)]
    (unread,) = tables(store).instances["a"].inbox.values()
    assert unread.message.key.startswith("closed/kid-2/")
    assert unread.message.body == '{"number":2,"state":"completed","result":"\\"done\\"","failure":null}'
    assert await client.audit() == []


async def test_a_child_whose_id_was_used_anew_is_found_by_its_run(both: tuple[Client, Store]) -> None:
    client, store = both
    await history(store, "a", CHILD, CHILD_STARTED)
    await store.commit([ends(await history(store, "kid", parent=OF_A), close=over())])
    await history(store, "kid", run_id="another")
    (found,) = await client.audit(repair=True)
    assert told([found]) == [("I7", "a", True, True)] and "'kid' (command 2) is completed" in found.detail


async def test_word_of_a_child_that_is_forgotten_by_now_is_enough(both: tuple[Client, Store]) -> None:
    """A paused parent may read it late: by then the child may be purged, and its last run is known to nobody."""
    client, store = both
    await history(store, "a", CHILD, CHILD_STARTED)
    kid = await history(store, "kid", parent=OF_A)
    await client.get_instance("a").pause()
    await store.commit([ends(kid, close=replace(over(), parent_body="{}"))])
    await store.delete([InstanceRef(instance_id="kid")])
    assert await client.audit() == []


async def test_what_a_paused_run_has_not_read_yet_is_no_loss(both: tuple[Client, Store]) -> None:
    client, store = both
    sent = events.SignalSent(time_us=T, number=3, instance_id="nobody", name="go", payload="1")
    message = NewMessage(instance_id="nobody", key="a-1/3", kind="signal", body="{}")
    sends = (Send(message=message, number=3),)
    await history(store, "a", ASKED, CHILD, CHILD_STARTED, sent, activities=(TASK,), sends=sends)
    await client.get_instance("a").pause()
    await store.commit(
        [ends(await history(store, "kid", parent=OF_A), close=replace(over(), parent_body="{}"))]
    )
    run = tables(store).instances["a"].current
    run.activities[1].token = "t"
    done = ActivityFinished(ref=run.activities[1].ref, token="t", kind="activity_completed", body="{}")
    await store.finish_activities([done])
    (held,) = (await store.holdings([InstanceRef(instance_id="a")])).items
    assert held.answers == ("outcome/a-1/3", "closed/kid-1", "activity/a-1/1")
    assert await client.audit() == []
    for number in (1, 2, 3):
        lost = tables(store).instances["a"].inbox.pop(number)
        assert told(await client.audit()) == [("I7", "a", True, False)], lost
        tables(store).instances["a"].inbox[number] = lost


async def test_what_a_fork_was_told_at_its_birth_is_no_loss(both: tuple[Client, Store]) -> None:
    client, store = both
    sent = events.SignalSent(time_us=T, number=3, instance_id="nobody", name="go", payload="1")
    await history(store, "a", ASKED, sent)
    await client.get_instance("a").pause()
    for number, kind in ((1, "activity_failed"), (3, "outcome")):
        told_at_birth = NewMessage(
            instance_id="a", key=f"fork/a-1/{number}", kind=kind, body="{}", run_id="a-1"
        )
        assert await client.audit() != []
        await store.send([told_at_birth])
    assert await client.audit() == []


async def test_a_run_that_has_not_begun_keeps_its_head(both: tuple[Client, Store]) -> None:
    """A fork has a history before anybody has worked on it, the last of which is yet to be applied."""
    client, store = both
    stored = tuple(encode_event(one) for one in (STARTED, ASKED))
    head = Head(number=2, token=first_token("a-1"))
    made = NewInstance(
        instance_id="a",
        run_id="a-1",
        workflow="w",
        queue="default",
        events=stored,
        head=head,
        start_at_us=T * 2,
    )
    await store.create([made])
    assert await client.audit(repair=True) == []
    run = tables(store).instances["a"].current
    run.ready_at_us = None
    tables(store).place(run)
    (found,) = await client.audit(repair=True)
    assert "never begun" in found.detail and found.repaired
    assert run.head == head and run.ready_at_us is not None


async def test_a_repair_leaves_what_the_run_has_seen_as_it_was(both: tuple[Client, Store]) -> None:
    client, store = both
    at = await history(store, "a", ASKED)
    await store.send([NewMessage(instance_id="a", key="k", kind="signal", body="{}")])
    looked = encode_event(events.SideEffectRecorded(time_us=T, number=8, value="1"))
    await store.commit([replace(ends(at), seen=1, events=(looked,))])  # and left the message for later
    assert told(await client.audit(repair=True)) == [("I7", "a", True, True)]
    (held,) = (await store.holdings([InstanceRef(instance_id="a")])).items
    assert (held.seen, held.ready_at_us) == (1, None)


# --- beside live work -------------------------------------------------------------------------------------------------


async def test_a_run_that_moved_between_the_looks_is_not_told(both: tuple[Client, Store]) -> None:
    """Its activity is not there any more, for its result has become an event."""
    client, store = both
    at = await history(store, "a", ASKED)
    moved = ends(at, activities=(TASK,))
    looks = 0

    async def looking(real: Any, refs: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks == 2:
            await store.commit([replace(moved, activities=())])
        return await real(refs)

    store.hooks["holdings"] = looking
    assert await client.audit(repair=True) == []
    assert looks == 2 and tables(store).instances["a"].current.activities == {}


async def test_what_is_found_at_the_second_look_is_not_told(both: tuple[Client, Store]) -> None:
    """A store that cannot read rows and messages at one moment may show neither, once."""
    client, store = both
    await history(store, "a", ASKED, activities=(TASK,))
    looks = 0

    async def looking(real: Any, refs: Any) -> Any:
        nonlocal looks
        looks += 1
        answer = await real(refs)
        return answer if looks > 1 else replace(answer, items=[replace(answer.items[0], activities=())])

    store.hooks["holdings"] = looking
    assert await client.audit() == [] and looks == 2


async def test_what_only_the_second_look_shows_is_not_told(both: tuple[Client, Store]) -> None:
    client, store = both
    await history(store, "a", ASKED, replace(ASKED, number=2), activities=(replace(TASK, number=2),))
    looks = 0

    async def looking(real: Any, refs: Any) -> Any:
        nonlocal looks
        looks += 1
        answer = await real(refs)
        return answer if looks == 1 else replace(answer, items=[replace(answer.items[0], activities=())])

    store.hooks["holdings"] = looking
    (found,) = await client.audit()
    assert "command 1" in found.detail


async def test_a_run_that_stalls_meanwhile_is_not_judged(both: tuple[Client, Store]) -> None:
    client, store = both
    await history(store, "a", ASKED)

    async def stalled(real: Any, refs: Any) -> Any:
        answer = await real(refs)
        return replace(answer, items=[replace(answer.items[0], state="stalled")])

    store.hooks["holdings"] = stalled
    assert await client.audit(repair=True) == []


async def test_a_repair_that_came_too_late_is_no_finding(both: tuple[Client, Store]) -> None:
    client, store = both
    at = await history(store, "a", ASKED)

    async def too_late(real: Any, checkpoints: Any) -> Any:
        await store.real.commit([ends(at)])
        return await real(checkpoints)

    store.hooks["commit"] = too_late
    assert await client.audit(repair=True) == []
    assert tables(store).instances["a"].current.activities == {}


async def test_a_busy_store_is_asked_again(both: tuple[Client, Store]) -> None:
    client, store = both
    await history(store, "a", ASKED)
    answers = [Busy(), Busy()]

    async def busy(real: Any, checkpoints: Any) -> Any:
        answer = await real(checkpoints if not answers else [])
        return replace(answer, items=[answers.pop()]) if answers else answer

    store.hooks["commit"] = busy
    assert told(await client.audit(repair=True)) == [("I7", "a", True, True)]
    assert await client.audit() == []


async def test_a_repair_that_is_refused_says_so(both: tuple[Client, Store]) -> None:
    client, store = both
    await history(store, "a", ASKED)

    async def refused(real: Any, checkpoints: Any) -> Any:
        return replace(await real([]), items=[Refused(reason="no room")])

    store.hooks["commit"] = refused
    (found,) = await client.audit(repair=True)
    assert told([found]) == [("I7", "a", True, False)] and "no room" in found.detail


async def test_a_lost_activity_of_a_leased_a_ready_and_a_stalled_run_is_not_judged(
    both: tuple[Client, Store],
) -> None:
    client, store = both
    for name in ("leased", "ready", "stalled"):
        await history(store, name, ASKED)
    runs = {name: tables(store).instances[name].current for name in ("leased", "ready", "stalled")}
    tables(store).make_ready(runs["ready"], 1)
    runs["stalled"].state = "stalled"
    tables(store).place(runs["stalled"])
    tables(store).lease(runs["leased"], HeldBy(worker_id="w", token="t", until_us=2**62))
    tables(store).place(runs["leased"])
    assert await client.audit(repair=True) == []


# --- in pages ---------------------------------------------------------------------------------------------------------


async def test_every_run_of_many_pages_is_judged_and_no_call_is_large(both: tuple[Client, Store]) -> None:
    client, store = both
    for n in range(250):
        await history(store, f"i{n}", ASKED, activities=() if n % 50 == 0 else (TASK,))
    sizes: list[int] = []

    async def counted(real: Any, items: Any) -> Any:
        sizes.append(len(items))
        return await real(items)

    store.hooks |= {"holdings": counted, "read_history": counted, "get": counted}
    found = await client.audit()
    assert [one.instance_id for one in found] == [f"i{n}" for n in range(0, 250, 50)]
    assert max(sizes) == 100 and sum(sizes) < 800


async def test_a_large_history_is_read_alone(both: tuple[Client, Store]) -> None:
    client, store = both
    for n in range(4):
        await history(store, f"i{n}", ASKED, activities=(TASK,))
        tables(store).instances[f"i{n}"].current.history_bytes = 3_000_000
    sizes: list[int] = []

    async def counted(real: Any, items: Any) -> Any:
        sizes.append(len(items))
        return await real(items)

    store.hooks["read_history"] = counted
    assert await client.audit() == []
    assert sizes == [1, 1, 1, 1]


async def test_what_was_found_sound_is_read_again_only_when_something_has_changed(
    both: tuple[Client, Store],
) -> None:
    client, store = both
    await history(store, "a", ASKED, activities=(TASK,))
    await history(store, "p", CHILD, CHILD_STARTED)
    await history(store, "kid", parent=replace(OF_A, instance_id="p", run_id="p-1"))
    audit = Audit(store.real, client.converter)

    async def look() -> list[str]:
        return [one.instance_id async for page in audit.pages() for one in page]

    read: list[str] = []
    real = store.real.read_history

    async def counted(ranges: Any) -> Any:
        read.extend(sorted(one.instance_id for one in ranges))
        return await real(ranges)

    store.real.read_history = counted
    assert await look() == [] and read == ["a", "kid", "p"]
    assert await look() == [] and read[3:] == ["p"], "whose child may be lost"
    tables(store).drop_activity(tables(store).instances["a"].current.activities[1])
    del tables(store).instances["kid"]
    assert await look() == ["a", "p"]
