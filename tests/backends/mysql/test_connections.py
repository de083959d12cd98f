"""Connections: what is given back and what is thrown away; who waits for whom; a server that goes and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from durable.backends.mysql import database, driver, open_store
from durable.backends.mysql.driver import Link, Result
from durable.backends.mysql.failures import Failure
from durable.backends.records import Accepted, Busy, Created, Extended, InstanceRef
from durable.errors import BackendError
from durable.testing import servers
from durable.testing.conformance.specimens import (
    activity,
    activity_lease,
    claimant,
    message,
    new,
    step,
)


@pytest.fixture(params=["aiomysql", "asyncmy"])
def url(request: pytest.FixtureRequest, mysql_url: str) -> str:
    pytest.importorskip(request.param)
    return f"{mysql_url}?driver={request.param}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Any]:
    store = await open_store(url)
    yield store
    await store.close()


def idle(store: Any) -> list[Link]:
    return [link for link, _ in store._database.pool._idle]


async def test_a_connection_is_used_again(store: Any) -> None:
    await store.create([new()])
    (link,) = idle(store)
    await store.get([InstanceRef(instance_id="a")])
    assert idle(store) == [link]


async def test_a_cancelled_call_throws_its_connection_away(store: Any) -> None:
    async def sleep(session: Any) -> None:
        await session.fetch("SELECT SLEEP(20)")

    for call in (store._database.read, store._database.transact):
        (link,) = idle(store)
        task = asyncio.create_task(call(sleep))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (idle(store), link.usable) == ([], False)
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


async def test_an_error_of_a_statement_gives_the_connection_back_without_a_transaction(store: Any) -> None:
    async def work(session: Any) -> None:
        await session.execute("INSERT INTO @roles (role, worker_id, lease_until_us) VALUES ('r', 'w', 1)")
        await session.fetch("SELECT nonsense")

    (link,) = idle(store)
    with pytest.raises(BackendError, match="nonsense"):
        await store._database.transact(work)
    assert (idle(store), link.in_transaction) == ([link], False)


async def test_a_server_that_does_not_answer_is_waited_for_so_long(url: str) -> None:
    await (await open_store(url)).close()  # to make the tables may take longer
    store: Any = await open_store(f"{url}&call_timeout=0.2")
    with pytest.raises(BackendError, match=r"did not answer within 0\.2 s"):
        await store._database.read(lambda session: session.fetch("SELECT SLEEP(20)"))
    assert idle(store) == []
    await store.close()


async def test_a_connection_that_the_server_ended_is_told_from_one_that_lives(store: Any) -> None:
    (link,) = idle(store)
    number = (await link.run(b"SELECT CONNECTION_ID()"))[0].rows[0][0]
    other = await driver.connect(store._database.address)
    await other.run(b"KILL %d" % number)
    await other.close()
    async with asyncio.timeout(5):
        while link.usable:  # noqa: ASYNC110  (until the loop has read the end)
            await asyncio.sleep(0.01)
    assert (await store.create([new()])).items == [Created(run_id="a-1")]
    assert link not in idle(store)


async def test_connections_that_are_not_used_are_closed(url: str) -> None:
    store: Any = await open_store(f"{url}&pool_idle=0.1")
    (link,) = idle(store)
    await asyncio.sleep(0.15)
    await store.get([])
    assert not link.usable and idle(store) != [link]
    await store.close()


async def test_leases_are_renewed_though_all_other_connections_are_busy(url: str) -> None:
    await (await open_store(url)).close()  # to make the tables may take longer
    store: Any = await open_store(f"{url}&pool_size=2&call_timeout=1")
    await store.create([first := new()])
    await store.commit([step(first, activities=(activity(),))])
    (task,) = (await store.claim_activity_tasks(claimant("w1", 10_000_000), 1)).items
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(store._database.pool.link())
        with pytest.raises(BackendError, match=r"all connections were busy for 1 s; raise pool_size"):
            await store.get([])
        assert (await store.extend([activity_lease(task, 10_000_000)])).items == [Extended()]
    await store.close()


async def test_a_commit_whose_reply_was_lost_is_repeated(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Link.run

    async def run(link: Link, statement: bytes) -> list[Result]:
        results = await plain(link, statement)
        if statement == b"COMMIT":
            monkeypatch.setattr(Link, "run", plain)
            link.discard()
            raise Failure(2013, "Lost connection")
        return results

    await store.create([new()])
    for call, answer in (
        (lambda: store.create([new("b")]), Created(run_id="b-1")),
        (lambda: store.send([message("a", "k")]), Accepted()),
    ):
        monkeypatch.setattr(Link, "run", run)
        with pytest.raises(BackendError, match="Lost connection"):
            await call()
        assert (await call()).items == [answer]


async def test_a_checkpoint_is_committed_with_its_rows_in_one_packet(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Link.run
    sent: list[bytes] = []

    async def run(link: Link, statement: bytes) -> list[Result]:
        results = await plain(link, statement)
        sent.append(statement)
        if len(sent) == 2:
            link.discard()
            raise Failure(2013, "Lost connection")
        return results

    await store.create([first := new(), other := new("b")])
    monkeypatch.setattr(Link, "run", run)
    with pytest.raises(BackendError, match="Lost connection"):
        await store.commit([step(first)])
    monkeypatch.setattr(Link, "run", plain)
    assert [statement.endswith(b";COMMIT") for statement in sent] == [False, True]
    assert (await store.commit([step(other)])).items == [Accepted()]
    (view,) = (await store.get([InstanceRef(instance_id="a")])).items
    assert view.head.number == 2, "the server has committed it"


async def test_what_fails_within_the_packet_is_not_committed(store: Any) -> None:
    await store.create([first := new(), other := new("b")])
    clash = [activity(2), activity(3)]
    at = [step(one, activities=tuple(clash)) for one in (first, other)]
    await store.commit(at)
    again = [step(at[0], activities=(activity(4), activity(3))), step(at[1])]
    refused, fine = (await store.commit(again)).items
    assert type(refused).__name__ == "Refused" and fine == Accepted()
    first_view, other_view = (await store.get([InstanceRef(instance_id=name) for name in "ab"])).items
    assert (first_view.head.number, other_view.head.number) == (2, 3)


async def test_a_lock_that_does_not_come_takes_the_whole_transaction_back(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes back one statement (1205), and what came before it would be committed with the next."""
    monkeypatch.setattr(database, "BEGIN", b"SET SESSION innodb_lock_wait_timeout = 1; START TRANSACTION;")
    await store.create([new()])
    other = await driver.connect(store._database.address)
    await other.run(b"START TRANSACTION; INSERT INTO message_keys VALUES (55, 'x', 'k')")

    async def work(session: Any) -> None:
        await session.execute("INSERT INTO @roles (role, worker_id, lease_until_us) VALUES ('r', 'w', 1)")
        try:
            await session.execute(
                "INSERT INTO @message_keys (part, instance_id, `key`) VALUES (55, 'x', 'k')"
            )
        finally:
            statements.append("failed")

    statements: list[str] = []
    with pytest.raises(Exception, match="Lock wait timeout"):
        await store._database.transact(work)
    await other.run(b"ROLLBACK")
    await other.close()
    assert statements == ["failed"]
    assert await store.hold_role("r", "another", 1_000_000)


