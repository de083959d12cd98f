"""What is special to the SQLite store: opening, other processes, locks, checkpoints, plans, unreadable rows."""

# ruff: noqa: ASYNC240 - a test may block its loop for a look at a file

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from durable.backends.records import (
    Accepted,
    Created,
    Filter,
    HistoryRange,
    InstanceRef,
    NewActivity,
    Overdue,
    Refused,
    WorkflowTask,
)
from durable.backends.sqlite import activity_claims, crews, opening, run_claims
from durable.backends.sqlite.reading import HISTORY
from durable.backends.sqlite.store import SqliteStore, open_store
from durable.errors import BackendError
from durable.testing.conformance.specimens import claimant, done, ended, message, new, step

LEASE_US = 10_000_000


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


@contextlib.contextmanager
def by_hand(path: Path) -> Iterator[sqlite3.Connection]:
    """A stranger's connection to the file. It makes no checkpoints."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA wal_autocheckpoint = 0")
    try:
        yield db
    finally:
        db.close()


async def claimed(store: SqliteStore, limit: int = 100, **fields: Any) -> list[str]:
    answer = await store.claim_workflow_tasks(claimant("w1", LEASE_US, **fields), limit)
    return [item.instance_id for item in answer.items if isinstance(item, WorkflowTask)]


# --- addresses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://:memory:"])
async def test_a_url_without_a_file_points_to_the_memory_store(url: str) -> None:
    with pytest.raises(ValueError, match="memory://"):
        await open_store(url)


@pytest.mark.parametrize("url", ["sqlite://host/x.db", "postgresql:///x", "sqlite:///a#b.db"])
async def test_a_url_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=url.split("#", maxsplit=1)[0]):
        await open_store(url)


@pytest.mark.parametrize(("option", "says"), [("schema=x", "no schemas"), ("tiemout=1", "'tiemout'")])
async def test_an_unknown_option_is_named(path: Path, option: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        await open_store(f"sqlite:///{path}?{option}")
    assert not path.exists()


async def test_a_relative_path_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = await open_store("sqlite:///my%20shop.db", poll=1.0, schema=None)
    await store.close()
    assert (tmp_path / "my shop.db").exists()


# --- files that cannot be used ----------------------------------------------------------------------------------


async def refused(path: Path, **settings: Any) -> str:
    with pytest.raises(BackendError) as caught:
        await opened(path, **settings)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    return text


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_text("just a text " * 1000)
    assert "is not a SQLite database" in await refused(path)
    assert path.read_text() == "just a text " * 1000


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "does not exist" in await refused(tmp_path / "nowhere" / "shop.db")


async def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    assert "is a directory" in await refused(tmp_path)


async def test_another_applications_database_is_refused_and_left_as_it_is(path: Path) -> None:
    with by_hand(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    assert "another application" in await refused(path)
    with by_hand(path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


async def test_a_newer_schema_is_refused(path: Path) -> None:
    await (await opened(path)).close()
    with by_hand(path) as db:
        db.execute("PRAGMA user_version = 999")
        db.execute("UPDATE meta SET value = '2' WHERE name = 'oldest_schema'")
    assert "has schema 999, and this release knows 1 at most; use a newer release" in await refused(path)
    with by_hand(path) as db:
        db.execute("DELETE FROM meta WHERE name = 'oldest_schema'")
    assert "has schema 999" in await refused(path)


async def test_a_newer_schema_that_says_that_this_release_may_go_on_is_used_and_left_as_it_is(
    path: Path,
) -> None:
    await (await opened(path)).close()
    with by_hand(path) as db:
        db.execute("PRAGMA user_version = 999")
        db.execute("UPDATE meta SET value = '1' WHERE name = 'oldest_schema'")
    await (await opened(path)).close()
    with by_hand(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (999,)


async def test_a_read_only_file_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await opened(path)).close()
    # Root may write everything, so that chmod alone would show nothing.
    monkeypatch.setattr(os, "access", lambda name, mode: Path(name) != path)
    assert "is read-only" in await refused(path)


async def test_a_locked_file_is_waited_for_and_then_refused(path: Path) -> None:
    await (await opened(path)).close()
    with by_hand(path) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO meta VALUES ('x', 'y')")
        assert "locked by another process" in await refused(path, busy_timeout_seconds=0.05)
        db.execute("ROLLBACK")


async def test_a_damaged_file_is_a_clear_error(path: Path) -> None:
    store = await opened(path)
    for n in range(50):
        await store.create([new(f"i{n}")])
    await store.close()
    raw = bytearray(path.read_bytes())
    raw[4096:] = os.urandom(len(raw) - 4096)
    path.write_bytes(raw)
    with pytest.raises(BackendError, match="damaged"):
        store = await opened(path)
        try:
            await store.find(Filter())
        finally:
            await store.close()


async def test_a_file_that_was_deleted_meanwhile_takes_no_more_writes(path: Path) -> None:
    store = await opened(path)
    path.unlink()
    with pytest.raises(BackendError, match="deleted or replaced"):
        await store.create([new("a")])
    await store.close()


async def test_two_that_start_together_make_one_schema(path: Path) -> None:
    stores = await asyncio.gather(*(opened(path) for _ in range(4)))
    answers = await asyncio.gather(*(store.create([new("a", f"r{n}")]) for n, store in enumerate(stores)))
    assert sum(isinstance(answer.items[0], Created) for answer in answers) == 1
    for store in stores:
        await store.close()


async def test_an_old_sqlite_is_warned_of_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    monkeypatch.setattr(opening, "_warned", [])
    with caplog.at_level(logging.WARNING, "durable"):
        for _ in range(2):
            await (await opened(path)).close()
        assert len(caplog.records) == 1 and "3.51.3" in caplog.text
        monkeypatch.setattr(opening, "_warned", [])
        monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
        await (await opened(path)).close()
    assert len(caplog.records) == 1


# --- one transaction for many calls -----------------------------------------------------------------------------


async def test_calls_that_wait_together_share_a_transaction(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    run = crews.Writer.run
    monkeypatch.setattr(
        crews.Writer, "run", lambda self, calls: (batches.append(len(calls)), run(self, calls))[1]
    )
    await asyncio.gather(*(store.create([new(f"i{n}")]) for n in range(50)))
    assert sum(batches) == 50
    assert len(batches) <= 5


async def test_a_call_that_fails_does_not_hurt_those_in_its_transaction(store: SqliteStore) -> None:
    def fail(tx: crews.Transaction) -> None:
        tx.db.execute("INSERT INTO meta VALUES ('half', 'done')")
        tx.db.execute("no such statement")

    results = await asyncio.gather(
        store.create([new("a")]), store._write(fail), store.create([new("b")]), return_exceptions=True
    )
    assert isinstance(results[1], BackendError)
    with by_hand(Path(store.url.removeprefix("sqlite:///"))) as db:
        assert db.execute("SELECT instance_id FROM instances ORDER BY 1").fetchall() == [("a",), ("b",)]
        assert db.execute("SELECT name FROM meta").fetchall() == [("oldest_schema",)]


async def test_when_the_commit_fails_nobody_is_told_that_it_was_done(store: SqliteStore) -> None:
    class Broken:
        def __init__(self, db: sqlite3.Connection) -> None:
            self.db = db

        def execute(self, sql: str, *values: Any) -> Any:
            if sql == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return self.db.execute(sql, *values)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.db, name)

    writer: Any = store._writer._crew
    whole, writer._db = writer._db, Broken(writer._db)
    results = await asyncio.gather(*(store.create([new(n)]) for n in "ab"), return_exceptions=True)
    assert [type(result) for result in results] == [BackendError, BackendError]
    writer._db = whole
    assert (await store.get([InstanceRef(instance_id="a")])).items == [None]
    assert (await store.create([new("a")])).items == [Created(run_id="a-1")]


async def test_an_item_that_sqlite_cannot_keep_is_refused_alone(store: SqliteStore) -> None:
    verdicts = (await store.create([new("a"), new("b", start_at_us=2**70), new("c")])).items
    assert verdicts[::2] == [Created(run_id="a-1"), Created(run_id="c-1")]
    assert isinstance(verdicts[1], Refused) and "too large" in verdicts[1].reason


async def test_a_busy_file_is_waited_for(store: SqliteStore, path: Path) -> None:
    with by_hand(path) as db:
        db.execute("BEGIN IMMEDIATE")
        creating = asyncio.ensure_future(store.create([new("a")]))
        assert (await store.get([InstanceRef(instance_id="a")])).items == [None], "a read waited for the lock"
        assert not creating.done()
        db.execute("ROLLBACK")
        assert (await creating).items == [Created(run_id="a-1")]


async def test_a_file_that_stays_busy_is_a_clear_error_and_nothing_is_lost(path: Path) -> None:
    store = await opened(path, busy_timeout_seconds=0.05)
    with by_hand(path) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendError, match=r"locked by another process for 0\.05 s"):
            await store.create([new("a")])
        db.execute("ROLLBACK")
    assert (await store.create([new("a")])).items == [Created(run_id="a-1")]
    await store.close()


async def test_closing_waits_for_calls_that_are_under_way(path: Path) -> None:
    store = await opened(path)
    with by_hand(path) as db:
        db.execute("BEGIN IMMEDIATE")
        first = asyncio.ensure_future(store.create([new("first")]))
        await store._reader.call(lambda tx: None)  # the writer has the first call, and waits for the lock
        calls = [first, *(asyncio.ensure_future(store.create([new(f"i{n}")])) for n in range(20))]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        db.execute("ROLLBACK")
    await closing
    assert all(isinstance(answer.items[0], Created) for answer in await asyncio.gather(*calls))
    with pytest.raises(BackendError, match="is closed"):
        await store.create([new("late")])
    await store.close()
    assert not path.with_name("shop.db-wal").exists(), "the last to close empties the log"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_forked_child_is_told_to_open_the_store_again(store: SqliteStore) -> None:
    read_end, write_end = os.pipe()
    if (child := os.fork()) == 0:
        try:
            store._writer.call(lambda tx: None)
        except BackendError as error:
            os.write(write_end, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)  # noqa: ASYNC222 - it ends at once
    assert b"open the store again in the child" in os.read(read_end, 1000)
    os.close(read_end)
    os.close(write_end)


# --- checkpoints of the log -------------------------------------------------------------------------------------


async def test_a_checkpoint_is_made_under_the_write_lock_only(store: SqliteStore, path: Path) -> None:
    await store.create([new(f"i{n}") for n in range(100)])
    writer: Any = store._writer._crew
    size = path.stat().st_size
    with by_hand(path) as db:
        db.execute("BEGIN IMMEDIATE")
        await store._reader.call(lambda tx: None)
        await _on_thread(store, writer.checkpoint)
        assert path.stat().st_size == size, "it made a checkpoint although another process held the lock"
        db.execute("ROLLBACK")
    held: list[str] = []
    checkpoint = writer._checkpoints

    class Watching:
        def execute(self, sql: str) -> Any:
            with by_hand(path) as db:
                db.execute("PRAGMA busy_timeout = 0")
                with contextlib.suppress(sqlite3.OperationalError):
                    db.execute("BEGIN IMMEDIATE")
                    held.append("nobody")
            held.append(sql)
            return checkpoint.execute(sql)

    writer._checkpoints = Watching()
    await _on_thread(store, writer.checkpoint)
    writer._checkpoints = checkpoint
    assert held == ["PRAGMA wal_checkpoint(PASSIVE)"]
    assert path.stat().st_size > size


async def _on_thread(store: SqliteStore, work: Any) -> None:
    """Run on the writer's thread, after a batch."""
    writer: Any = store._writer._crew
    done, loop = asyncio.Event(), asyncio.get_running_loop()
    writer.after = lambda: (work(), loop.call_soon_threadsafe(done.set))
    # Not awaited as a call: its batch may fail, for another holds the lock.
    writer.run = lambda calls: None
    store._writer.call(lambda tx: None)
    await done.wait()
    del writer.after, writer.run


