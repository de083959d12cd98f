"""Transactions of callers and of activities on MySQL and MariaDB: whose they are, what they leave and wait for."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from durable.backends.mysql import open_store
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
    part_of,
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
)

LEASE_US = 60_000_000


@pytest.fixture
async def store(mysql_url: str) -> AsyncIterator[Any]:
    store = await open_store(mysql_url)
    async with own(mysql_url) as db:
        await say(db, "CREATE TABLE orders (id VARCHAR(20))")
    yield store
    await store.close()


@pytest.fixture(params=["aiomysql", "asyncmy"])
def driver(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@asynccontextmanager
async def own(url: str, driver: str = "aiomysql", **settings: Any) -> AsyncIterator[Any]:
    """A connection of the user's."""
    parts = urlsplit(url)
    db = await importlib.import_module(driver).connect(
        host=parts.hostname,
        port=parts.port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        db=parts.path[1:],
        **settings,
    )
    try:
        yield db
    finally:
        db.close()


async def say(db: Any, statement: str) -> list[Any]:
    async with db.cursor() as cursor:
        await cursor.execute(statement)
        return list(await cursor.fetchall())


async def orders(url: str) -> int:
    async with own(url) as db:
        return int((await say(db, "SELECT count(*) FROM orders"))[0][0])


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


async def test_a_run_is_there_when_the_caller_commits_and_not_before(
    store: Any, mysql_url: str, driver: str
) -> None:
    async with own(mysql_url, driver) as db:
        await db.begin()
        await say(db, "INSERT INTO orders VALUES ('a')")
        assert (await store.create_in(db, new())).items == [Created(run_id="a-1")]
        assert not await there(store)
        await db.commit()
    assert await there(store)
    assert await orders(mysql_url) == 1


async def test_nothing_is_left_when_the_caller_rolls_back(store: Any, mysql_url: str, driver: str) -> None:
    await store.create([new("b")])
    async with own(mysql_url, driver) as db:
        await say(db, "INSERT INTO orders VALUES ('a')")  # autocommit is off: this has begun a transaction
        await store.create_in(db, new())
        await store.send_in(db, message("b", "k"))
        await db.rollback()
    assert not await there(store)
    assert (await orders(mysql_url), await keys_of(store)) == (0, [])


async def test_a_message_is_there_when_the_caller_commits(store: Any, mysql_url: str, driver: str) -> None:
    await store.create([new()])
    async with own(mysql_url, driver) as db:
        await db.begin()
        assert (await store.send_in(db, message("a", "k"))).items == [Accepted()]
        await db.commit()
    assert await keys_of(store) == ["k"]


async def test_the_verdicts_are_those_of_the_ordinary_calls(store: Any, mysql_url: str) -> None:
    await store.create([new("open"), first := new("done")])
    await store.commit([done(first)])
    async with own(mysql_url) as db:
        await db.begin()
        (taken,) = (await store.create_in(db, new("open", "open-2"))).items
        assert isinstance(taken, Taken)
        assert (await store.send_in(db, message("nobody"))).items == [NotFound()]
        assert (await store.send_in(db, message("done"))).items == [Finished(state="completed")]
        assert (await store.create_in(db, new())).items == [Created(run_id="a-1")]
        assert (await store.send_in(db, message("a", "first"))).items == [Accepted()]
        await db.commit()
    assert "first" in await keys_of(store)


async def test_what_cannot_be_kept_is_refused_and_the_transaction_stands(store: Any, mysql_url: str) -> None:
    await store.create([new("b")])
    async with own(mysql_url) as db:
        await db.begin()
        await say(db, "INSERT INTO orders VALUES ('a')")
        (refused,) = (await store.send_in(db, message("b", kind="k" * 600))).items
        assert isinstance(refused, Refused) and "kind" in refused.reason
        assert (await store.send_in(db, message("b", "after"))).items == [Accepted()]
        await db.commit()
    assert (await orders(mysql_url), await keys_of(store)) == (1, ["after"])


async def test_the_connection_is_left_as_it_was(store: Any, mysql_url: str, driver: str) -> None:
    settings = "SELECT @@sql_mode, @@innodb_lock_wait_timeout, @@time_zone, database()"
    async with own(mysql_url, driver) as db:
        await say(
            db, "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', innodb_lock_wait_timeout = 33"
        )
        await db.begin()
        before = await say(db, settings)
        assert (await store.create_in(db, new("it's a \\ 'name'"))).items == [
            Created(run_id="it's a \\ 'name'-1")
        ]
        await store.send_in(db, message("nobody"))
        assert await say(db, settings) == before
        await db.commit()
    assert await there(store, "it's a \\ 'name'")


async def test_without_an_open_transaction_in_autocommit_mode_it_is_an_error(
    store: Any, mysql_url: str, driver: str
) -> None:
    async with own(mysql_url, driver, autocommit=True) as db:
        with pytest.raises(BackendError, match=r"has no open transaction; call begin\(\) first"):
            await store.create_in(db, new())
    assert not await there(store)


async def test_other_drivers_closed_connections_and_other_character_sets_are_told(
    store: Any, mysql_url: str
) -> None:
    with pytest.raises(TypeError, match="must be an aiomysql"):
        await store.create_in(object(), new())
    async with own(mysql_url) as db:
        db.close()
        with pytest.raises(BackendError, match="the connection given is closed"):
            await store.create_in(db, new())
    async with own(mysql_url, charset="latin1") as db:
        with pytest.raises(BackendError, match="speaks latin1; connect with charset='utf8mb4'"):
            await store.create_in(db, new())


