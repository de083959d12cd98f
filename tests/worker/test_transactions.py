"""`connection=` and `durable.transaction()` through client and worker, on SQLite, and under ``kill -9``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

import durable
from durable import Retry
from durable.backends.sqlite import transactions
from durable.client.client import Client
from tests.worker import booking
from tests.worker.booking import Steps, book, open_account, shop
from tests.worker.stores import until

QUICK = Retry(initial=0.001, jitter=0.0)
ROOT = Path(__file__).resolve().parent.parent.parent
order_paid = durable.Signal("order_paid", str)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    return path


@pytest.fixture
async def client(path: Path) -> AsyncIterator[Client]:
    async with durable.connect(f"sqlite:///{path}?poll=30") as client:
        open_account(path)
        yield client


@contextlib.contextmanager
def by_hand(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


def rows(path: Path, sql: str = "SELECT id, cents FROM bookings") -> list[Any]:
    with by_hand(path) as db:
        return db.execute(sql).fetchall()


async def cause(client: Client, workflow: Any, *activities: Any) -> BaseException | None:
    async with durable.Worker(client, [workflow, *activities]):
        instance = await client.create_instance(workflow)
        with pytest.raises(durable.WorkflowFailed) as caught:
            await instance.result(timeout=20)
    return caught.value.__cause__


# --- connection= --------------------------------------------------------------------------------------------------


@durable.workflow
async def deliver(order: str) -> str:
    return f"{order} delivered"


@durable.workflow
async def wait_for_money() -> str:
    return await order_paid.receive()


@pytest.mark.parametrize("commits", [True, False])
async def test_a_workflow_starts_if_and_only_if_the_order_row_commits(
    client: Client, path: Path, commits: bool
) -> None:
    async with durable.Worker(client, [deliver]), aiosqlite.connect(path) as db:
        await db.execute("INSERT INTO bookings VALUES ('o-1', 100)")
        instance = await client.create_instance(deliver, "o-1", id="o-1", connection=db)
        await (db.commit() if commits else db.rollback())
        if commits:
            assert await instance.result(timeout=10) == "o-1 delivered"
        else:
            with pytest.raises(durable.InstanceNotFound):
                await instance.result(timeout=10)
    assert len(rows(path)) == commits


async def test_a_worker_of_this_process_starts_it_within_50_ms_of_the_commit(
    client: Client, path: Path
) -> None:
    delays = []
    async with durable.Worker(client, [deliver]), aiosqlite.connect(path) as db:
        for number in range(5):
            instance = await client.create_instance(deliver, "o", id=f"o-{number}", connection=db)
            await db.commit()
            began = time.time()
            await instance.result(timeout=10)  # without the bell, polls are 30 s apart
            closed_at = (await instance.describe()).closed_at
            assert closed_at is not None
            delays.append(closed_at.timestamp() - began)
    assert min(delays) < 0.05, delays


async def test_a_signal_arrives_if_and_only_if_it_commits(client: Client, path: Path) -> None:
    async with durable.Worker(client, [wait_for_money]), aiosqlite.connect(path) as db:
        instance = await client.create_instance(wait_for_money)
        await instance.signal(order_paid, "never", connection=db)
        await db.rollback()
        await instance.signal(order_paid, "now", connection=db)
        await db.commit()
        assert await instance.result(timeout=10) == "now"


async def test_errors_are_those_of_the_ordinary_calls(client: Client, path: Path) -> None:
    async with aiosqlite.connect(path) as db:
        await client.create_instance(deliver, "o", id="o", connection=db)
        with pytest.raises(durable.InstanceAlreadyExists):
            await client.create_instance(deliver, "o", id="o", connection=db)
        with pytest.raises(durable.InstanceNotFound):
            await client.get_instance("nobody").signal("s", connection=db)
        await db.rollback()


async def test_connections_that_will_not_do(client: Client, tmp_path: Path) -> None:
    async with aiosqlite.connect(tmp_path / "other.db") as other:
        with pytest.raises(durable.BackendError, match=r"other\.db.*shop\.db"):
            await client.create_instance(deliver, "o", connection=other)
    with pytest.raises(TypeError, match=r"not builtins\.object"):
        await client.create_instance(deliver, "o", connection=object())
    async with durable.connect("memory://") as memory:
        with pytest.raises(durable.BackendError, match="connection= is for SQL stores"):
            await memory.create_instance(deliver, "o", connection=object())


# --- durable.transaction() ----------------------------------------------------------------------------------------


async def test_result_and_rows_come_together(client: Client, path: Path) -> None:
    async with durable.Worker(client, [shop, book]):
        instance = await client.create_instance(shop, "o-1", 4_200)
        assert await instance.result(timeout=10) == "booked o-1: 4200"
    assert rows(path) == [("o-1", 4_200)]
    assert rows(path, "SELECT cents FROM account") == [(4_200,)]


tries: list[str] = []


@durable.activity(retry=QUICK)
async def book_at_the_second_try(fails: str) -> str:
    tries.append(fails)
    async with durable.transaction() as conn:
        await conn.execute("INSERT INTO bookings VALUES ('o-1', ?)", (len(tries),))
        if len(tries) == 1 and fails == "inside":
            raise OSError("inside")
    if len(tries) == 1 and fails == "after":
        raise OSError("after")
    return "done"


@durable.workflow
async def book_twice_over(fails: str) -> str:
    return await book_at_the_second_try(fails)


@pytest.mark.parametrize("fails", ["inside", "after"])
async def test_a_function_that_raises_writes_nothing_and_is_tried_again(
    client: Client, path: Path, fails: str
) -> None:
    tries.clear()
    async with durable.Worker(client, [book_twice_over, book_at_the_second_try]):
        instance = await client.create_instance(book_twice_over, fails)
        assert await instance.result(timeout=10) == "done"
    assert (tries, rows(path)) == ([fails, fails], [("o-1", 2)])


@durable.activity(retry=Retry(1))
async def dawdle() -> None:
    async with durable.transaction() as conn:
        await conn.execute("INSERT INTO bookings VALUES ('o-1', 1)")
        await asyncio.sleep(0.2)


@durable.workflow
async def dawdling() -> None:
    await dawdle()


async def test_a_transaction_that_takes_too_long_fails_its_activity(
    client: Client, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "LIMIT_SECONDS", 0.05)
    error = await cause(client, dawdling, dawdle)
    assert isinstance(error, durable.BackendError)
    assert "open for more than 0.05 s and was rolled back" in str(error)
    assert rows(path) == []


CALLS = {
    "create_instance": lambda client: client.create_instance(deliver, "o", id="inner"),
    "signal": lambda client: client.get_instance("friend").signal(order_paid, "x"),
    "cancel": lambda client: client.get_instance("friend").cancel(),
    "terminate": lambda client: client.get_instance("friend").terminate(),
    "pause": lambda client: client.get_instance("friend").pause(),
}


@durable.activity(retry=Retry(1))
async def call_the_engine(name: str) -> float:
    client = durable.activity_info().client
    async with durable.transaction() as conn:
        await conn.execute("INSERT INTO bookings VALUES ('o-1', 1)")
        began = time.monotonic()
        with pytest.raises(RuntimeError, match="pass connection=conn"):
            await CALLS[name](client)
        return time.monotonic() - began


@durable.workflow
async def calling(name: str) -> float:
    return await call_the_engine(name)


@pytest.mark.parametrize("name", CALLS)
async def test_an_engine_call_inside_that_would_wait_for_itself_is_refused_at_once(
    client: Client, path: Path, name: str
) -> None:
    async with durable.Worker(client, [calling, call_the_engine, wait_for_money]):
        await client.create_instance(wait_for_money, id="friend")
        instance = await client.create_instance(calling, name)
        assert await instance.result(timeout=20) < 1.0
    assert len(rows(path)) == 1


@durable.activity
async def start_and_signal() -> None:
    client = durable.activity_info().client
    async with durable.transaction() as conn:
        await client.create_instance(deliver, "inner", id="inner", connection=conn)
        await client.get_instance("friend").signal(order_paid, "paid", connection=conn)


@durable.workflow
async def starting() -> None:
    await start_and_signal()


async def test_with_its_connection_runs_and_signals_go_with_the_result(client: Client) -> None:
    async with durable.Worker(client, [starting, start_and_signal, wait_for_money, deliver]):
        friend = await client.create_instance(wait_for_money, id="friend")
        await (await client.create_instance(starting)).result(timeout=10)
        assert await client.get_instance("inner").result(timeout=10) == "inner delivered"
        assert await friend.result(timeout=10) == "paid"


def stolen(path: Path) -> bool:
    with by_hand(path) as db:
        return bool(db.execute("UPDATE activities SET token = 'stolen'").rowcount)


async def test_a_token_that_was_lost_writes_nothing(client: Client, path: Path) -> None:
    """Another worker was given the attempt while the function ran: only that one's rows come."""
    entered, go, refused = asyncio.Event(), asyncio.Event(), asyncio.Event()
    ran: list[int] = []

    @durable.activity(name="slow_book")
    async def slow_book() -> str:
        ran.append(me := len(ran) + 1)
        if me == 1:
            entered.set()
            await go.wait()
        try:
            async with durable.transaction() as conn:
                await conn.execute("INSERT INTO bookings VALUES ('o-1', ?)", (me,))
        except durable.BackendError:
            refused.set()
            raise
        return f"by {me}"

    @durable.workflow(name="slowly")
    async def slowly() -> str:
        return await slow_book()

    async with durable.Worker(client, [slowly, slow_book]):
        instance = await client.create_instance(slowly)
        await asyncio.wait_for(entered.wait(), 10)
        await until(lambda: stolen(path), "the row")
        go.set()
        await asyncio.wait_for(refused.wait(), 10)
        assert rows(path) == []
        with by_hand(path) as db:
            db.execute("UPDATE activities SET token = NULL, lease_until_us = NULL, claimable_at_us = 0")
        assert await instance.result(timeout=20) == f"by {ran[-1]}"
    assert rows(path) == [("o-1", ran[-1])]
    assert ran[-1] > 1