async def test_what_is_being_made_elsewhere_is_busy_and_nobody_waits(store: Any) -> None:
    other = await driver.connect(store._database.address)
    await store.create([new("c")])
    await other.run(b"START TRANSACTION; UPDATE instances SET sent = sent WHERE instance_id = 'c'")
    async with asyncio.timeout(1):
        assert (await store.create([new("c", "c-2"), new("d")])).items == [Busy(), Created(run_id="d-1")]
    await other.run(b"ROLLBACK")
    await other.close()


async def test_many_that_make_the_same_instances_at_once_make_each_once(url: str) -> None:
    stores: list[Any] = [await open_store(url) for _ in range(3)]

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


async def test_a_server_that_is_killed_and_comes_back_is_used_again() -> None:
    try:
        async with servers.private("mysql", durable=True) as server, server.database() as url:
            store = await open_store(url)
            await store.create([new()])
            await server.kill()
            with pytest.raises(BackendError, match=r"lost|nothing answers there"):
                await store.create([new("b")])
            await server.start()
            assert (await store.create([new("b")])).items == [Created(run_id="b-1")]
            assert [one is not None for one in (await store.get([InstanceRef(instance_id="a")])).items] == [
                True
            ]
            await store.close()
    except servers.Unavailable as missing:
        pytest.skip(str(missing))
