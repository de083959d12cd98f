"""What is the memory store's own: sharing by name, settings, its queue of what comes due, damage found by its audit."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest

from durable.backends.memory import MemoryStore, open_store
from durable.backends.memory.due import DueQueue
from durable.backends.memory.rows import ActivityRow
from durable.backends.records import (
    Accepted,
    ActivityRef,
    Checkpoint,
    Claimant,
    Created,
    Definition,
    Head,
    InstanceRef,
    Lost,
    NewActivity,
    NewInstance,
    NewMessage,
    WorkflowLease,
)
from durable.errors import BackendError

SECOND = 1_000_000
_numbers = count(1)


class Clock:
    def __init__(self) -> None:
        self.now_us = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(clock: Clock) -> AsyncIterator[MemoryStore]:
    store = await opened("memory://", clock=clock)
    yield store
    await store.close()


async def opened(url: str, **settings: Any) -> MemoryStore:
    store = await open_store(url, **settings)
    assert isinstance(store, MemoryStore)
    return store


def new(instance_id: str, **more: Any) -> NewInstance:
    run_id = more.pop("run_id", f"{instance_id}-1")
    head = Head(number=1, token=f"{run_id}-head")
    known: dict[str, Any] = {"workflow": "shop", "queue": "default", "events": (b"started",)}
    return NewInstance(instance_id=instance_id, run_id=run_id, head=head, **(known | more))


def claimant(worker_id: str = "w1", token: str = "") -> Claimant:
    return Claimant(
        worker_id=worker_id,
        token=token or f"claim-{next(_numbers)}",
        lease_us=10 * SECOND,
        queues=("default",),
        workflows=(Definition(workflow="shop", build="b1"),),
        activities=("charge",),
    )


def step(run: NewInstance, **more: Any) -> Checkpoint:
    new_head = Head(number=2, token=f"{run.run_id}-head-2")
    return Checkpoint(
        instance_id=run.instance_id,
        run_id=run.run_id,
        head=run.head,
        new_head=new_head,
        events=(b"next",),
        **more,
    )


def signal(instance_id: str, key: str) -> NewMessage:
    return NewMessage(instance_id=instance_id, key=key, kind="signal", body="{}")


# --- sharing ---------------------------------------------------------------------------------------------------


async def test_a_store_without_a_name_is_its_own_each_time() -> None:
    one, other = await opened("memory://"), await opened("memory://")
    await one.create([new("a")])
    assert (await other.get([InstanceRef(instance_id="a")])).items == [None]


async def test_a_name_is_shared_and_so_is_its_bell() -> None:
    one, other, stranger = (
        await opened("memory://shop"),
        await opened("memory://shop"),
        await opened("memory://b"),
    )
    listener = other.bell.listen("workflow")
    await one.create([new("a")])
    assert await listener.wait(0)
    assert (await other.get([InstanceRef(instance_id="a")])).items[0] is not None
    assert (await stranger.get([InstanceRef(instance_id="a")])).items == [None]
    for store in (one, other, stranger):
        await store.close()


async def test_the_last_user_to_close_lets_go_of_the_data() -> None:
    one, other = await opened("memory://shop"), await opened("memory://shop")
    await one.create([new("a")])
    await one.close()
    await one.close()  # a second time: it is not the other's close
    assert (await other.get([InstanceRef(instance_id="a")])).items[0] is not None
    await other.close()
    again = await opened("memory://shop")
    assert (await again.get([InstanceRef(instance_id="a")])).items == [None]
    await again.close()


async def test_a_closed_handle_says_so_while_others_go_on() -> None:
    one, other = await opened("memory://shop"), await opened("memory://shop")
    await one.close()
    with pytest.raises(BackendError, match="memory://shop is closed"):
        await one.create([new("a")])
    assert (await other.create([new("a")])).items == [Created(run_id="a-1")]
    await other.close()


def test_loops_do_not_share_a_name() -> None:
    async def create_and_forget_to_close() -> object:
        store = await opened("memory://shop")
        return (await store.create([new("a", run_id=f"run-{next(_numbers)}")])).items[0]

    first, second = asyncio.run(create_and_forget_to_close()), asyncio.run(create_and_forget_to_close())
    assert isinstance(first, Created)
    assert isinstance(second, Created), "a second loop found the instance of the first"


# --- settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["schema", "prefix", "pool_size", "pool_idle", "connect_timeout", "journal"])
async def test_an_option_that_means_nothing_here_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}'"):
        await open_store(f"memory://?{name}=5")
    with pytest.raises(ValueError, match=f"'{name}'"):
        await open_store("memory://", **{name: 5})


async def test_poll_is_for_the_worker_and_none_is_no_setting() -> None:
    store = await opened("memory://?poll=0.5", poll=1.0, schema=None, clock=None)
    assert store.url == "memory://"


async def test_a_shared_store_has_one_clock(clock: Clock) -> None:
    one = await opened("memory://shop", clock=clock)
    assert await opened("memory://shop", clock=clock)
    with pytest.raises(ValueError, match="another clock"):
        await opened("memory://shop", clock=Clock())
    assert (await one.create([])).now_us == clock.now_us


async def test_time_does_not_go_back(store: MemoryStore, clock: Clock) -> None:
    before = (await store.create([])).now_us
    clock.now_us -= 5 * SECOND
    assert (await store.create([])).now_us == before


async def test_another_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="sqlite:///a"):
        await open_store("sqlite:///a")


async def test_mappings_are_copied_on_the_way_in(store: MemoryStore) -> None:
    tags = {"team": "a"}
    await store.create([new("a", tags=tags)])
    tags["team"] = "b"
    view = (await store.get([InstanceRef(instance_id="a")])).items[0]
    assert view is not None
    assert view.tags == {"team": "a"}


# --- what comes due --------------------------------------------------------------------------------------------


def test_the_queue_gives_what_is_due_in_order_and_forgets_what_was_moved() -> None:
    queue: DueQueue[str] = DueQueue()
    for key, due_us in [("late", 9), ("early", 1), ("moved", 2), ("gone", 3), ("equal", 1)]:
        queue.put(key, due_us)
    queue.put("moved", 5)
    queue.put("gone", None)
    order = []
    while (key := queue.due(5)) is not None:
        order.append(key)
        queue.put(key, None)
    assert order == ["early", "equal", "moved"]
    assert (queue.next_us(), len(queue)) == (9, 1)


def test_the_queue_agrees_with_sorting_whatever_happens_to_it() -> None:
    rng = random.Random(7)
    queue: DueQueue[int] = DueQueue()
    due: dict[int, int] = {}
    for _ in range(5_000):
        key, due_us = rng.randrange(50), rng.choice([None, rng.randrange(1_000)])
        queue.put(key, due_us)
        due.pop(key, None)
        if due_us is not None:
            due[key] = due_us
        assert queue.next_us() == min(due.values(), default=None)
    assert len(queue._heap) <= 2 * len(due) + 64, "entries that count no more are never swept out"


async def test_a_claim_does_not_look_at_sleepers(store: MemoryStore, clock: Clock) -> None:
    later = clock.now_us + 3_600 * SECOND
    for start in range(0, 50_000, 1_000):
        await store.create([new(f"s{n}", start_at_us=later) for n in range(start, start + 1_000)])
    began = time.perf_counter()
    for _ in range(100):
        assert (await store.claim_workflow_tasks(claimant(), 100)).items == []
    assert time.perf_counter() - began < 0.5  # a look at each would take some 500 times as long as it does


# --- claims that are repeated ----------------------------------------------------------------------------------


async def test_a_claim_whose_reply_was_lost_is_handed_out_once_more_and_counted_once(
    store: MemoryStore,
) -> None:
    await store.create([new("a"), new("b")])
    mine = claimant()
    first = await store.claim_workflow_tasks(mine, 10)
    again = await store.claim_workflow_tasks(mine, 10)
    assert again.items == first.items
    assert (await store.claim_workflow_tasks(claimant(), 10)).items == []


async def test_a_repeated_claim_leaves_out_what_has_moved_on(store: MemoryStore) -> None:
    a, b = new("a"), new("b")
    await store.create([a, b])
    mine = claimant()
    await store.claim_workflow_tasks(mine, 10)
    await store.commit([step(a)])
    again = await store.claim_workflow_tasks(mine, 10)
    assert [task.instance_id for task in again.items] == ["b"]


async def test_a_repeated_claim_of_activities_counts_one_delivery(store: MemoryStore) -> None:
    a = new("a")
    await store.create([a])
    charge = NewActivity(number=1, name="charge", queue="default", payload="[]", options="{}")
    await store.commit([step(a, activities=(charge,))])
    mine = claimant()
    first, again = await store.claim_activity_tasks(mine, 10), await store.claim_activity_tasks(mine, 10)
    assert again.items == first.items
    assert first.items[0].deliveries == 1


# --- the audit -------------------------------------------------------------------------------------------------


async def rules(store: MemoryStore, *, repair: bool = False) -> list[str]:
    return [finding.rule.split()[0] for finding in (await store.audit(repair=repair)).items]


async def test_a_run_that_lost_its_wake_up_is_found_and_made_ready(store: MemoryStore) -> None:
    await store.create([new("a")])
    await store.claim_workflow_tasks(claimant(), 1)
    await store.commit([step(new("a"))])
    assert await rules(store) == []
    await store.send([signal("a", "k")])
    run = store._tables.instances["a"].current
    run.ready_at_us = None
    store._tables.place(run)
    assert await rules(store) == ["I7"]
    assert (await store.claim_workflow_tasks(claimant(), 1)).items == []
    assert await rules(store, repair=True) == ["I7"]
    assert await rules(store) == []
    assert len((await store.claim_workflow_tasks(claimant(), 1)).items) == 1


async def test_a_run_that_claims_do_not_find_is_found(store: MemoryStore) -> None:
    await store.create([new("a")])
    store._tables.ready.clear()
    assert await rules(store, repair=True) == ["I7"]
    assert len((await store.claim_workflow_tasks(claimant(), 1)).items) == 1


async def test_a_claim_that_nobody_has_any_more_is_found(store: MemoryStore) -> None:
    await store.create([new("a")])
    await store.claim_workflow_tasks(claimant(), 1)
    run = store._tables.instances["a"].current
    store._tables.lease(run, None)
    store._tables.place(run)
    assert await rules(store) == ["I7"]


async def test_what_is_left_of_a_finished_run_is_found_and_removed(store: MemoryStore) -> None:
    await store.create([new("a")])
    run = store._tables.instances["a"].current
    run.state, run.closed_at_us = "completed", 1
    ref = ActivityRef(instance_id="a", run_id="a-1", number=1)
    charge = NewActivity(number=1, name="charge", queue="default", payload="", options="")
    run.activities[1] = ActivityRow(ref=ref, workflow="shop", new=charge, scheduled_at_us=0, ready_at_us=0)
    assert await rules(store) == ["I4"]
    assert await rules(store, repair=True) == ["I4"]
    assert await rules(store) == []


async def test_a_gap_a_second_end_and_two_unfinished_runs_are_found(store: MemoryStore) -> None:
    await store.create([new("gap"), new("end"), new("two")])
    rows = store._tables.instances
    rows["gap"].current.events.append(b"more")
    rows["end"].current.closed_at_us = 5
    rows["two"].runs["two-0"] = rows["two"].current
    rows["two"].runs["two-2"] = rows["end"].current
    assert {"I2", "I3", "I5"} <= set(await rules(store))


async def test_what_is_due_but_not_there_is_found_and_dropped(store: MemoryStore) -> None:
    store._tables.overdue.put(("nobody", "no-run"), 5)
    store._tables.expiring.put(("nobody", "no-run", 3), 5)
    assert await rules(store, repair=True) == ["I8", "I8"]
    assert await rules(store) == []


# --- what is left open by the contract, and decided here -------------------------------------------------------


async def test_a_released_run_can_be_released_once(store: MemoryStore) -> None:
    await store.create([new("a")])
    await store.claim_workflow_tasks(claimant("w1"), 1)
    lease = WorkflowLease(instance_id="a", run_id="a-1", worker_id="w1")
    assert (await store.release([lease, lease])).items == [Accepted(), Lost()]