async def test_the_log_does_not_grow_for_ever(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crews, "CHECKPOINT_AFTER_CHANGES", 100)
    sizes = []
    for n in range(30):
        await store.create([new(f"i{n}-{k}") for k in range(50)])
        sizes.append(path.with_name("shop.db-wal").stat().st_size)
    assert max(sizes) < 3 * sizes[1]


async def test_no_connection_makes_checkpoints_by_itself(store: SqliteStore) -> None:
    writer, reader = store._writer, store._reader
    for lane in (writer, reader):
        found = await lane.call(lambda tx: tx.db.execute("PRAGMA wal_autocheckpoint").fetchone())
        assert found == (0,)
        assert await lane.call(lambda tx: tx.db.execute("PRAGMA synchronous").fetchone()) == (2,)


# --- other processes --------------------------------------------------------------------------------------------

OTHER = """
import asyncio, sys, time
from durable.backends.sqlite import open_store
from durable.testing.conformance.specimens import new, step

async def main():
    store = await open_store(sys.argv[1])
    print("open", flush=True)
    for line in sys.stdin:
        prefix, count = line.split()
        for n in range(int(count)):
            (answer,) = (await store.create([new(f"{prefix}{n}")])).items
            print(f"{prefix}{n}", time.monotonic(), flush=True)
    await store.close()

asyncio.run(main())
"""


