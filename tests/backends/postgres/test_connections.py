"""Connections: what is given back and what is thrown away; who waits for whom; a server that goes and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from durable.backends.postgres import open_store, standstill
from durable.backends.postgres.database import PostgresDatabase
from durable.backends.postgres.sessions import PostgresSession
from durable.backends.records import Accepted, Busy, Close, Created, Extended, InstanceRef
from durable.errors import BackendError
from durable.testing import servers
from durable.testing.conformance.specimens import (
    activity,
    activity_lease,
    claimant,
    done,
    message,
    new,
    step,
)


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Any]:
    store = await open_store(postgres_url, wakeups="off")
    yield store
    await store.close()


def idle(store: Any) -> list[Any]:
    return [connection for connection, _ in store._database._pool._idle]


async def test_a_connection_is_used_again(store: Any) -> None:
    await store.create([new()])
    (connection,) = idle(store)
    await store.get([InstanceRef(instance_id="a")])
    assert idle(store) == [connection]


async def test_a_cancelled_call_throws_its_connection_away(store: Any) -> None:
    async def sleep(session: Any) -> None:
        await session.fetch("SELECT pg_sleep(20)")

    for call in (store._database.read, store._database.transact):
        (connection,) = idle(store)
        task = asyncio.create_task(call(sleep))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (idle(store), connection.is_closed()) == ([], True)
        assert (await store.get([])).items == []


async def test_a_call_that_is_cancelled_between_two_statements_leaves_nothing(store: Any) -> None:
    reached = asyncio.Event()

    async def work(session: Any) -> None:
        await session.execute("INSERT INTO @roles (role, worker_id, lease_until_us) VALUES ('r', 'w', 1)")
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(store._database.transact(work))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert idle(store) == []
    assert await store.hold_role("r", "another", 1_000_000)


async def test_a_cancelled_batch_is_written_and_hurts_no_other_caller(store: Any) -> None:
    """It is everybody's: who is cancelled only does not hear of it."""
    tasks = [asyncio.create_task(store.create([new(f"i{n}")])) for n in range(6)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[3].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one).__name__ for one in answers].count("CancelledError") == 2
    found = await store.get([InstanceRef(instance_id=f"i{n}") for n in (1, 2, 4, 5)])
    assert None not in found.items


async def test_calls_that_come_while_one_is_in_flight_become_one_transaction(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bool] = []
    plain = PostgresDatabase.transact

    async def transact(database: Any, work: Any, **options: Any) -> Any:
        begun.append(True)
        return await plain(database, work, **options)

    monkeypatch.setattr(PostgresDatabase, "transact", transact)
    answers = await asyncio.gather(*(store.create([new(f"i{n}")]) for n in range(50)))
    assert [answer.items for answer in answers] == [[Created(run_id=f"i{n}-1")] for n in range(50)]
    assert len(begun) <= 2


async def test_a_server_that_does_not_answer_is_waited_for_so_long(postgres_url: str) -> None:
    await (await open_store(postgres_url, wakeups="off")).close()  # to make the tables may take longer
    store: Any = await open_store(f"{postgres_url}?call_timeout=0.2&wakeups=off")
    with pytest.raises(BackendError, match="the server did not answer in time"):
        await store._database.read(lambda session: session.fetch("SELECT pg_sleep(20)"))
    assert idle(store) == []
    await store.close()


async def test_a_connection_that_the_server_ended_is_told_from_one_that_lives(
    store: Any, postgres_url: str
) -> None:
    (connection,) = idle(store)
    other = await asyncpg.connect(postgres_url)
    await other.execute(f"SELECT pg_terminate_backend({connection.get_server_pid()})")
    await other.close()
    async with asyncio.timeout(5):
        while not connection.is_closed():  # noqa: ASYNC110  (until the loop has read the end)
            await asyncio.sleep(0.01)
    assert (await store.create([new()])).items == [Created(run_id="a-1")]
    assert connection not in idle(store)


async def test_connections_that_are_not_used_are_closed(postgres_url: str) -> None:
    store: Any = await open_store(f"{postgres_url}?pool_idle=0.1&wakeups=off")
    (connection,) = idle(store)
    async with asyncio.timeout(5):
        while idle(store):  # noqa: ASYNC110  (the pool looks at its own times)
            await asyncio.sleep(0.01)
    assert connection.is_closed()
    assert (await store.get([])).items == []
    await store.close()


