"""The same few calls on a connection of any of the three drivers. A program of yours would know just one of them."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote, urlsplit

import aiosqlite


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A connection of the shop's own to the database that the URL names."""
    parts = urlsplit(url)
    connection: Any
    if parts.scheme == "sqlite":
        async with aiosqlite.connect(parts.path.removeprefix("/"), isolation_level=None) as connection:
            yield connection
    elif parts.scheme.startswith("postgres"):
        import asyncpg

        connection = await asyncpg.connect(url)
        try:
            yield connection
        finally:
            await connection.close()
    else:
        import aiomysql

        connection = await aiomysql.connect(
            host=parts.hostname or "localhost",
            port=parts.port or 3306,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            db=parts.path.removeprefix("/"),
        )
        try:
            yield connection
        finally:
            await connection.ensure_closed()


async def execute(connection: Any, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """A statement with ``?`` for its values; gives its rows."""
    if hasattr(connection, "fetch"):  # asyncpg
        numbers = itertools.count(1)
        numbered = re.sub(r"\?", lambda _: f"${next(numbers)}", statement)
        return [tuple(row) for row in await connection.fetch(numbered, *values)]
    if not isinstance(connection, aiosqlite.Connection):  # aiomysql
        statement = statement.replace("?", "%s")
    async with connection.cursor() as cursor:
        await cursor.execute(statement, values)
        return [tuple(row) for row in await cursor.fetchall()]


@contextlib.asynccontextmanager
async def transaction(connection: Any) -> AsyncIterator[None]:
    """Begin; commit at the end, or roll back when the block raises."""
    await execute(connection, "BEGIN")
    try:
        yield
    except BaseException:
        await execute(connection, "ROLLBACK")
        raise
    await execute(connection, "COMMIT")
