"""Plain batches are one statement, and leave the same rows as the general way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from durable.backends.postgres import open_store
from durable.backends.postgres.sessions import PostgresSession
from durable.backends.records import (
    Absorbed,
    Accepted,
    Busy,
    Checkpoint,
    Close,
    Created,
    Finished,
    Head,
    InstanceRef,
    Lost,
    NewInstance,
    NotFound,
    Parent,
    Pause,
    Paused,
    Refused,
    Send,
    Taken,
    TooEarly,
    part_of,
)
from durable.backends.sql.rows import RUN_COLUMNS
from durable.backends.sql.server import one_statement
from durable.backends.sql.server.loading import INSTANCE_KEY, KNOWN_KEYS
from durable.backends.sql.server.plain_claims import LEASE_PLAIN, PLACED
from durable.backends.sql.server.session import Wanted
from durable.backends.sql.server.tables import META, TABLES, Kind
from durable.testing import servers
from durable.testing.conformance import ManualClock
from durable.testing.conformance.specimens import activity, child, claimant, done, held, message, new, step
from tests.backends.postgres.seeds import Sent

WORKER = held("w1", 60_000_000, "t1")


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Any]:
    store = await open_store(postgres_url, wakeups="off")
    yield store
    await store.close()


@pytest.fixture
def sent(store: Any, monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(monkeypatch)


@pytest.fixture(scope="module")
def two_urls(postgres_server: servers.Server) -> Iterator[tuple[str, str]]:
    urls = [asyncio.run(postgres_server.create_database()) for _ in range(2)]
    yield urls[0], urls[1]
    for url in urls:
        asyncio.run(postgres_server.drop_database(url))


def a_life(first: NewInstance) -> list[Checkpoint]:
    """Everything that a plain checkpoint may carry."""
    leased = step(
        first, b"one\ntwo", b"three", lease=WORKER, wake_at_us=2_000_000_000_000_000, status="on\x1a"
    )
    fired = step(leased, fired_until_us=1_000, wake_at_us=5)
    empty = replace(step(fired), events=(), new_head=Head(number=fired.new_head.number, token="empty"))
    close = Close(state="failed", failure="{}") if first.instance_id == "b" else None
    return [leased, fired, empty, done(empty, **({} if close is None else {"close": close}))]


async def test_plain_batches_leave_the_same_rows_as_the_general_way(two_urls: tuple[str, str]) -> None:
    news = [
        new("a", lease=WORKER),
        new("b", tags={"k": "v\x1a"}, version="2"),
        new("c", events=(b"one", b"t\nwo", b"")),
        new("d", timeout_us=7_000_000),
    ]
    lives = [*zip(*map(a_life, news), strict=True)]
    one, other = [
        await _rows_after(url, word, news, lives) for url, word in zip(two_urls, ("on", "off"), strict=True)
    ]
    assert one == other
    assert sum(map(len, one[-1].values())) == 4 + 12 + 4  # runs, and histories


async def _rows_after(
    url: str, word: str, news: list[NewInstance], lives: list[tuple[Checkpoint, ...]]
) -> list[dict[str, list[Any]]]:
    clock = ManualClock()
    store: Any = await open_store(url, clock=clock, wakeups="off", one_statement=word)
    found = []
    assert (await store.create(news)).items == [Created(run_id=one.run_id) for one in news]
    found.append(await _rows(url))
    for checkpoints in lives:
        clock.advance(1_000)
        assert (await store.commit(checkpoints)).items == [Accepted()] * len(news)
        found.append(await _rows(url))
    await store.close()
    return found


async def _rows(url: str) -> dict[str, list[Any]]:
    connection = await asyncpg.connect(url)
    names = [name for name in TABLES if name != META.name]
    rows = {name: sorted(map(tuple, await connection.fetch(f"TABLE {name}")), key=repr) for name in names}
    await connection.close()
    return rows


async def test_a_plain_batch_is_one_statement_without_a_transaction(store: Any, sent: Sent) -> None:
    news = [new(name, lease=WORKER) for name in "abc"]
    await store.create(news)
    await store.commit([step(one) for one in news])
    assert [text[:9] for text in sent.texts] == ["WITH w AS"] * 2


async def test_messages_that_were_read_go_with_the_checkpoint(
    store: Any, sent: Sent, postgres_url: str
) -> None:
    first = new("a")
    await store.create([first, other := new("b")])
    await store.send([message("a"), message("a"), message("a"), message("b")])
    sent.texts.clear()
    taken = step(first, consumed=(1, 3), seen=3)
    assert (await store.commit([taken])).items == [Accepted()]
    assert [row[2] for row in (await _rows(postgres_url))["inbox"] if row[1] == "a"] == [2]
    assert (await store.commit([done(taken, seen=3)])).items == [Accepted()]
    assert len(sent.texts) == 2
    assert [row[1] for row in (await _rows(postgres_url))["inbox"]] == ["b"]
    unread = (await store.commit([step(other)])).items  # it has not seen its message
    assert unread == [Accepted(unread=True)]


async def test_what_is_not_as_it_should_be_goes_the_general_way_and_the_others_do_not_wait(
    store: Any,
) -> None:
    names = ("plain", "lost", "paused", "parent", "early", "again")
    at = {name: new(name) for name in names}
    await store.create(list(at.values()))
    written = step(at["again"])
    await store.commit([written])
    kid = new("kid", parent=Parent(instance_id="parent", run_id="parent-1", number=2))
    started = step(at["parent"], children=(child(2, kid),))
    await store.commit([started])
    await store.change([Pause(ref=InstanceRef(instance_id="paused"))])
    lost = step(at["lost"], seen=0)
    batch = [
        done(at["plain"]),
        replace(lost, head=Head(number=1, token="other")),
        step(at["paused"]),
        done(started, seen=1),
        step(at["early"], fired_until_us=2**60),
        written,
    ]
    items = (await store.commit(batch)).items
    assert items == [Accepted(), Lost(), Paused(), Accepted(), TooEarly(), Accepted()]
    views = (await store.get([InstanceRef(instance_id=name) for name in names])).items
    assert [view.state for view in views] == [
        "completed", "running", "paused", "completed", "running", "running",
    ]  # fmt: skip
    (closing,) = await _claim(store, "Closing")
    assert closing.instance_id == "parent"


async def _claim(store: Any, kind: str) -> list[Any]:
    items = (await store.claim_workflow_tasks(claimant("w2", 1_000_000), 100)).items
    return [item for item in items if type(item).__name__ == kind]


async def test_items_of_one_instance_keep_their_order(store: Any) -> None:
    await store.create([first := new("a"), other := new("b")])
    one = step(first)
    two = step(one)
    sends = Send(message=message("b"), number=2)
    items = (await store.commit([one, two, step(two, sends=(sends,)), done(other)])).items
    assert [type(item).__name__ for item in items] == ["Accepted", "Accepted", "Accepted", "MoreMessages"]


async def test_two_runs_of_one_id_in_a_batch(store: Any) -> None:
    items = (await store.create([new("a"), new("a", "a-2"), new("b")])).items
    assert items == [
        Created(run_id="a-1"), Taken(run_id="a-1", workflow="Order", state="running"), Created(run_id="b-1"),
    ]  # fmt: skip


async def test_one_that_the_server_refuses_does_not_hurt_its_neighbours(
    store: Any, postgres_url: str
) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(
        "INSERT INTO history (part, instance_id, run_id, first_number, last_number, events) "
        "SELECT part, 'a', 'a-1', 2, 2, 'x' FROM generate_series(0, 63) AS part"
    )
    await store.create([first := new("a"), other := new("b")])
    mine, refused = (await store.commit([step(other), step(first)])).items
    assert mine == Accepted() and isinstance(refused, Refused)
    await connection.close()


async def test_a_row_that_somebody_holds_is_busy_and_nobody_waits(store: Any, postgres_url: str) -> None:
    await store.create([first := new("a"), other := new("b")])
    holder = await asyncpg.connect(postgres_url)
    async with holder.transaction():
        await holder.execute("UPDATE instances SET sent = sent WHERE instance_id = 'a'")
        async with asyncio.timeout(2):
            assert (await store.commit([step(first), step(other)])).items == [Busy(), Accepted()]
    await holder.close()


async def test_a_message_that_comes_while_a_checkpoint_is_written_is_not_lost(postgres_url: str) -> None:
    """The one statement judges the newest version of the row, not the one that was there when it began."""
    stores: list[Any] = [await open_store(postgres_url, wakeups="off") for _ in range(2)]
    for n in range(60):
        await stores[0].create([first := new(f"i{n}")])
        verdict, sent = await asyncio.gather(
            stores[0].commit([one := step(first, lease=WORKER)]), stores[1].send([message(f"i{n}")])
        )
        items = [*verdict.items, *sent.items]
        if Busy() in items:
            continue
        (held_now,) = (await stores[0].holdings([InstanceRef(instance_id=f"i{n}")])).items
        assert items[0] == Accepted(unread=True) or held_now.ready_at_us is not None, n
        closing = (await stores[0].commit([done(one)])).items
        assert [type(item).__name__ for item in closing] == ["MoreMessages"]
    for store in stores:
        await store.close()


async def test_a_run_that_somebody_else_has_made_meanwhile_leaves_no_history_of_ours(
    store: Any, postgres_url: str
) -> None:
    """Its id is not there when the statement begins, and is there when it writes."""
    other = await asyncpg.connect(postgres_url)
    await other.execute("SELECT pg_advisory_lock(42)")
    await other.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$; "
        "CREATE TRIGGER wait BEFORE INSERT ON instances FOR EACH ROW WHEN (NEW.run_id = 'a-1') EXECUTE FUNCTION wait()"
    )
    await store.create([new("b")])
    making = asyncio.create_task(store.create([new("a")]))
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted"
    while not await other.fetchval(waiting):  # noqa: ASYNC110  (the server tells nobody of its locks)
        await asyncio.sleep(0.01)
    names = ", ".join(RUN_COLUMNS)
    mine = ", ".join(
        {"part": str(part_of("a")), "instance_id": "'a'", "run_id": "'a-2'"}.get(n, n) for n in RUN_COLUMNS
    )
    await other.execute(
        f"INSERT INTO instances ({names}) SELECT {mine} FROM instances WHERE instance_id = 'b'"
    )
    await other.execute("SELECT pg_advisory_unlock(42)")
    assert (await making).items == [Taken(run_id="a-2", workflow="Order", state="running")]
    assert await other.fetchval("SELECT count(*) FROM history WHERE instance_id = 'a'") == 0
    await other.close()


async def test_tasks_go_with_their_run(store: Any, sent: Sent, postgres_url: str) -> None:
    await store.create([first := new("a"), other := new("b")])
    scheduled = [step(one, activities=(activity(2), activity(3))) for one in (first, other)]
    await store.commit(scheduled)
    sent.texts.clear()
    assert (await store.commit([done(scheduled[0])])).items == [Accepted()]
    assert len(sent.texts) == 1
    assert {row[3] for row in (await _rows(postgres_url))["activities"]} == {"b"}


@pytest.mark.parametrize(
    ("sql", "columns", "values"),
    [
        (one_statement.MAKE, one_statement._NEW, ()),
        (
            one_statement.move(
                **dict.fromkeys(("closed", "read", "cleared", "absorbed", "gone", "scheduled"), True)
            ),
            one_statement._STEP,
            (),
        ),
        (one_statement.TELL, one_statement._MESSAGE, ()),
        (LEASE_PLAIN, PLACED, ("w1", 1, "t", 5, 5)),
    ],
)
async def test_rows_are_found_by_key_whatever_the_size_of_the_tables(
    store: Any, sql: str, columns: dict[str, Kind], values: tuple[Any, ...]
) -> None:
    """On small tables another index may look cheaper; the plan is kept when they have grown."""
    text, parameters = store._database._texts.plain(sql, values, Wanted(columns, [[None] * len(columns)]))
    async with store._database._pool.lent() as loan:
        await loan.connection.execute(f"PREPARE it AS {text}")
        plan = await loan.connection.fetch(f"EXPLAIN EXECUTE it({', '.join(['NULL'] * len(parameters))})")
        await loan.connection.execute("DEALLOCATE it")
        loan.sound = True
    scans = [row[0] for row in plan if " Scan " in row[0] and " CTE Scan " not in f" {row[0]}"]
    tables = [line for line in scans if "Function Scan" not in line and "Subquery Scan" not in line]
    assert tables and all("_pkey on" in line for line in tables), plan


async def test_keys_are_looked_up_one_by_one_however_few_there_were(store: Any) -> None:
    """With five thousand new ones for five thousand old ones, a join that began with the old took 25 times as long."""
    await store.create([new("a")])
    await store.send([message("a", "only")])
    wanted = Wanted({**INSTANCE_KEY, "name": "id"}, [(0, "a", str(n)) for n in range(1_000)])
    text, parameters = store._database._texts.plain(KNOWN_KEYS, (), wanted)
    async with store._database._pool.lent() as loan:
        await loan.connection.execute("ANALYZE")
        plan = "\n".join(row[0] for row in await loan.connection.fetch(f"EXPLAIN {text}", *parameters))
        loan.sound = True
    assert "SubPlan" in plan and "message_keys_pkey" in plan and "Nested Loop" not in plan, plan


async def test_what_comes_while_a_claim_is_handed_out_is_for_the_next_claim(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inbox is read behind the lease; a message behind it has made the run ready again."""
    await store.create([new("a")])
    await store.send([message("a", "first")])
    plain = PostgresSession._fetched

    async def fetched(session: Any, text: str, parameters: Any) -> Any:
        rows = await plain(session, text, parameters)
        if text.startswith("WITH lazy"):
            monkeypatch.setattr(PostgresSession, "_fetched", plain)
            await store.send([message("a", "second")])
        return rows

    monkeypatch.setattr(PostgresSession, "_fetched", fetched)
    (task,) = (await store.claim_workflow_tasks(claimant("w1", 10_000_000), 5)).items
    assert [one.key for one in task.messages] == ["first"] and task.seen == 1
    (again,) = (await store.claim_workflow_tasks(claimant("w1", 10_000_000), 5)).items
    assert [one.key for one in again.messages] == ["first", "second"] and again.seen == 2
    assert (task.claims, again.claims) == (1, 1), "who has it is alive"