@contextlib.contextmanager
def other_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, f"sqlite:///{path}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def ask(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


async def test_a_write_of_another_process_rings_the_bell_soon(store: SqliteStore, path: Path) -> None:
    listener = store.bell.listen("workflow")
    delays = []
    with other_process(path) as process:
        assert process.stdout is not None
        for n in range(20):
            await listener.wait(0)
            ask(process, f"x{n}- 1")
            assert await listener.wait(5), "nobody rang"
            heard = time.monotonic()
            delays.append(heard - float(process.stdout.readline().split()[1]))
    listener.close()
    assert sorted(delays)[10] < 0.05, f"a start by another process was noticed after {sorted(delays)}"


async def test_nobody_listens_for_others_when_nobody_waits(store: SqliteStore) -> None:
    assert store._writer.idle_seconds is None
    one, other = store.bell.listen("workflow"), store.bell.listen("closed")
    assert store._writer.idle_seconds is not None
    one.close()
    one.close()
    assert store._writer.idle_seconds is not None
    other.close()
    assert store._writer.idle_seconds is None


async def test_own_writes_are_not_taken_for_those_of_others(store: SqliteStore) -> None:
    await store.create([new("a")])
    listener = store.bell.listen("reply")
    await store.create([new("b")])
    assert not await listener.wait(0.1)
    listener.close()


