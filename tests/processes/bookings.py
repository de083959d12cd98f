"""Money that is booked in ``durable.transaction()``, by activities whose process kills itself at chosen points."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import durable
from tests.processes import tally

POINTS = ("before", "opened", "inserted", "updated", "closed", *(f"statement{n}" for n in (1, 2, 3, 4, 6, 8)))
"""Where a booking's process may die: between the activity's own statements, and after the n-th statement that the
process, on whatever connection, has made since the activity began: the engine's are among them.
"""
TABLES = (
    "CREATE TABLE bookings (id VARCHAR(100) NOT NULL, cents INTEGER NOT NULL)",
    "CREATE TABLE account (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL)",
    "CREATE TABLE orders (id VARCHAR(100) PRIMARY KEY, paid INTEGER NOT NULL)",
    "INSERT INTO account VALUES (1, 0)",
)

paid: durable.Signal[int] = durable.Signal("paid", int)


async def execute(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    """A statement on any store's connection; gives its rows."""
    if hasattr(connection, "fetch"):  # asyncpg
        return [tuple(row) for row in await connection.fetch(statement)]
    async with connection.cursor() as cursor:  # aiomysql, aiosqlite
        await cursor.execute(statement)
        return [tuple(row) for row in await cursor.fetchall()]


@asynccontextmanager
async def books(url: str) -> AsyncIterator[Any]:
    """A connection of the caller's own, outside any transaction."""
    connection = await _connect(url)
    try:
        yield connection
    finally:
        await (connection.ensure_closed() if hasattr(connection, "ensure_closed") else connection.close())


async def open_books(connection: Any) -> None:
    """Make the tables."""
    for statement in TABLES:
        await execute(connection, statement)


async def _connect(url: str) -> Any:
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        import aiosqlite

        return await aiosqlite.connect(parts.path.removeprefix("/"), isolation_level=None)
    if parts.scheme == "postgresql":
        import asyncpg

        return await asyncpg.connect(url)
    import aiomysql

    return await aiomysql.connect(
        host=parts.hostname,
        port=parts.port,
        user=parts.username,
        password=parts.password,
        db=parts.path.removeprefix("/"),
        autocommit=True,
    )


def die_once(name: str, point: str) -> None:
    """Kill this process at this point, unless one was already killed there for this name."""
    mark = Path(os.environ[tally.VARIABLE]).with_name(f"died-{name}-{point}")
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class Countdown:
    """Kills the process after so many more statements. The drivers are told to report each."""

    def __init__(self) -> None:
        self._order = ""
        self._left = 0

    def install(self) -> None:
        """To be called before the first connection."""
        import aiomysql
        import asyncpg

        connect, query = asyncpg.connect, aiomysql.Connection.query

        async def connect_and_report(*args: Any, **kwargs: Any) -> Any:
            connection = await connect(*args, **kwargs)
            connection.add_query_logger(lambda _: self.step())
            return connection

        async def query_and_report(*args: Any, **kwargs: Any) -> Any:
            found = await query(*args, **kwargs)
            self.step()
            return found

        asyncpg.connect = connect_and_report
        aiomysql.Connection.query = query_and_report

    def arm(self, order: str, statements: int) -> None:
        self._order, self._left = order, statements

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            die_once(self._order, "statement")


countdown = Countdown()


def died(folder: Path) -> list[str]:
    """The marks of those that died."""
    return [mark.name for mark in folder.glob("died-*")]


@durable.activity
async def book(order: str, cents: int, deadly: str) -> str:
    """Book it; the process dies once at the point that is named."""

    def point(name: str) -> None:
        if name == deadly:
            die_once(order, name)

    if deadly.startswith("statement"):
        countdown.arm(order, int(deadly.removeprefix("statement")))
    point("before")
    async with durable.transaction() as connection:
        point("opened")
        await execute(connection, f"INSERT INTO bookings VALUES ('{order}', {cents})")
        point("inserted")
        await execute(connection, f"UPDATE account SET cents = cents + {cents} WHERE id = 1")
        point("updated")
    point("closed")
    return order


@durable.workflow
async def handle(order: str, cents: int, deadly: str) -> str:
    """Book an order's money."""
    return await book(order, cents, deadly)


@durable.workflow
async def wait_for_money(order: str) -> int:
    """Give back what was paid."""
    return await paid.receive()