async def test_messages_leave_the_same_rows_as_the_general_way(two_urls: tuple[str, str]) -> None:
    found = []
    for url, word in zip(two_urls, ("on", "off"), strict=True):
        clock = ManualClock()
        store: Any = await open_store(url, clock=clock, wakeups="off", one_statement=word)
        at = [
            new("x", "x-1", head=Head(number=1, token="x")),
            new("y", "y-1", head=Head(number=1, token="y"), lease=WORKER),
        ]
        await store.create(at)
        clock.advance(1_000)
        for key in ("one", "two", "one"):
            sent = [message("x", key, body="\0\x1a"), message("y", key, run_id="y-1")]
            assert (await store.send(sent)).items == [Accepted()] * 2
            clock.advance(1_000)
        rows = await _rows(url)
        found.append({name: [row for row in rows[name] if row[1] in "xy"] for name in rows})
        await store.close()
    assert found[0] == found[1]
    assert [len(found[0][name]) for name in ("instances", "inbox", "message_keys")] == [2, 4, 4]


async def test_messages_are_one_statement_unless_they_are_known_or_not_wanted(store: Any, sent: Sent) -> None:
    await store.create([new(name) for name in "abc"])
    await store.commit([done(new("c", head=(await store.get([InstanceRef(instance_id="c")])).items[0].head))])
    sent.texts.clear()
    assert (await store.send([message("a", "k"), message("b", "k")])).items == [Accepted()] * 2
    assert len(sent.texts) == 1
    asked = [message("a", "k"), message("b", "other"), message("c"), message("d"), message("b", run_id="old")]
    verdicts = (await store.send(asked[:4])).items
    assert verdicts == [Accepted(), Accepted(), Finished(state="completed"), NotFound()]
    assert (await store.send(asked[4:])).items == [NotFound()]
    (task,) = [
        one
        for one in (await store.claim_workflow_tasks(claimant("w1", 1), 9)).items
        if one.instance_id == "a"
    ]
    assert [(one.number, one.key) for one in task.messages] == [(1, "k")]