async def test_several_processes_write_to_one_file(store: SqliteStore, path: Path) -> None:
    with other_process(path) as one, other_process(path) as other:
        ask(one, "one 100")
        ask(other, "other 100")
        await asyncio.gather(*(store.create([new(f"mine{n}")]) for n in range(100)))
    assert len((await store.find(Filter(limit=1000))).items) == 300
    assert (await store.audit()).items == []


async def test_what_a_killed_process_was_told_is_there_and_nothing_is_locked(path: Path) -> None:
    with other_process(path) as process:
        assert process.stdout is not None
        ask(process, "x 100000")
        told = [process.stdout.readline().split()[0] for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        told += [line.split()[0] for line in process.stdout.read().splitlines() if line.count(" ") == 1]
    store = await opened(path, busy_timeout_seconds=1)
    views = (await store.get([InstanceRef(instance_id=name) for name in told])).items
    assert None not in views
    assert (await store.audit()).items == []
    assert (await store.create([new("after")])).items == [Created(run_id="after-1")]
    with by_hand(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    await store.close()


# --- plans ------------------------------------------------------------------------------------------------------


def plan(db: sqlite3.Connection, sql: str) -> str:
    marks = max(sql.count("?"), 0)
    values = [1] * (4 if "?4" in sql else marks)
    return "; ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", values))


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (
            run_claims.READY,
            "instances_claimable (queue=? AND workflow=? AND version=? AND claimable_at_us<?)",
        ),
        (run_claims.OWN, "instances_leased (lease_owner=? AND ready_at_us>?)"),
        (run_claims.OVERDUE, "instances_overdue (overdue_at_us<?)"),
        (
            run_claims.RETRYABLE,
            "instances_retryable (queue=? AND workflow=? AND version=? AND retryable_at_us<?)",
        ),
        (run_claims.CLOSINGS, "closings_claimable (claimable_at_us<?)"),
        (run_claims.UNFINISHED_CHILDREN, "instances_children (parent_id=? AND parent_run_id=?)"),
        (run_claims.NEXT_READY, "instances_claimable (queue=? AND workflow=? AND version=?"),
        (activity_claims.CLAIMABLE, "activities_claimable (queue=? AND name=? AND claimable_at_us<?)"),
        (activity_claims.EXPIRABLE, "activities_expirable (expirable_at_us<?)"),
        (activity_claims.NEXT_CLAIMABLE, "activities_claimable (queue=? AND name=?"),
        (HISTORY, "PRIMARY KEY (part=? AND instance_id=? AND run_id=? AND first_number>?)"),
    ],
)
async def test_a_claim_reads_one_range_of_one_index(
    store: SqliteStore, path: Path, sql: str, index: str
) -> None:
    with by_hand(path) as db:
        found = plan(db, sql)
    assert index in found
    assert "SCAN" not in found
    if sql != run_claims.UNFINISHED_CHILDREN:
        assert "TEMP B-TREE" not in found, "it sorts all that is due"