async def test_a_connection_that_stands_in_another_database_of_the_server_will_do(
    store: Any, mysql_url: str, mysql_server: servers.Server
) -> None:
    async with mysql_server.database() as other, own(other) as db:
        await db.begin()
        await store.create_in(db, new())
        await db.commit()
    assert await there(store)


async def test_a_connection_to_another_store_of_that_name_is_refused(
    store: Any, mysql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on another server, where a database of the same name holds another store.
    monkeypatch.setattr(store._database, "store_id", "another")
    async with own(mysql_url) as db:
        with pytest.raises(BackendError, match="to another server or database than"):
            await store.create_in(db, new())


async def test_what_is_judged_is_the_newest_in_spite_of_an_old_snapshot(store: Any, mysql_url: str) -> None:
    await store.create([new()])
    async with own(mysql_url) as db:
        assert await say(db, "SELECT @@innodb_lock_wait_timeout, count(*) FROM orders")  # takes the snapshot
        await store.send([message("a", "k")])
        assert (await store.send_in(db, message("a", "k"))).items == [Accepted()]
        await db.commit()
    assert await keys_of(store) == ["k"]


async def test_an_open_transaction_slows_nobody_but_its_own_instance(
    store: Any, mysql_url: str, hasty: None
) -> None:
    await store.create([new("b"), new("c")])
    async with own(mysql_url) as db, asyncio.timeout(5):
        await say(db, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        await db.begin()
        await store.create_in(db, new("a"))
        await store.send_in(db, message("b", "theirs"))
        created = (await store.create([new("a", "a-2"), new("d")])).items
        sent = (await store.send([message("a"), message("b"), message("c")])).items
        assert (created, sent) == ([Busy(), Created(run_id="d-1")], [Busy(), Busy(), Accepted()])
        async with own(mysql_url) as other:
            await say(other, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            await other.begin()
            with pytest.raises(BackendError, match="another transaction holds the instance"):
                await store.send_in(other, message("b"))
        await db.rollback()
    assert (await store.create([new("a", "a-2")])).items == [Created(run_id="a-2")]


async def test_a_deadlock_is_told_for_what_it_is(store: Any, mysql_url: str) -> None:
    """The server has rolled the whole transaction back: to go on in it would lose what was written before."""
    await store.create([new("b")])
    async with own(mysql_url) as db, own(mysql_url) as other, asyncio.timeout(10):
        for one in (db, other):
            await say(one, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            await one.begin()
        await say(db, "INSERT INTO orders VALUES ('a')")
        await say(other, f"INSERT INTO message_keys VALUES ({part_of('b')}, 'b', 'k')")
        for n in range(50):  # the lighter transaction is the one that the server gives up
            await say(other, f"INSERT INTO message_keys VALUES (1, 'o', 'o{n}')")
        waiting = asyncio.create_task(say(other, "SELECT * FROM orders FOR UPDATE"))
        async with own(mysql_url) as looking:
            blocked = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
            while not await say(looking, blocked):  # noqa: ASYNC110  (the server rings no bell)
                await asyncio.sleep(0.02)
        with pytest.raises(
            BackendError, match=r"has rolled back all of your transaction \(deadlock\); repeat it"
        ):
            await store.send_in(db, message("b", "k"))
        assert await waiting == []
        await db.commit()
    assert await orders(mysql_url) == 0


# --- of an activity -----------------------------------------------------------------------------------------------


async def test_rows_and_the_result_come_together(store: Any, mysql_url: str) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    await say(held.connection, "INSERT INTO orders VALUES ('a')")
    assert await orders(mysql_url) == 0
    assert await held.finish(finished(task)) == Accepted()
    await held.rollback()
    assert (await orders(mysql_url), len(await keys_of(store))) == (1, 1)


async def test_a_rollback_leaves_neither(store: Any, mysql_url: str) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    await say(held.connection, "INSERT INTO orders VALUES ('a')")
    await held.rollback()
    assert (await orders(mysql_url), await keys_of(store)) == (0, [])
    assert (await store.finish_activities([finished(task)])).items == [Accepted()]


async def test_a_token_that_does_not_stand_opens_nothing(store: Any) -> None:
    task = await claimed_activity(store)
    with pytest.raises(BackendError, match="is not this worker's any more"):
        await store.begin(task.ref, "another")


async def test_an_outcome_whose_token_was_lost_takes_the_rows_with_it(store: Any, mysql_url: str) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    await say(held.connection, "INSERT INTO orders VALUES ('a')")
    await store.finish_activities([finished(task)])
    assert await held.finish(finished(task)) == Lost()
    assert await orders(mysql_url) == 0


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK", "BEGIN", "CREATE TABLE more (a INT)"])
async def test_the_transaction_is_the_engines_to_end(store: Any, mysql_url: str, statement: str) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    await say(held.connection, "INSERT INTO orders VALUES ('a')")
    await say(held.connection, statement)
    with pytest.raises(BackendError, match="was ended by the activity itself"):
        await held.finish(finished(task))
    assert (await store.finish_activities([finished(task)])).items == [Accepted()]


async def test_the_activitys_own_modes_do_not_confuse_the_engine(store: Any) -> None:
    task = await claimed_activity(store, "it's \\")
    held = await store.begin(task.ref, task.token)
    await say(held.connection, "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'")
    assert await held.finish(finished(task)) == Accepted()


async def test_a_connection_that_is_gone_is_told(store: Any) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    held.connection.close()
    with pytest.raises(BackendError):
        await held.finish(finished(task))


async def test_closing_the_store_ends_what_is_open(mysql_url: str) -> None:
    store: Any = await open_store(mysql_url)
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    await store.close()
    with pytest.raises(BackendError):
        await held.finish(finished(task))
