"""What becomes of a batch: repeated whole, halved around what cannot be kept, without what somebody else holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from durable.backends.postgres import open_store
from durable.backends.postgres.database import PostgresDatabase
from durable.backends.records import (
    Accepted,
    ActivityLease,
    Busy,
    Close,
    Created,
    Extended,
    InstanceRef,
    OutboxEvent,
    Parent,
    Refused,
    Send,
)
from durable.backends.sql.server import judging, worker_calls
from durable.backends.sql.server.session import Again
from durable.errors import BackendError
from durable.testing.conformance.specimens import (
    activity,
    activity_lease,
    claimant,
    done,
    message,
    new,
    step,
    workflow_lease,
)

LEASE_US = 60_000_000


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Any]:
    store = await open_store(postgres_url, wakeups="off", one_statement="off")
    yield store
    await store.close()


def failing(monkeypatch: pytest.MonkeyPatch, times: int) -> list[str]:
    """The next transactions are ended by the server, after all was written and before the commit."""
    plain, tries = PostgresDatabase._say, list[str]()

    async def say(database: Any, connection: Any, text: str) -> None:
        if text == "COMMIT":
            tries.append(text)
            if len(tries) <= times:
                raise Again("deadlock detected")
        await plain(database, connection, text)

    monkeypatch.setattr(PostgresDatabase, "_say", say)
    monkeypatch.setattr(judging, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(judging, "LONGEST_PAUSE_SECONDS", 0.0)
    return tries


async def test_a_transaction_that_the_server_ended_is_repeated_as_a_whole(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = failing(monkeypatch, 3)
    assert (await store.create([new(), new("b")])).items == [Created(run_id="a-1"), Created(run_id="b-1")]
    assert len(tries) == 4
    tasks = (await store.claim_workflow_tasks(claimant("w1", LEASE_US), 5)).items
    assert [(task.instance_id, task.claims) for task in tasks] == [("a", 1), ("b", 1)]


async def test_it_is_not_repeated_for_ever(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = failing(monkeypatch, 1_000)
    with pytest.raises(BackendError, match="the server ended the transaction 10 times, lastly: deadlock"):
        await store.create([new()])
    assert len(tries) == judging.ATTEMPTS
    assert (await store.get([InstanceRef(instance_id="a")])).items == [None]


async def test_a_claim_that_is_repeated_hands_out_what_the_first_try_has_found(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.create([new(f"i{n}") for n in range(5)])
    failing(monkeypatch, 2)
    tasks = (await store.claim_workflow_tasks(claimant("w1", LEASE_US), 3)).items
    assert [(task.instance_id, task.claims) for task in tasks] == [("i0", 1), ("i1", 1), ("i2", 1)]


async def test_what_the_server_cannot_keep_is_refused_alone(store: Any) -> None:
    """A row too wide for an index: nothing in the request says so, only the server knows."""
    too_wide = "".join(chr(300 + n) for n in range(9_000))
    news = [new(f"i{n}", version=too_wide if n == 5 else "") for n in range(9)]
    verdicts = (await store.create(news)).items
    refused = verdicts[5]
    assert isinstance(refused, Refused) and "index row" in refused.reason and "\n" not in refused.reason
    assert [one for n, one in enumerate(verdicts) if n != 5] == [
        Created(run_id=f"i{n}-1") for n in range(9) if n != 5
    ]


async def test_what_comes_after_a_busy_item_of_its_instance_waits_with_it(
    store: Any, postgres_url: str
) -> None:
    """Else the second checkpoint of a run would be judged without the first, and lost."""
    await store.create([first := new("a"), new("held")])
    sends = step(first, sends=(Send(message=message("held"), number=1),))
    follows = step(sends, b"more")
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("SELECT 1 FROM instances WHERE instance_id = 'held' FOR UPDATE")
        await store.create([third := new("c")])
        verdicts = (await store.commit([sends, follows, step(third, b"own")])).items
        assert verdicts == [Busy(), Busy(), Accepted()]
    await other.close()
    assert [type(one) for one in (await store.commit([sends, follows])).items] == [Accepted, Accepted]


async def test_a_parent_that_is_held_keeps_its_child_from_ending_unheard(
    store: Any, postgres_url: str
) -> None:
    await store.create([new("mother")])
    parent = Parent(instance_id="mother", run_id="mother-1", number=1)
    await store.create([child := new("kid", parent=parent)])
    end = done(child, close=Close(state="completed", result="1", parent_body="over"))
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("SELECT 1 FROM instances WHERE instance_id = 'mother' FOR UPDATE")
        assert (await store.commit([end])).items == [Busy()]
    await other.close()
    assert (await store.commit([end])).items == [Accepted()]
    tasks = (await store.claim_workflow_tasks(claimant("w1", LEASE_US), 5)).items
    assert [one.body for task in tasks if task.instance_id == "mother" for one in task.messages] == ["over"]


async def test_a_lease_whose_row_is_held_for_long_is_not_given_up(
    store: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_calls, "BUSY_ROUNDS", 2)
    await store.create([first := new()])
    await store.commit([step(first, activities=(activity(),))])
    (task,) = (await store.claim_activity_tasks(claimant("w1", LEASE_US), 1)).items
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("SELECT 1 FROM activities FOR UPDATE")
        assert (await store.extend([activity_lease(task, LEASE_US)])).items == [Extended()]
        assert (await store.release([ActivityLease(ref=task.ref, token=task.token)])).items == [Busy()]
    await other.close()
    assert (await store.release([ActivityLease(ref=task.ref, token=task.token)])).items == [Accepted()]


async def test_a_lease_of_an_attempt_stands_by_itself_when_that_of_its_run_is_held(
    store: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for gone, in one batch with its run's: the worker cancelled what it had to do."""
    monkeypatch.setattr(worker_calls, "BUSY_ROUNDS", 2)
    await store.create([first := new()])
    await store.commit([step(first, activities=(activity(),))])
    await store.send([message("a")])
    (run,) = (await store.claim_workflow_tasks(claimant("w1", LEASE_US), 1)).items
    (task,) = (await store.claim_activity_tasks(claimant("w1", LEASE_US), 1)).items
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("SELECT 1 FROM instances FOR UPDATE")
        both = [workflow_lease(run, "w1", LEASE_US), activity_lease(task, LEASE_US)]
        assert (await store.extend(both)).items == [Extended(), Extended()]
        assert (await store.release(both)).items == [Busy(), Accepted()]
    await other.close()


async def test_claims_of_the_outbox_go_one_at_a_time(store: Any, postgres_url: str) -> None:
    """Two at once would not see what the other takes, and one would be handed what comes behind it."""
    await store.create([first := new()])
    events = tuple(OutboxEvent(id=f"a-1/{n}", topic="t", payload="{}") for n in range(4))
    await store.commit([step(first, outbox=events)])
    other = await open_store(postgres_url, wakeups="off")
    taken, commit = asyncio.Event(), asyncio.Event()

    async def slowly(session: Any) -> Any:
        items, _ = await store._outbox_claims.claim(session, claimant("w1", LEASE_US), 2)
        taken.set()
        await commit.wait()
        return items

    one = asyncio.create_task(store._database.transact(slowly))
    await taken.wait()
    two = asyncio.create_task(other.claim_outbox(claimant("w2", LEASE_US), 2))
    await asyncio.sleep(0.1)
    assert not two.done()
    commit.set()
    assert [event.id for event in await one] == ["a-1/0", "a-1/1"]
    assert list((await two).items) == [], "a run's events are with one claimant until they are out"
    await other.close()