async def test_many_due_runs_of_others_do_not_slow_a_claim(store: SqliteStore, path: Path) -> None:
    for n in range(0, 5_000, 1_000):
        await store.create([new(f"other{n}-{k}", workflow="Unknown") for k in range(1_000)])
    await store.create([new("mine")])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def work(tx: crews.Transaction) -> int:
        tx.db.set_progress_handler(count, 100)
        found = run_claims._ready(tx, claimant("w1", LEASE_US), 10)
        tx.db.set_progress_handler(None, 0)
        assert found == ["mine"]
        return steps

    assert await store._write(work) < 20, "the claim looked at runs that are not its own"


# --- rows that cannot be read -----------------------------------------------------------------------------------

BROKEN_TEXT = "CAST(x'ff41' AS TEXT)"


@pytest.mark.parametrize(
    "column", ["head_token", "lease_owner", "result", "parent_id", "tags", "first_run_id"]
)
async def test_a_row_that_cannot_be_read_parks_only_its_own_run(
    store: SqliteStore, path: Path, column: str
) -> None:
    await store.create([new(name) for name in "abc"])
    with by_hand(path) as db:
        db.execute(f"UPDATE instances SET {column} = {BROKEN_TEXT} WHERE instance_id = 'b'")
    assert await claimed(store) == ["a", "c"]
    assert await claimed(store) == []
    view = (await store.get([InstanceRef(instance_id="b")])).items[0]
    assert view is not None and view.state == "stalled"
    assert view.problem is not None and "'b'" in view.problem.report
    assert len((await store.find(Filter())).items) == 3


async def test_a_message_that_cannot_be_read_parks_only_its_own_run(store: SqliteStore, path: Path) -> None:
    await store.create([new(name, messages=(message(name),)) for name in "abc"])
    with by_hand(path) as db:
        db.execute(f"UPDATE inbox SET body = {BROKEN_TEXT} WHERE instance_id = 'b'")
    assert await claimed(store) == ["a", "c"]
    view = (await store.get([InstanceRef(instance_id="b")])).items[0]
    assert view is not None and view.state == "stalled"


async def test_an_activity_that_cannot_be_read_parks_only_its_own_run(store: SqliteStore, path: Path) -> None:
    runs = [new(name) for name in "abc"]
    await store.create(runs)
    task = NewActivity(number=1, name="charge", queue="default", payload="[]", options="{}")
    await store.commit([step(run, activities=(task,)) for run in runs])
    with by_hand(path) as db:
        db.execute(f"UPDATE activities SET payload = {BROKEN_TEXT} WHERE instance_id = 'b'")
    answer = await store.claim_activity_tasks(claimant("w1", LEASE_US), 10)
    assert sorted(item.ref.instance_id for item in answer.items) == ["a", "c"]
    assert (await store.claim_activity_tasks(claimant("w1", LEASE_US), 10)).items == []
    view = (await store.get([InstanceRef(instance_id="b")])).items[0]
    assert view is not None and view.state == "stalled"


async def test_tags_that_are_no_json_hurt_nobody(store: SqliteStore, path: Path) -> None:
    await store.create([new(name, tags={"shop": "7"}) for name in "abc"])
    with by_hand(path) as db:
        db.execute("UPDATE instances SET tags = 'not json', vars = '[1]' WHERE instance_id = 'b'")
    views = {view.instance_id: view for view in (await store.find(Filter())).items}
    assert views["b"].tags == {} and views["b"].problem is not None
    assert len((await store.find(Filter(tags={"shop": "7"}))).items) == 2
    assert await claimed(store) == ["a", "b", "c"]
    assert {(found.rule.split()[0], found.instance_id) for found in (await store.audit()).items} == {
        ("I29", "b")
    }


