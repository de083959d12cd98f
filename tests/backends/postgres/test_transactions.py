"""Transactions of callers and of activities on PostgreSQL: whose they are, what they leave and wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from durable.backends.postgres import open_store
from durable.backends.records import (
    Accepted,
    ActivityTask,
    Busy,
    Created,
    Finished,
    InstanceRef,
    Lost,
    NotFound,
    Refused,
    Taken,
    WorkflowTask,
)
from durable.backends.sql.server import transaction_calls
from durable.errors import BackendError
from durable.testing import servers
from durable.testing.conformance.specimens import (
    activity,
    claimant,
    done,
    finished,
    message,
    new,
    step,
    workflow_lease,
)

LEASE_US = 60_000_000


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Any]:
    store = await open_store(postgres_url, wakeups="off")
    async with own(postgres_url) as db:
        await db.execute("CREATE TABLE orders (id text)")
    yield store
    await store.close()


@asynccontextmanager
async def own(url: str) -> AsyncIterator[Any]:
    """A connection of the user's."""
    db = await asyncpg.connect(url)
    try:
        yield db
    finally:
        await db.close()


async def orders(url: str) -> int:
    async with own(url) as db:
        return int(await db.fetchval("SELECT count(*) FROM orders"))


async def there(store: Any, instance_id: str = "a") -> bool:
    return (await store.get([InstanceRef(instance_id=instance_id)])).items[0] is not None


async def keys_of(store: Any) -> list[str]:
    tasks = (await store.claim_workflow_tasks(claimant("w2", LEASE_US), 10)).items
    return [one.key for task in tasks if isinstance(task, WorkflowTask) for one in task.messages]


async def claimed_activity(store: Any, instance_id: str = "a") -> ActivityTask:
    """A run with an activity that a worker has."""
    first = new(instance_id)
    await store.create([first])
    await store.commit([step(first, activities=(activity(),))])
    (task,) = (await store.claim_activity_tasks(claimant("w1", LEASE_US), 1)).items
    return task


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction_calls, "LIMIT_SECONDS", 0.05)


# --- in a caller's transaction ------------------------------------------------------------------------------------


async def test_a_run_is_there_when_the_caller_commits_and_not_before(store: Any, postgres_url: str) -> None:
    async with own(postgres_url) as db:
        async with db.transaction():
            await db.execute("INSERT INTO orders VALUES ('a')")
            assert (await store.create_in(db, new())).items == [Created(run_id="a-1")]
            assert not await there(store)
        assert await there(store)
    assert await orders(postgres_url) == 1


async def test_a_connection_of_a_pool_will_do(store: Any, postgres_url: str) -> None:
    async with (
        asyncpg.create_pool(postgres_url, min_size=1, max_size=1) as pool,
        pool.acquire() as db,
        db.transaction(),
    ):
        await store.create_in(db, new())
    assert await there(store)


async def test_nothing_is_left_when_the_caller_rolls_back(store: Any, postgres_url: str) -> None:
    await store.create([new("b")])
    async with own(postgres_url) as db:
        transaction = db.transaction()
        await transaction.start()
        await db.execute("INSERT INTO orders VALUES ('a')")
        await store.create_in(db, new())
        await store.send_in(db, message("b", "k"))
        await transaction.rollback()
    assert not await there(store)
    assert (await orders(postgres_url), await keys_of(store)) == (0, [])


async def test_the_verdicts_are_those_of_the_ordinary_calls(store: Any, postgres_url: str) -> None:
    await store.create([new("open"), first := new("done")])
    await store.commit([done(first)])
    async with own(postgres_url) as db, db.transaction():
        (taken,) = (await store.create_in(db, new("open", "open-2"))).items
        assert isinstance(taken, Taken)
        assert (await store.send_in(db, message("nobody"))).items == [NotFound()]
        assert (await store.send_in(db, message("done"))).items == [Finished(state="completed")]
        assert (await store.create_in(db, new())).items == [Created(run_id="a-1")]
        assert (await store.send_in(db, message("a", "first"))).items == [Accepted()]
    assert "first" in await keys_of(store)


async def test_what_cannot_be_kept_is_refused_and_the_transaction_stands(
    store: Any, postgres_url: str
) -> None:
    await store.create([new("b")])
    async with own(postgres_url) as db, db.transaction():
        await db.execute("INSERT INTO orders VALUES ('a')")
        too_wide = new("c", version="".join(chr(300 + n) for n in range(9_000)))
        (refused,) = (await store.create_in(db, too_wide)).items
        assert isinstance(refused, Refused) and "index" in refused.reason
        assert (await store.send_in(db, message("b", "after"))).items == [Accepted()]
    assert (await orders(postgres_url), await keys_of(store)) == (1, ["after"])


async def test_without_a_transaction_it_is_an_error(store: Any, postgres_url: str) -> None:
    async with own(postgres_url) as db:
        with pytest.raises(BackendError, match="has no open transaction"):
            await store.create_in(db, new())
    assert not await there(store)