async def test_many_that_send_at_once_number_their_messages_without_gaps(postgres_url: str) -> None:
    stores: list[Any] = [await open_store(postgres_url, wakeups="off") for _ in range(3)]
    await stores[0].create([new("a")])

    async def send(store: Any, key: str) -> None:
        while (await store.send([message("a", key)])).items == [Busy()]:  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0)

    await asyncio.gather(*(send(store, f"{n % 20}") for n in range(30) for store in stores))
    (task,) = (await stores[0].claim_workflow_tasks(claimant("w1", 1), 9)).items
    assert [one.number for one in task.messages] == [*range(1, 21)]
    assert len({one.key for one in task.messages}) == 20
    for store in stores:
        await store.close()


async def test_tasks_leave_the_same_rows_as_the_general_way(two_urls: tuple[str, str]) -> None:
    found = []
    for url, word in zip(two_urls, ("on", "off"), strict=True):
        clock = ManualClock()
        store: Any = await open_store(url, clock=clock, wakeups="off", one_statement=word)
        first = new("t", "t-1", head=Head(number=1, token="t"), lease=WORKER)
        await store.create([first])
        tasks = (
            activity(2, lease=WORKER, payload='["\'ä\\n\\\\"]'),
            activity(3, queue_timeout_us=500),
            activity(4, lease=WORKER, queue_timeout_us=500),
            activity(5),
        )
        at = replace(step(first, activities=tasks), new_head=Head(number=2, token="t2"))
        rows = [await _committed(store, at, clock, url)]
        absorbed = (Absorbed(number=2, token="t1"), Absorbed(number=4, token="t1"))
        at = step(at, absorbed=absorbed, withdrawn=(5,), activities=(activity(6, payload="\x1a"),))
        at = replace(at, new_head=Head(number=3, token="t3"))
        rows.append(await _committed(store, at, clock, url))
        at = replace(step(at, activities=(activity(7),)), new_head=Head(number=4, token="t4"))
        rows.append(await _committed(store, at, clock, url))
        found.append(rows)
        await store.close()
    assert found[0] == found[1]
    assert [len(rows) for rows in found[0]] == [1 + 4 + 2, 1 + 2 + 3, 1 + 3 + 4]