# --- kill -9 ------------------------------------------------------------------------------------------------------


def work_and_die(path: Path, statement: int) -> subprocess.CompletedProcess[str]:
    """A worker process that is killed before that statement of the transaction (0: never; it tells them all)."""
    return subprocess.run(
        [sys.executable, "-m", "tests.worker.booking", str(path), str(statement)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_rows_and_result_are_both_there_or_neither_wherever_the_process_is_killed(
    tmp_path: Path,
) -> None:
    counted = await killed_at(tmp_path / "counted.db", 0)
    statements = Steps.of(counted)
    assert len(statements) >= 8, statements
    assert any("INSERT INTO bookings" in one for one in statements)
    assert statements[-1] == "COMMIT"
    seen = [await killed_at(tmp_path / f"{number}.db", number) for number in range(1, len(statements) + 2)]
    assert seen[-1] == "after", "killed when the commit was made, before anybody was told"


async def killed_at(path: Path, statement: int) -> str:
    async with durable.connect(f"sqlite:///{path}") as client:
        open_account(path)
        await client.create_instance(shop, "o-1", 4_200, id="shop")
    ran = work_and_die(path, statement)
    if statement == 0:
        assert ran.returncode == 0, ran.stderr
        return ran.stdout
    assert ran.returncode == -signal.SIGKILL, (statement, ran.stderr)
    unfinished = rows(path, "SELECT 1 FROM activities")
    written = rows(path)
    assert bool(written) != bool(unfinished), f"killed at statement {statement}: {written}, {unfinished}"
    assert rows(path, "SELECT cents FROM account") == [(4_200 if written else 0,)]
    an_hour_later = lambda: time.time_ns() // 1_000 + 3_600_000_000  # noqa: E731
    async with (
        durable.connect(f"sqlite:///{path}", clock=an_hour_later) as client,
        durable.Worker(client, [shop, book]),
    ):
        assert await client.get_instance("shop").result(timeout=20) == "booked o-1: 4200"
    assert rows(path) == [("o-1", 4_200)]
    assert rows(path, "SELECT cents FROM account") == [(4_200,)]
    return "after" if written else "before"


def test_the_worker_that_is_killed_is_the_one_that_is_tested() -> None:
    assert booking.definitions() == [shop, book]