async def test_other_drivers_closed_connections_and_other_databases_are_told(
    store: Any, postgres_url: str, postgres_server: servers.Server
) -> None:
    with pytest.raises(TypeError, match="must be an asyncpg connection"):
        await store.create_in(object(), new())
    async with own(postgres_url) as db:
        await db.close()
        with pytest.raises(BackendError, match="the connection given is closed"):
            await store.create_in(db, new())
    async with postgres_server.database() as other, own(other) as db, db.transaction():
        with pytest.raises(BackendError, match="a transaction can hold both only if they are the same"):
            await store.create_in(db, new())


async def test_an_open_transaction_slows_nobody_but_its_own_instance(
    store: Any, postgres_url: str, hasty: None
) -> None:
    await store.create([new("b"), new("c")])
    async with own(postgres_url) as db, asyncio.timeout(5):
        transaction = db.transaction()
        await transaction.start()
        await store.create_in(db, new("a"))
        await store.send_in(db, message("b", "theirs"))
        created = (await store.create([new("a", "a-2"), new("d")])).items
        sent = (await store.send([message("a"), message("b"), message("c")])).items
        assert (created, sent) == ([Busy(), Created(run_id="d-1")], [Busy(), Busy(), Accepted()])
        async with own(postgres_url) as other, other.transaction():
            with pytest.raises(BackendError, match="another transaction holds the instance"):
                await store.send_in(other, message("b"))
            assert (await store.send_in(other, message("c", "still"))).items == [Accepted()]
        await transaction.rollback()
    assert (await store.create([new("a", "a-2")])).items == [Created(run_id="a-2")]


async def test_what_is_given_back_beside_what_is_held_is_given_back_once(
    store: Any, postgres_url: str
) -> None:
    """Were the whole call repeated, it would give back what has been claimed again meanwhile."""
    await store.create([new("a"), new("b")])
    tasks = (await store.claim_workflow_tasks(claimant("w1", LEASE_US), 10)).items
    leases = [workflow_lease(task, "w1") for task in sorted(tasks, key=lambda one: one.instance_id)]
    async with own(postgres_url) as db:
        async with db.transaction():
            await store.send_in(db, message("a"))
            assert (await store.release(leases)).items == [Busy(), Accepted()]
            (again,) = (await store.claim_workflow_tasks(claimant("w2", LEASE_US), 10)).items
            assert again.instance_id == "b"
        assert (await store.release(leases[:1])).items == [Accepted()]


async def test_a_serialisable_transaction_that_is_overtaken_is_told(
    store: Any, postgres_url: str, hasty: None
) -> None:
    await store.create([new()])
    async with own(postgres_url) as db:
        transaction = db.transaction(isolation="repeatable_read")
        await transaction.start()
        await db.fetchval("SELECT count(*) FROM orders")  # takes the snapshot
        await store.send([message("a", "k")])
        with pytest.raises(BackendError, match="could not serialize access"):
            await store.send_in(db, message("a", "k2"))
        await transaction.rollback()
    assert await keys_of(store) == ["k"]


# --- of an activity -----------------------------------------------------------------------------------------------


async def test_rows_and_the_result_come_together(store: Any, postgres_url: str) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    await held.connection.execute("INSERT INTO orders VALUES ('a')")
    assert await orders(postgres_url) == 0
    assert await held.finish(finished(task)) == Accepted()
    await held.rollback()
    assert (await orders(postgres_url), len(await keys_of(store))) == (1, 1)


async def test_a_rollback_leaves_neither(store: Any, postgres_url: str) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    await held.connection.execute("INSERT INTO orders VALUES ('a')")
    await held.rollback()
    assert (await orders(postgres_url), await keys_of(store)) == (0, [])
    assert (await store.finish_activities([finished(task)])).items == [Accepted()]


async def test_a_token_that_does_not_stand_opens_nothing(store: Any) -> None:
    task = await claimed_activity(store)
    with pytest.raises(BackendError, match="is not this worker's any more"):
        await store.begin(task.ref, "another")


async def test_an_outcome_whose_token_was_lost_takes_the_rows_with_it(store: Any, postgres_url: str) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    await held.connection.execute("INSERT INTO orders VALUES ('a')")
    await store.finish_activities([finished(task)])
    assert await held.finish(finished(task)) == Lost()
    assert await orders(postgres_url) == 0


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK", "COMMIT; BEGIN"])
async def test_the_transaction_is_the_engines_to_end(store: Any, postgres_url: str, statement: str) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    await held.connection.execute("INSERT INTO orders VALUES ('a')")
    await held.connection.execute(statement)
    with pytest.raises(BackendError, match="was ended by the activity itself"):
        await held.finish(finished(task))
    assert (await store.finish_activities([finished(task)])).items == [Accepted()]


async def test_the_activitys_statements_are_planned_as_anywhere(store: Any) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    for name, value in (("enable_seqscan", "on"), ("lock_timeout", "0"), ("plan_cache_mode", "auto")):
        assert await held.connection.fetchval("SELECT current_setting($1)", name) == value
    assert await held.finish(finished(task)) == Accepted()


async def test_a_connection_that_is_gone_is_told(store: Any) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    await held.connection.close()
    with pytest.raises(BackendError):
        await held.finish(finished(task))


async def test_closing_the_store_ends_what_is_open(postgres_url: str) -> None:
    store: Any = await open_store(postgres_url)
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    await store.close()
    with pytest.raises(BackendError):
        await held.finish(finished(task))
