"""Transactions of callers and of activities on SQLite: whose they are, what they leave, how long they may wait."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from durable.backends.records import (
    Accepted,
    ActivityRef,
    ActivityTask,
    Created,
    Finished,
    InstanceRef,
    Lost,
    NotFound,
    Taken,
    WorkflowTask,
)
from durable.backends.sqlite import borrowed, transactions
from durable.backends.sqlite.store import SqliteStore, open_store
from durable.backends.sqlite.transactions import HeldConnection, HeldTransaction
from durable.errors import BackendError
from durable.testing.conformance.specimens import (
    activity,
    activity_lease,
    activity_ref,
    claimant,
    done,
    finished,
    message,
    new,
    step,
)

LEASE_US = 60_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await opened(path)
    yield store
    await store.close()


async def opened(path: Path, **settings: Any) -> SqliteStore:
    store = await open_store(f"sqlite:///{path}", **settings)
    assert isinstance(store, SqliteStore)
    return store


@asynccontextmanager
async def own(path: Path, **settings: Any) -> AsyncIterator[aiosqlite.Connection]:
    """A connection of the user's, with a table of the user's."""
    async with aiosqlite.connect(path, **settings) as db:
        await db.execute("PRAGMA wal_autocheckpoint = 0")
        await db.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT)")
        await db.commit()
        yield db


async def orders(path: Path) -> int:
    async with own(path) as db:
        return await count(db, "orders")


async def count(db: aiosqlite.Connection, table: str) -> int:
    async with db.execute(f"SELECT count(*) FROM {table}") as rows:
        found = await rows.fetchone()
    assert found is not None
    return int(found[0])


async def there(store: SqliteStore, instance_id: str = "a") -> bool:
    return (await store.get([InstanceRef(instance_id=instance_id)])).items[0] is not None


async def claimed_activity(store: SqliteStore, instance_id: str = "a") -> ActivityTask:
    """A run with an activity that a worker has."""
    first = new(instance_id)
    await store.create([first])
    await store.commit([step(first, activities=(activity(),))])
    (task,) = (await store.claim_activity_tasks(claimant("w1", LEASE_US), 1)).items
    return task


async def messages_of(store: SqliteStore) -> list[str]:
    tasks = (await store.claim_workflow_tasks(claimant("w2", LEASE_US), 10)).items
    return [one.key for task in tasks if isinstance(task, WorkflowTask) for one in task.messages]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "LIMIT_SECONDS", 0.05)


# --- in a caller's transaction ------------------------------------------------------------------------------------


async def test_a_run_is_there_when_the_caller_commits_and_not_before(store: SqliteStore, path: Path) -> None:
    async with own(path) as db:
        await db.execute("INSERT INTO orders VALUES ('a')")
        answer = await store.create_in(db, new())
        assert answer.items == [Created(run_id="a-1")]
        assert not await there(store)
        await db.commit()
    assert await there(store)
    assert [task.instance_id for task in (await store.claim_workflow_tasks(claimant("w1", 1), 9)).items] == [
        "a"
    ]


async def test_nothing_is_left_when_the_caller_rolls_back(store: SqliteStore, path: Path) -> None:
    async with own(path) as db:
        await db.execute("INSERT INTO orders VALUES ('a')")
        await store.create_in(db, new())
        await db.rollback()
        tables = [
            row[0] async for row in await db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        left = {table for table in tables if await count(db, table)}
    assert left <= {"meta"}
    assert (await store.create([new(run_id="other")])).items == [Created(run_id="other")]


async def test_a_message_is_there_when_the_caller_commits_and_not_before(
    store: SqliteStore, path: Path
) -> None:
    await store.create([new()])
    async with own(path) as db:
        for key in ("rolled back", "committed"):
            assert (await store.send_in(db, message(key=key))).items == [Accepted()]
            await (db.commit() if key == "committed" else db.rollback())
    assert await messages_of(store) == ["committed"]


async def test_the_verdicts_are_those_of_the_ordinary_calls(store: SqliteStore, path: Path) -> None:
    first = new()
    await store.create([first])
    async with own(path) as db:
        (taken,) = (await store.create_in(db, new(run_id="other"))).items
        assert isinstance(taken, Taken)
        assert (await store.send_in(db, message("nobody"))).items == [NotFound()]
        await db.commit()
        await store.commit([done(first)])
        assert (await store.send_in(db, message())).items == [Finished(state="completed")]


async def test_a_run_of_the_transaction_can_be_sent_to_in_it(store: SqliteStore, path: Path) -> None:
    async with own(path) as db:
        await store.create_in(db, new())
        assert (await store.send_in(db, message(key="k"))).items == [Accepted()]
        await db.commit()
    assert await messages_of(store) == ["k"]


async def test_without_an_open_transaction_one_is_begun_and_the_callers_commit_ends_it(
    store: SqliteStore, path: Path
) -> None:
    async with own(path) as db:
        await store.create_in(db, new())
        assert db.in_transaction
        await db.execute("INSERT INTO orders VALUES ('a')")
        await db.rollback()
    assert (await there(store), await orders(path)) == (False, 0)


async def test_in_autocommit_mode_an_open_transaction_is_demanded(store: SqliteStore, path: Path) -> None:
    async with own(path, isolation_level=None) as db:
        with pytest.raises(BackendError, match="autocommit mode and has no open transaction"):
            await store.create_in(db, new())
        assert not db.in_transaction
        await db.execute("BEGIN")
        await store.create_in(db, new())
        await db.execute("COMMIT")
    assert await there(store)


@pytest.mark.parametrize("commits", [True, False])
async def test_a_plain_connection_of_this_thread_will_do(
    store: SqliteStore, path: Path, commits: bool
) -> None:
    db = sqlite3.connect(path)
    try:
        await store.create_in(db, new())
        if commits:
            db.commit()
    finally:
        db.close()
    assert await there(store) == commits


async def test_the_connection_is_left_as_it_was(store: SqliteStore, path: Path) -> None:
    async with own(path, timeout=1.25) as db:
        db.row_factory, db.text_factory = dict_of, bytes
        await store.create_in(db, new())
        assert (db.row_factory, db.text_factory) == (dict_of, bytes)
        db.row_factory = None
        assert await (await db.execute("PRAGMA busy_timeout")).fetchone() == (1_250,)


def dict_of(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


async def test_an_error_leaves_the_callers_transaction_as_it_was(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(tx: Any, *_: Any) -> Any:
        tx.db.execute("DELETE FROM orders")
        raise sqlite3.OperationalError("the disk is on fire")

    async with own(path) as db:
        await db.execute("INSERT INTO orders VALUES ('a')")
        monkeypatch.setattr(transactions, "judge_all", broken)
        with pytest.raises(BackendError, match="on fire"):
            await store.create_in(db, new())
        await db.commit()
        assert await count(db, "orders") == 1
        with pytest.raises(BackendError, match="on fire"):
            await store.create_in(db, new())
        assert not db.in_transaction, "the one that was begun for it is ended, too"


# --- connections that will not do ---------------------------------------------------------------------------------


async def test_another_database_is_refused_and_both_are_named(store: SqliteStore, tmp_path: Path) -> None:
    async with own(tmp_path / "other.db") as db:
        with pytest.raises(BackendError, match=r"other\.db.*shop\.db"):
            await store.create_in(db, new())
        assert not db.in_transaction
    async with aiosqlite.connect(":memory:") as memory:
        with pytest.raises(BackendError, match=r"a database in memory.*shop\.db"):
            await store.send_in(memory, message())


async def test_the_same_file_by_another_name_is_the_same(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "linked").symlink_to(tmp_path)
    async with own(tmp_path / "linked" / path.name) as db:
        await store.create_in(db, new())
        await db.commit()
    assert await there(store)


async def test_another_drivers_connection_is_a_type_error(store: SqliteStore) -> None:
    class Connection:
        pass

    with pytest.raises(TypeError, match=r"aiosqlite connection to sqlite:///.*shop.db, not .*Connection"):
        await store.create_in(Connection(), new())
    with pytest.raises(TypeError, match=r"not builtins\.str"):
        await store.send_in("conn", message())


async def test_a_closed_connection_is_named_as_such(store: SqliteStore, path: Path) -> None:
    async with own(path) as db:
        pass
    with pytest.raises(BackendError, match="is closed"):
        await store.create_in(db, new())


async def test_aiosqlite_still_runs_functions_on_its_thread(path: Path) -> None:
    """The one thing of aiosqlite that is used and not promised: see `borrowed`."""
    async with own(path) as db:
        assert await db._execute(threading.get_ident) != threading.get_ident()  # type: ignore[no-untyped-call]
        assert isinstance(db._conn, sqlite3.Connection)


# --- locks --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
async def test_a_lock_that_is_not_let_go_is_one_clear_line(store: SqliteStore, path: Path) -> None:
    async with own(path) as holder, own(path) as db:
        await holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(
            BackendError, match=r"shop.db was locked by another connection for 0.05 s; end"
        ) as caught:
            await store.create_in(db, new())
        assert time.monotonic() - began < 2
        assert "\n" not in str(caught.value)
        assert not db.in_transaction


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_a_lock_is_waited_for(store: SqliteStore, path: Path, in_transaction: bool) -> None:
    async with own(path) as holder, own(path) as db:
        if in_transaction:
            await db.execute("BEGIN")
        await holder.execute("INSERT INTO orders VALUES ('a')")
        creating = asyncio.ensure_future(store.create_in(db, new()))
        await asyncio.sleep(0.02)
        assert not creating.done()
        await holder.commit()
        assert (await creating).items == [Created(run_id="a-1")]
        await db.commit()
    assert await there(store)


async def test_a_plain_connection_does_not_block_the_loop_while_it_waits(
    store: SqliteStore, path: Path
) -> None:
    db = sqlite3.connect(path, timeout=60)
    try:
        async with own(path) as holder:
            await holder.execute("INSERT INTO orders VALUES ('a')")
            creating = asyncio.ensure_future(store.create_in(db, new()))
            await asyncio.sleep(0.02)
            await holder.commit()
            await creating
        db.commit()
    finally:
        db.close()
    assert await there(store)


async def test_a_transaction_that_was_overtaken_is_told_so_at_once(store: SqliteStore, path: Path) -> None:
    async with own(path) as db:
        await db.execute("BEGIN")
        await count(db, "orders")
        await store.create([new("other")])
        with pytest.raises(BackendError, match="others have written since this transaction began to read"):
            await store.create_in(db, new())


async def test_what_is_judged_is_the_newest(store: SqliteStore, path: Path) -> None:
    """The lock comes before the reading: a run that another made meanwhile is seen."""
    async with own(path) as db:
        await db.execute("BEGIN")
        await store.create([new(run_id="other")])
        (taken,) = (await store.create_in(db, new())).items
        assert isinstance(taken, Taken)


async def test_old_sqlite_leaves_checkpoints_to_the_writer(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fixed, pages in [((999, 0, 0), 0), ((0, 0, 0), 1000)]:
        monkeypatch.setattr(borrowed, "WAL_RESET_FIXED", fixed)
        async with aiosqlite.connect(path) as db:
            await store.create_in(db, new())
            assert await (await db.execute("PRAGMA wal_autocheckpoint")).fetchone() == (pages,)


async def test_listeners_of_this_process_hear_the_callers_commit(store: SqliteStore, path: Path) -> None:
    delays = []
    async with own(path) as db:
        for number in range(5):
            listener = store.bell.listen("workflow")
            await store.create_in(db, new(f"i{number}"))
            await listener.wait(0.1)  # what was heard before
            await db.commit()
            began = time.monotonic()
            assert await listener.wait(5)
            delays.append(time.monotonic() - began)
            listener.close()
    assert min(delays) < 0.05, delays


# --- transactions of activities -----------------------------------------------------------------------------------


async def test_rows_and_the_result_come_together(store: SqliteStore, path: Path) -> None:
    task = await claimed_activity(store)
    async with own(path):
        pass
    held = await store.begin(task.ref, task.token)
    await held.connection.execute("INSERT INTO orders VALUES ('a')")
    assert await orders(path) == 0
    listener = store.bell.listen("workflow")
    store._writer.idle_seconds = None  # the writer does not listen: the bell is rung by the commit itself
    assert await held.finish(finished(task)) == Accepted()
    assert await orders(path) == 1
    assert await listener.wait(5)
    assert await messages_of(store) == [f"activity/{task.ref.run_id}/{task.ref.number}"]
    await held.rollback()
    assert await store.finish_activities([finished(task)]) is not None
    assert (await store.finish_activities([finished(task)])).items == [Lost()]
    listener.close()


async def test_a_rollback_leaves_neither(store: SqliteStore, path: Path) -> None:
    task = await claimed_activity(store)
    async with own(path):
        pass
    held = await store.begin(task.ref, task.token)
    await held.connection.execute("INSERT INTO orders VALUES ('a')")
    await held.rollback()
    await held.rollback()
    assert await orders(path) == 0
    with pytest.raises(BackendError, match="was closed"):
        await held.finish(finished(task))
    assert (await store.finish_activities([finished(task)])).items == [Accepted()]


@pytest.mark.parametrize("what", ["token", "number"])
async def test_a_token_that_does_not_stand_opens_nothing(store: SqliteStore, what: str) -> None:
    task = await claimed_activity(store)
    ref = task.ref if what == "token" else activity_ref(new(), 99)
    with pytest.raises(BackendError, match="is not this worker's any more; nothing was written"):
        await store.begin(ref, "stolen" if what == "token" else task.token)
    held = await asyncio.wait_for(store.begin(task.ref, task.token), 5)
    await held.rollback()


async def test_an_outcome_whose_token_was_lost_takes_the_rows_with_it(store: SqliteStore, path: Path) -> None:
    task = await claimed_activity(store)
    async with own(path):
        pass
    held = await store.begin(task.ref, task.token)
    await held.connection.execute("INSERT INTO orders VALUES ('a')")
    assert await held.finish(finished(task, token="another")) == Lost()
    assert await orders(path) == 0


@pytest.mark.usefixtures("hasty")
async def test_after_the_limit_all_is_rolled_back_and_others_go_on(store: SqliteStore, path: Path) -> None:
    task = await claimed_activity(store)
    async with own(path):
        pass
    held = await store.begin(task.ref, task.token)
    await held.connection.execute("INSERT INTO orders VALUES ('a')")
    assert (await store.create([new("waits")])).items == [Created(run_id="waits-1")]
    with pytest.raises(BackendError, match=r"open for more than 0.05 s and was rolled back"):
        await held.connection.execute("INSERT INTO orders VALUES ('b')")
    with pytest.raises(
        BackendError, match=r"activity 1 of instance 'a'.*more than 0.05 s and was rolled back"
    ):
        await held.finish(finished(task))
    assert await orders(path) == 0


@pytest.mark.usefixtures("hasty")
async def test_a_statement_that_takes_longer_than_the_limit_is_ended(store: SqliteStore) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        await asyncio.wait_for(held.connection.execute_fetchall(endless), 20)
    with pytest.raises(BackendError, match="rolled back"):
        await held.finish(finished(task))


@pytest.mark.usefixtures("hasty")
async def test_the_limit_holds_though_the_loop_was_too_busy_to_tell(store: SqliteStore) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    assert isinstance(held, HeldTransaction)
    assert held._timer is not None
    held._timer.cancel()
    time.sleep(0.06)  # noqa: ASYNC251 - as an activity that computes does
    with pytest.raises(BackendError, match="rolled back"):
        await held.finish(finished(task))
    assert (await store.finish_activities([finished(task)])).items == [Accepted()]


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK", "END", "BEGIN"])
async def test_the_transaction_is_the_engines_to_end(store: SqliteStore, path: Path, statement: str) -> None:
    task = await claimed_activity(store)
    async with own(path):
        pass
    held = await store.begin(task.ref, task.token)
    connection = held.connection
    assert isinstance(connection, HeldConnection)
    await connection.execute("INSERT INTO orders VALUES ('a')")
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        await connection.execute(statement)
    for forbidden in (connection.commit, connection.rollback, lambda: connection.executescript("SELECT 1")):
        with pytest.raises(RuntimeError, match=r"durable.transaction\(\)"):
            forbidden()
    assert await orders(path) == 0
    await held.rollback()
    assert await orders(path) == 0


async def test_savepoints_are_free(store: SqliteStore, path: Path) -> None:
    task = await claimed_activity(store)
    async with own(path):
        pass
    held = await store.begin(task.ref, task.token)
    for statement in ("SAVEPOINT s", "INSERT INTO orders VALUES ('x')", "ROLLBACK TO s", "RELEASE s"):
        await held.connection.execute(statement)
    await held.connection.execute("INSERT INTO orders VALUES ('a')")
    assert await held.finish(finished(task)) == Accepted()
    assert await orders(path) == 1


async def test_after_a_rollback_of_sqlites_own_nothing_is_committed_alone(
    store: SqliteStore, path: Path
) -> None:
    task = await claimed_activity(store)
    async with own(path) as db:
        await db.execute("CREATE UNIQUE INDEX once ON orders (id)")
    held = await store.begin(task.ref, task.token)
    await held.connection.execute("INSERT INTO orders VALUES ('a')")
    with pytest.raises(sqlite3.IntegrityError):
        await held.connection.execute("INSERT OR ROLLBACK INTO orders VALUES ('a')")
    with pytest.raises(BackendError, match=r"rolled durable\.transaction"):
        await held.connection.execute("INSERT INTO orders VALUES ('b')")
    with pytest.raises(BackendError, match=r"rolled durable\.transaction"):
        await held.finish(finished(task))
    assert await orders(path) == 0


async def test_runs_and_messages_go_with_it(store: SqliteStore) -> None:
    task = await claimed_activity(store)
    await store.create([new("friend")])
    for kept in (False, True):
        held = await store.begin(task.ref, task.token)
        await store.create_in(held.connection, new("b"))
        await store.send_in(held.connection, message("friend"))
        assert await (held.finish(finished(task)) if kept else held.rollback()) == (
            Accepted() if kept else None
        )
        assert await there(store, "b") == kept


async def test_rows_of_another_shape_do_not_confuse_the_engine(store: SqliteStore) -> None:
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    held.connection.row_factory, held.connection.text_factory = dict_of, bytes
    assert await held.finish(finished(task)) == Accepted()


async def test_the_store_goes_on_between_transactions_and_leases_are_kept(store: SqliteStore) -> None:
    """Many at once: each has its turn, and so has the writer between any two."""
    tasks = [await claimed_activity(store, f"i{number}") for number in range(8)]
    order: list[str] = []

    async def transact(task: ActivityTask) -> None:
        held = await store.begin(task.ref, task.token)
        order.append("transaction")
        await asyncio.sleep(0.01)
        assert await held.finish(finished(task)) == Accepted()

    async def extend() -> None:
        while not all(one.done() for one in running):
            lease = activity_lease(tasks[-1], LEASE_US)
            await store.extend([lease])
            order.append("lease")

    running = [asyncio.ensure_future(transact(task)) for task in tasks]
    await asyncio.gather(extend(), *running)
    assert order.count("transaction") == 8
    assert "transaction transaction transaction" not in " ".join(order)


@pytest.mark.parametrize("ticks", range(0, 40, 3))
async def test_a_begin_that_is_cancelled_leaves_nothing_locked(store: SqliteStore, ticks: int) -> None:
    task = await claimed_activity(store)
    beginning = asyncio.ensure_future(store.begin(task.ref, task.token))
    for _ in range(ticks):
        await asyncio.sleep(0.0003)
    beginning.cancel()
    held = (await asyncio.gather(beginning, return_exceptions=True))[0]
    if not isinstance(held, BaseException):
        await held.rollback()
    again = await asyncio.wait_for(store.begin(task.ref, task.token), 5)
    assert await again.finish(finished(task)) == Accepted()


@pytest.mark.usefixtures("hasty")
async def test_a_begin_that_gets_no_lock_says_so(store: SqliteStore, path: Path) -> None:
    task = await claimed_activity(store)

    async def free() -> None:
        return None

    async with own(path) as holder:
        store._write = lambda _: free()  # type: ignore[method-assign, assignment, return-value]
        await holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendError, match=r"was locked by another connection for 0\.05 s"):
            await store.begin(task.ref, task.token)
        await holder.rollback()
    held = await asyncio.wait_for(store.begin(task.ref, task.token), 5)
    await held.rollback()


async def test_closing_the_store_ends_what_is_open(path: Path) -> None:
    store = await opened(path)
    task = await claimed_activity(store)
    held = await store.begin(task.ref, task.token)
    await asyncio.wait_for(store.close(), 5)
    with pytest.raises(BackendError):
        await held.finish(finished(task))
    with pytest.raises(BackendError, match="is closed"):
        await store.begin(ActivityRef(instance_id="a", run_id="a-1", number=1), task.token)