async def test_leases_are_renewed_though_all_other_connections_are_busy(postgres_url: str) -> None:
    await (await open_store(postgres_url, wakeups="off")).close()  # to make the tables may take longer
    store: Any = await open_store(f"{postgres_url}?pool_size=2&call_timeout=1&wakeups=off")
    await store.create([first := new()])
    await store.commit([step(first, activities=(activity(),))])
    (task,) = (await store.claim_activity_tasks(claimant("w1", 10_000_000), 1)).items
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(store._database._pool.lent())
        with pytest.raises(BackendError, match=r"all 1 connections were in use for 1 s; raise pool_size"):
            await store.get([])
        assert (await store.extend([activity_lease(task, 10_000_000)])).items == [Extended()]
    await store.close()


async def test_a_commit_whose_reply_was_lost_is_repeated(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = PostgresDatabase._say

    async def say(database: Any, connection: Any, text: str) -> None:
        await plain(database, connection, text)
        if text == "COMMIT":
            monkeypatch.setattr(PostgresDatabase, "_say", plain)
            connection.terminate()
            raise ConnectionResetError("gone")

    await store.create([new()])
    monkeypatch.setattr(PostgresDatabase, "_say", say)
    with pytest.raises(BackendError, match="gone"):
        await store.send(two := [message("a", "k"), message("a", "l")])
    assert (await store.send(two)).items == [Accepted(), Accepted()]


async def test_one_statement_whose_reply_was_lost_is_repeated(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = PostgresSession._fetched
    lost: list[Any] = []

    async def fetched(session: Any, text: str, parameters: Any) -> Any:
        rows = await plain(session, text, parameters)
        if text.startswith("WITH w AS"):
            monkeypatch.setattr(PostgresSession, "_fetched", plain)
            lost.append(rows)
            session._connection.terminate()
            raise BackendError("gone")
        return rows

    await store.create([new("z")])
    first = new("b")
    second = step(first)
    last = done(second, close=Close(state="completed", result="1"))
    for call, answer in (
        (lambda: store.create([first]), Created(run_id="b-1")),
        (lambda: store.commit([second]), Accepted()),
        (lambda: store.commit([last]), Accepted()),
        (lambda: store.send([message("z", "k")]), Accepted()),
    ):
        monkeypatch.setattr(PostgresSession, "_fetched", fetched)
        with pytest.raises(BackendError, match="gone"):
            await call()
        assert (await call()).items == [answer]
    assert [len(rows) for rows in lost] == [1, 1, 1, 1]


async def test_a_claim_whose_commit_reply_was_lost_gets_the_same_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Any = await open_store(postgres_url, wakeups="off", one_statement="off")
    plain = PostgresDatabase._say

    async def say(database: Any, connection: Any, text: str) -> None:
        await plain(database, connection, text)
        if text == "COMMIT":
            connection.terminate()
            raise ConnectionResetError("gone")

    await store.create([new("a"), new("b")])
    claim = claimant("w1", 10_000_000)
    monkeypatch.setattr(PostgresDatabase, "_say", say)
    with pytest.raises(BackendError):
        await store.claim_workflow_tasks(claim, 1)
    monkeypatch.setattr(PostgresDatabase, "_say", plain)
    (task,) = (await store.claim_workflow_tasks(claim, 1)).items
    assert (task.instance_id, task.claims) == ("a", 1)
    await store.close()


@pytest.mark.parametrize("begins", ["WITH lazy", "(SELECT found"])
async def test_a_claim_in_one_statement_whose_reply_was_lost_gets_the_same_again(
    store: Any, monkeypatch: pytest.MonkeyPatch, begins: str
) -> None:
    """Also when it was the inboxes' statement, behind it, whose reply was lost."""
    plain = PostgresSession._fetched
    lost: list[Any] = []

    async def fetched(session: Any, text: str, parameters: Any) -> Any:
        rows = await plain(session, text, parameters)
        if text.startswith(begins):
            lost.append(text)
            session._connection.terminate()
            raise BackendError("gone")
        return rows

    await store.create([new(name) for name in "abcd"])
    await store.send([message("a")])
    claim = claimant("w1", 10_000_000)
    with monkeypatch.context() as patched:
        patched.setattr(PostgresSession, "_fetched", fetched)
        with pytest.raises(BackendError, match="gone"):
            await store.claim_workflow_tasks(claim, 3)
    assert len(lost) == 1
    tasks = (await store.claim_workflow_tasks(claim, 3)).items
    assert sorted((task.instance_id, task.claims) for task in tasks) == [("a", 1), ("b", 1), ("c", 1)]
    assert [len(task.events) for task in tasks] == [1, 1, 1]
    assert sum(len(task.messages) for task in tasks) == 1
    (left,) = (await store.claim_workflow_tasks(claimant("w2", 10_000_000), 3)).items
    assert left.instance_id == "d"


async def test_what_somebody_holds_is_busy_and_nobody_waits(store: Any, postgres_url: str) -> None:
    """Also a run that is being made in an open transaction, whose row nobody sees yet."""
    await store.create([new("c")])
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("UPDATE instances SET sent = sent WHERE instance_id = 'c'")
        await store.create_in(other, new("e"))
        async with asyncio.timeout(2):
            made = (await store.create([new("c", "c-2"), new("d"), new("e", "e-2")])).items
            assert made == [Busy(), Created(run_id="d-1"), Busy()]
            assert (await store.send([message("c"), message("d")])).items == [Busy(), Accepted()]
            tasks = (await store.claim_workflow_tasks(claimant("w1", 10_000_000), 10)).items
            assert [task.instance_id for task in tasks] == ["d"]
    await other.close()
    assert [type(one).__name__ for one in (await store.create([new("e", "e-2")])).items] == ["Taken"]


async def test_many_that_make_the_same_instances_at_once_make_each_once(postgres_url: str) -> None:
    stores: list[Any] = [await open_store(postgres_url, wakeups="off") for _ in range(3)]

    async def make(store: Any, number: int) -> list[Any]:
        wanted = [new(f"i{n}", f"i{n}-{number}") for n in range(30)]
        items = list((await store.create(wanted)).items)
        while busy := [n for n, item in enumerate(items) if isinstance(item, Busy)]:
            again = (await store.create([wanted[n] for n in busy])).items
            for n, item in zip(busy, again, strict=True):
                items[n] = item
        return items

    answers = await asyncio.gather(*(make(store, n) for n, store in enumerate(stores)))
    for n in range(30):
        assert sorted(type(answer[n]).__name__ for answer in answers) == ["Created", "Taken", "Taken"]
    for store in stores:
        await store.close()


async def test_texts_with_every_character_come_back_as_they_were(store: Any) -> None:
    """PostgreSQL's texts hold no NUL; what stands for it must not be taken for one either."""
    texts = ["\0", "a\0b\0", "\x1a", "\x1a0", "\x1a1\0\x1a", "ü\U0001f600", "'\\\"\n", ""]
    await store.create([new()])
    await store.send([message("a", f"k{n}", body=text) for n, text in enumerate(texts)])
    await store.create([new("\x1a0")])
    (task, other) = (await store.claim_workflow_tasks(claimant("w1", 10_000_000), 2)).items
    assert ([one.body for one in task.messages], other.instance_id) == (texts, "\x1a0")
    assert (await store.get([InstanceRef(instance_id="\x1a0")])).items[0].instance_id == "\x1a0"


async def test_a_server_that_is_killed_and_comes_back_is_used_again() -> None:
    try:
        async with servers.private("postgres", durable=True) as server, server.database() as url:
            store = await open_store(url)
            await store.create([new()])
            await server.kill()
            with pytest.raises(BackendError):
                await store.create([new("b")])
            await server.start()
            async with asyncio.timeout(3):
                assert (await store.create([new("b")])).items == [Created(run_id="b-1")]
                assert (await store.get([InstanceRef(instance_id="a")])).items != [None]
            await store.close()
    except servers.Unavailable as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("stands_still", [True, False], ids=["one of ours", "one of the user's"])
async def test_what_a_process_holds_that_stands_still_in_a_statement_is_let_go(
    store: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch, stands_still: bool
) -> None:
    await store.create([new()])
    name = standstill.APPLICATION_NAME if stands_still else "shop"
    other = await asyncpg.connect(postgres_url, server_settings={"application_name": name})
    await other.execute("BEGIN; SELECT 1 FROM instances FOR UPDATE")
    # It never hears that the server has parsed its statement, so it does not go on.
    other._transport.pause_reading()
    statement = asyncio.create_task(other.fetch("SELECT 2"))
    watch = await asyncpg.connect(postgres_url)
    look = "SELECT wait_event FROM pg_stat_activity WHERE pid = $1 AND state = 'active'"
    while await watch.fetchval(look, other.get_server_pid()) != "ClientRead":
        pass
    assert await claimed(store) == []
    monkeypatch.setattr(standstill, "STANDSTILL_SECONDS", 0)
    if stands_still:
        tasks = []
        while not tasks:
            tasks = await claimed(
                store
            )  # the first one has ended it, and may have come too early for what it held
        assert [task.instance_id for task in tasks] == ["a"]
    else:
        assert await claimed(store) == []
        assert await watch.fetchval(look, other.get_server_pid()) == "ClientRead"
    await watch.close()
    other.terminate()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await statement


async def claimed(store: Any) -> list[Any]:
    return list((await store.claim_workflow_tasks(claimant("w", 60_000_000), 1)).items)