async def test_a_broken_history_is_cut_off_and_found(store: SqliteStore, path: Path) -> None:
    runs = [new(name, events=(b"1", b"2")) for name in "ab"]
    await store.create(runs)
    await store.commit([step(run, b"3", b"4\n4") for run in runs])
    with by_hand(path) as db:
        db.execute("UPDATE history SET events = x'ff00' WHERE instance_id = 'b' AND first_number = 1")
        db.execute("UPDATE history SET lengths = 'x' WHERE instance_id = 'b' AND first_number = 3")
    wanted = [HistoryRange(instance_id=name, run_id=f"{name}-1") for name in "ab"]
    slices = (await store.read_history(wanted)).items
    assert [part.events for part in slices] == [(b"1", b"2", b"3", b"4\n4"), ()]
    assert [(found.rule.split()[0], found.instance_id) for found in (await store.audit()).items] == [
        ("I29", "b")
    ] * 2


# --- for people -------------------------------------------------------------------------------------------------


async def test_people_find_their_records_in_a_view(store: SqliteStore, path: Path) -> None:
    asked = new("order-1")
    await store.create([asked])
    assert (await store.commit([step(asked, status="paid", vars={"total": "42"})])).items == [Accepted()]
    with by_hand(path) as db:
        rows = db.execute(
            "SELECT workflow_name, foreign_id, run_id, run_state, status, object ->> 'total', created_at "
            "FROM workflow_records"
        ).fetchall()
        assert [row[:6] for row in rows] == [("Order", "order-1", "order-1-1", "running", "paid", "42")]
        assert rows[0][6].startswith("20") and rows[0][6].endswith("Z")
        assert db.execute("SELECT count(*) FROM workflow_outbox").fetchone() == (0,)


async def test_a_run_past_its_deadline_is_handed_out_once(path: Path) -> None:
    now = 1_700_000_000_000_000
    store = await opened(path, clock=lambda: now)
    await store.create([new("a", timeout_us=5, workflow="Unknown")])
    now += 5
    for expected in (1, 0):
        items = (await store.claim_workflow_tasks(claimant("w1", LEASE_US), 10)).items
        assert [type(item) for item in items] == [Overdue] * expected
    await store.close()


async def test_a_parked_run_is_ended_at_its_deadline_all_the_same(path: Path) -> None:
    now = 1_700_000_000_000_000
    store = await opened(path, clock=lambda: now)
    await store.create([new("a", timeout_us=5, messages=(message("a"),))])
    with by_hand(path) as db:
        db.execute(f"UPDATE inbox SET body = {BROKEN_TEXT}")
    assert await claimed(store) == []
    now += 5
    (item,) = (await store.claim_workflow_tasks(claimant("w1", LEASE_US), 10)).items
    assert isinstance(item, Overdue)
    assert (await store.change([ended("a", item.run_id)])).items == [Accepted()]
    await store.close()


async def test_an_overdue_row_that_cannot_be_read_is_looked_at_now_and_then(path: Path) -> None:
    now = 1_700_000_000_000_000
    store = await opened(path, clock=lambda: now)
    await store.create([new("a", timeout_us=5)])
    with by_hand(path) as db:
        db.execute(f"UPDATE instances SET tags = {BROKEN_TEXT}")
    now += 5
    for _ in range(2):
        answer = await store.claim_workflow_tasks(claimant("w1", LEASE_US), 10)
        assert answer.items == [] and answer.next_wake_us == now + LEASE_US
    with by_hand(path) as db:
        db.execute("UPDATE instances SET tags = '{}'")
    now += LEASE_US
    (item,) = (await store.claim_workflow_tasks(claimant("w1", LEASE_US), 10)).items
    assert isinstance(item, Overdue)
    await store.close()


async def test_a_finished_run_leaves_nothing_for_claims(store: SqliteStore, path: Path) -> None:
    asked = new("a", messages=(message("a"),), timeout_us=1_000_000)
    await store.create([asked])
    await store.commit([done(asked, seen=1)])
    with by_hand(path) as db:
        for index in ("claimable_at_us", "overdue_at_us", "retryable_at_us", "ready_at_us", "lease_owner"):
            assert db.execute(f"SELECT {index} FROM instances").fetchone() == (None,)
        for table in ("inbox", "activities", "closings"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