async def _committed(store: Any, checkpoint: Checkpoint, clock: ManualClock, url: str) -> list[Any]:
    clock.advance(1_000)
    assert (await store.commit([checkpoint])).items == [Accepted()]
    tables = await _rows(url)
    return [row for name in ("instances", "activities", "history") for row in tables[name] if "t" in row]


async def test_tasks_come_and_go_with_one_statement(store: Any, sent: Sent) -> None:
    await store.create([first := new("a"), other := new("b")])
    tasks = (activity(2, lease=WORKER), activity(3, lease=WORKER))
    scheduled = [step(one, activities=tasks) for one in (first, other)]
    await store.commit(scheduled)
    right = step(scheduled[0], absorbed=(Absorbed(number=2, token="t1"), Absorbed(number=3, token="t1")))
    await store.commit([right])
    assert len(sent.texts) == 3
    wrong = (Absorbed(number=2, token="t1"), Absorbed(number=3, token="other"))
    assert (await store.commit([step(scheduled[1], absorbed=wrong)])).items == [Lost()]
    gone = (Absorbed(number=2, token="t1"), Absorbed(number=4, token="t1"))
    assert (await store.commit([step(scheduled[1], absorbed=gone)])).items == [Lost()]
    (twice,) = (await store.commit([step(scheduled[1], activities=(activity(3),))])).items
    assert isinstance(twice, Refused)
    assert (await store.commit([step(scheduled[1], withdrawn=(2,))])).items == [Accepted()]


async def test_a_task_that_somebody_holds_makes_its_checkpoint_busy(store: Any, postgres_url: str) -> None:
    await store.create([first := new("a")])
    await store.commit([at := step(first, activities=(activity(2, lease=WORKER),))])
    holder = await asyncpg.connect(postgres_url)
    async with holder.transaction():
        await holder.execute("UPDATE activities SET token = 'other'")
        async with asyncio.timeout(2):
            last = step(at, absorbed=(Absorbed(number=2, token="t1"),))
            assert (await store.commit([last])).items == [Busy()]
    assert (await store.commit([last])).items == [Lost()]
    await holder.close()
